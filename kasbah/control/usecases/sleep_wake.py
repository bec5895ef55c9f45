"""Tells a service, once and now, to sleep or to wake. Each order has a number of its own, so sites obey it once."""

from __future__ import annotations

from dataclasses import replace

from kasbah.control.store.records import ServiceRecord
from kasbah.control.usecases.work import Work, save_service, service_named
from kasbah.domain.service import Command, Order
from kasbah.errors import Conflict

RUNGS = {"frozen": Command.SLEEP, "stopped": Command.STOP}


def sleep(work: Work, project: str, name: str, rung: str) -> ServiceRecord:
    """Put the service to sleep on `rung`: `frozen` or `stopped`."""
    return _order(work, project, name, RUNGS[rung])


def wake(work: Work, project: str, name: str) -> ServiceRecord:
    """Wake the service."""
    return _order(work, project, name, Command.WAKE)


def _order(work: Work, project: str, name: str, command: Command) -> ServiceRecord:
    service = service_named(work, project, name)
    if not service.shares:
        raise Conflict(
            f"service {name!r} serves nothing yet",
            hint=f"deploy it first, or see why it does not start: kasbah describe {name}",
            code="not_serving",
        )
    work.journal.detail(service=service.id, order=command.value)
    number = service.order.number + 1 if service.order else 1
    return save_service(work, replace(service, order=Order(number=number, command=command)))

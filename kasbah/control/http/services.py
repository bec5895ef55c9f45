"""Services: list, look, plan, deploy, scale, sleep, wake, delete; and their doors at sites."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from fastapi.responses import Response
from pydantic import BaseModel

from kasbah.api import public
from kasbah.api.where import WhereAnswer
from kasbah.control import plan_views, project_views, views, where_views
from kasbah.control.http import paging
from kasbah.control.http.call import Call, may, render, some_project, the_service
from kasbah.control.http.routers import for_people
from kasbah.control.http.waiting import After, Wait, until
from kasbah.control.store.records import ServiceRecord
from kasbah.control.usecases.change_env import change_env, current_env
from kasbah.control.usecases.delete import delete
from kasbah.control.usecases.deploy import Deployed, deploy, sent_again, uploads_for
from kasbah.control.usecases.describe import Detail, describe_service, list_services, see
from kasbah.control.usecases.explain import explain
from kasbah.control.usecases.permit import permit_deploy
from kasbah.control.usecases.plan import plan
from kasbah.control.usecases.read_logs import read_logs
from kasbah.control.usecases.rollback import rollback
from kasbah.control.usecases.run_command import run_command
from kasbah.control.usecases.scale import scale
from kasbah.control.usecases.send_source import send_source
from kasbah.control.usecases.sleep_wake import sleep, wake
from kasbah.control.usecases.traffic import set_traffic
from kasbah.control.usecases.where import where
from kasbah.control.usecases.work import DEFAULT_PROJECT, Work, project_named, service_named, service_topic, token_topic
from kasbah.domain.access import Action
from kasbah.domain.ids import RevisionId, RolloutId, ServiceId

router = for_people("/services", "services")

Project = Annotated[str, Query(max_length=40, description="The project the service belongs to.")]


@router.get("", response_model=public.Page[public.ServiceView])
def list_all(
    call: Annotated[Call, may(Action.SERVICE_READ, some_project)],
    project: Annotated[str | None, Query(max_length=40, description="Of this project only.")] = None,
    cursor: paging.After = None,
    limit: paging.Limit = 50,
) -> Response:
    """One page of services, by name."""

    def find(work: Work) -> BaseModel:
        seen = list_services(work, call.caller, project, paging.read_cursor(cursor), limit + 1)
        by_id = {sight.service.id: sight for sight in seen}
        page, following = paging.cut([sight.service for sight in seen], limit)
        items = [views.service(by_id[one.id]) for one in page]
        return public.Page[public.ServiceView](items=items, next=following)

    return call.read(find)


@router.get("/{name}", response_model=public.ServiceDetail)
async def describe(
    name: str,
    call: Annotated[Call, may(Action.SERVICE_READ, the_service)],
    project: Project = DEFAULT_PROJECT,
    after: After = None,
    wait: Wait = 0,
) -> Response:
    """Everything about a service. With `after` and `wait`: once its version is another, or when the wait is over."""

    def look() -> Detail:
        with call.looking() as work:
            return describe_service(work, call.caller, project, name)

    def is_new(found: Detail) -> bool:
        return found.sight.service.version != after

    if wait == 0 or after is None:
        return render(views.detail(look()))
    first = look()
    if is_new(first):
        return render(views.detail(first))
    topics = (service_topic(first.sight.service.id), token_topic(call.caller.id))
    return render(views.detail(await until(call.office.changes, topics, look, is_new, wait)))


@router.post("/{name}/plan", response_model=public.PlanAnswer)
def make_plan(
    name: str,
    body: public.DeployRequest,
    call: Annotated[Call, may(Action.SERVICE_PLAN, the_service)],
    project: Project = DEFAULT_PROJECT,
) -> Response:
    """What a deploy would do. Changes nothing."""

    def look(work: Work) -> BaseModel:
        permit_deploy(work, call.caller, call.asked.action, project, body)
        sites = {site.id: site.name for site in work.tx.sites.all()}
        made = plan(work, project, name, body)
        refused = project_views.refusals(project_named(work.tx, project), made.refused)
        return plan_views.plan(made, sites, refused)

    return call.read(look)


@router.get("/{name}/explain", response_model=public.ExplainAnswer)
def explain_service(
    name: str, call: Annotated[Call, may(Action.SERVICE_READ, the_service)], project: Project = DEFAULT_PROJECT
) -> Response:
    """Why a service is where it is: every site, chosen, possible or refused, by which rules, and what would open it."""
    return call.read(lambda work: plan_views.explained(explain(work, project, name)))


@router.get("/{name}/where", response_model=WhereAnswer)
def where_is_service(
    name: str, call: Annotated[Call, may(Action.SERVICE_READ, the_service)], project: Project = DEFAULT_PROJECT
) -> Response:
    """Where a service is: what of it, who controls each place, which laws reach it, how it is secured."""
    return call.read(lambda work: where_views.where(where(work, project, name)))


@router.post(
    "/{name}/deploys",
    status_code=202,
    response_model=public.DeployAnswer | public.PlanAnswer,
    response_description="The rollout to watch and the door for the source; with `dry_run`, the plan.",
)
def start_deploy(
    name: str,
    body: public.DeployRequest,
    call: Annotated[Call, may(Action.SERVICE_DEPLOY, the_service)],
    project: Project = DEFAULT_PROJECT,
    dry_run: Annotated[bool, Query(description="Only say what would be done.")] = False,
) -> Response:
    """Deploy a service: write the revision and start its rollout."""
    if dry_run:
        return make_plan(name, body, call, project)

    def act(work: Work) -> BaseModel:
        permit_deploy(work, call.caller, call.asked.action, project, body)
        return _deployed(work, deploy(work, project, name, body))

    return call.write(act, status=202, keep=_without_ticket, again=_with_ticket)


def _deployed(work: Work, made: Deployed) -> public.DeployAnswer:
    return public.DeployAnswer(
        service=_view(work, made.service),
        revision=made.revision,
        created=made.created,
        rollout=views.rollout(made.rollout, made.service) if made.rollout else None,
        uploads=list(made.uploads),
    )


def _without_ticket(answer: BaseModel) -> BaseModel:
    """A ticket is a secret, and short-lived: a repeated request gets a fresh one."""
    return answer.model_copy(update={"uploads": []})


def _with_ticket(work: Work, kept: str) -> BaseModel:
    answer = public.DeployAnswer.model_validate_json(kept)
    if answer.rollout is not None:
        rollout = work.tx.rollouts.get(RolloutId(answer.rollout.id))
        doors = () if rollout is None else uploads_for(work, rollout)
    else:
        service = work.tx.services.get(ServiceId(answer.service.id))
        doors = () if service is None else sent_again(work, service, RevisionId(answer.revision))
    return answer.model_copy(update={"uploads": list(doors)})


@router.post("/{name}/scale", response_model=public.ServiceView)
def change_scale(
    name: str,
    body: public.ScaleRequest,
    call: Annotated[Call, may(Action.SERVICE_SCALE, the_service)],
    project: Project = DEFAULT_PROJECT,
) -> Response:
    """Change how many replicas a service may have."""
    return call.write(lambda work: _view(work, scale(work, project, name, body)))


@router.get("/{name}/env", response_model=public.EnvView)
def show_env(
    name: str, call: Annotated[Call, may(Action.SERVICE_ENV, the_service)], project: Project = DEFAULT_PROJECT
) -> Response:
    """The revision that a change of the environment starts from, as its deployer signs it."""
    return call.read(lambda work: views.env(current_env(work, project, name)))


@router.post("/{name}/env", status_code=202, response_model=public.RolloutView | None)
def set_env(
    name: str,
    body: public.EnvRequest,
    call: Annotated[Call, may(Action.SERVICE_ENV, the_service)],
    project: Project = DEFAULT_PROJECT,
) -> Response:
    """Change a service's environment, with the newest values of its secrets; the rollout to watch, or nothing."""

    def act(work: Work) -> BaseModel | None:
        begun = change_env(work, project, name, body)
        return views.rollout(begun, service_named(work, project, name)) if begun is not None else None

    return call.write(act, status=202)


@router.post("/{name}/traffic", response_model=public.ServiceView)
def divide_traffic(
    name: str,
    body: public.TrafficRequest,
    call: Annotated[Call, may(Action.SERVICE_TRAFFIC, the_service)],
    project: Project = DEFAULT_PROJECT,
) -> Response:
    """Divide a service's traffic between its revisions. A rollout under way ends."""
    return call.write(lambda work: _view(work, set_traffic(work, project, name, body)))


@router.post("/{name}/rollback", status_code=202, response_model=public.RolloutView)
def roll_back(
    name: str,
    call: Annotated[Call, may(Action.SERVICE_ROLLBACK, the_service)],
    body: public.RollbackRequest | None = None,
    project: Project = DEFAULT_PROJECT,
) -> Response:
    """Return a service to a revision that served before; the rollout to watch."""
    asked = body or public.RollbackRequest()

    def act(work: Work) -> BaseModel:
        begun = rollback(work, project, name, to=asked.to, expected_version=asked.expected_version)
        return views.rollout(begun, service_named(work, project, name))

    return call.write(act, status=202)


@router.get("/{name}/rollouts", response_model=public.Page[public.RolloutView])
def list_rollouts(
    name: str, call: Annotated[Call, may(Action.SERVICE_READ, the_service)], project: Project = DEFAULT_PROJECT
) -> Response:
    """The rollouts that are kept, the newest first. There are few: always one page."""

    def find(work: Work) -> BaseModel:
        service = service_named(work, project, name)
        items = [views.rollout(one, service) for one in work.tx.rollouts.of(service.id)]
        return public.Page[public.RolloutView](items=items)

    return call.read(find)


@router.post("/{name}/sleep", response_model=public.ServiceView)
def put_to_sleep(
    name: str,
    call: Annotated[Call, may(Action.SERVICE_SLEEP, the_service)],
    body: public.SleepRequest | None = None,
    project: Project = DEFAULT_PROJECT,
) -> Response:
    """Put a service to sleep now."""
    rung = (body or public.SleepRequest()).rung
    return call.write(lambda work: _view(work, sleep(work, project, name, rung)))


@router.post("/{name}/wake", response_model=public.ServiceView)
def wake_up(
    name: str, call: Annotated[Call, may(Action.SERVICE_SLEEP, the_service)], project: Project = DEFAULT_PROJECT
) -> Response:
    """Wake a service now."""
    return call.write(lambda work: _view(work, wake(work, project, name)))


@router.delete("/{name}", status_code=204)
def remove(
    name: str,
    call: Annotated[Call, may(Action.SERVICE_DELETE, the_service)],
    project: Project = DEFAULT_PROJECT,
    expected_version: Annotated[int | None, Query(description="Only if it is still at this version.")] = None,
) -> Response:
    """Delete a service. Its name is free at once."""
    return call.write(lambda work: delete(work, project, name, expected_version), status=204)


@router.get("/{name}/revisions", response_model=public.Page[public.RevisionView])
def list_revisions(
    name: str, call: Annotated[Call, may(Action.SERVICE_READ, the_service)], project: Project = DEFAULT_PROJECT
) -> Response:
    """The revisions that are kept, the newest first. There are few: always one page."""

    def find(work: Work) -> BaseModel:
        found = views.detail(describe_service(work, call.caller, project, name))
        return public.Page[public.RevisionView](items=found.revisions)

    return call.read(find)


@router.post("/{name}/log-door", response_model=public.Door, tags=["doors"])
def open_log_door(
    name: str, call: Annotated[Call, may(Action.SERVICE_LOGS, the_service)], project: Project = DEFAULT_PROJECT
) -> Response:
    """Where a service's logs are read, and the ticket for it."""
    return call.open(lambda work: read_logs(work, call.caller, project, name))


@router.post("/{name}/exec-door", response_model=public.Door, tags=["doors"])
def open_exec_door(
    name: str,
    body: public.ExecRequest,
    call: Annotated[Call, may(Action.SERVICE_EXEC, the_service)],
    project: Project = DEFAULT_PROJECT,
) -> Response:
    """Where a command is run inside a service's replica, and the ticket for it."""
    return call.open(lambda work: run_command(work, call.caller, project, name, program=body.program))


@router.post("/{name}/upload-doors", response_model=public.UploadDoors, tags=["doors"])
def open_upload_doors(
    name: str,
    body: public.UploadRequest,
    call: Annotated[Call, may(Action.SERVICE_DEPLOY, the_service)],
    project: Project = DEFAULT_PROJECT,
) -> Response:
    """Where a source is sent, and the tickets for it."""

    def open_them(work: Work) -> BaseModel:
        return public.UploadDoors(doors=list(send_source(work, project, name, body.digest, body.size)))

    return call.open(open_them)


def _view(work: Work, service: ServiceRecord) -> public.ServiceView:
    (sight,) = see(work, (service,))
    return views.service(sight)

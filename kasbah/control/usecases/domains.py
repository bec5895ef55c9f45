"""May a service have these domains? Each belongs to one service of the whole installation, whoever asks first.

Who else has a domain is told within a project only: of another project's, a caller learns that it is taken.
"""

from __future__ import annotations

import re

from kasbah.control.usecases.publish import is_below
from kasbah.control.usecases.work import Work
from kasbah.domain.ids import ALPHABET, ProjectId
from kasbah.errors import Conflict, Invalid

WHERE = "config.domains"
REVISION_HOST = re.compile(rf"rv-[{ALPHABET}]{{16}}\..+")
"""Revisions answer at hosts of this form, below every host of their service."""


def check_domains(work: Work, project: ProjectId, name: str, domains: tuple[str, ...]) -> None:
    """Raises Invalid or Conflict where the service `name` may not have one of these."""
    for domain in domains:
        _check_form(domain, work.rules.base_domain)
    for other in work.tx.services.all() if domains else ():
        taken = sorted(set(domains) & set(other.domains))
        if taken and (other.project, other.name) != (project, name):
            by = f" by the service {other.name}" if other.project == project else ""
            raise Conflict(
                f"the domain {taken[0]} is taken{by}",
                where=WHERE,
                code="domain_taken",
                hint="a domain belongs to one service: leave it out, or take it from the other first",
            )


def _check_form(domain: str, base_domain: str) -> None:
    if is_below(domain, base_domain):
        raise Invalid(
            f"{domain} is below {base_domain}, where services have their hosts by their names",
            where=WHERE,
            code="domain_below_base",
            hint="leave it out: name the service so, or choose a domain of your own",
        )
    if REVISION_HOST.fullmatch(domain):
        raise Invalid(
            f"{domain} begins as the host of a revision does",
            where=WHERE,
            code="domain_reserved",
            hint="choose another domain",
        )

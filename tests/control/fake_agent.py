"""An agent that does nothing but speak its protocol: what it says it saw, it was told to say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx

from kasbah.api.agent import (
    DESIRED_STATE,
    IDENTITY,
    PROTOCOL_HEADER,
    SIGNATURE_HEADER,
    SITE_STATUS,
    STATUS_HEADER,
    USAGE_BATCH,
    Identity,
)
from kasbah.api.signing import DESIRED, parse_public, verify
from kasbah.clock import Clock
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import ReplicaId, RevisionId, ServiceId
from kasbah.domain.observed import (
    BuildState,
    RevisionStatus,
    ServiceStatus,
    SiteStatus,
    TrialState,
    UsageBatch,
)
from kasbah.domain.replica import Replica, ReplicaState
from kasbah.domain.service import Service, ServiceState
from kasbah.domain.site import ENFORCED, Isolation

GATEWAY = "127.0.0.1:8080"


@dataclass(kw_only=True)
class FakeAgent:
    client: httpx.AsyncClient
    clock: Clock
    token: str
    runtimes: tuple[str, ...] = ("python", "command")
    keeps: str = ENFORCED
    """What it says that it can keep replicas from calling."""
    applied: tuple[int, int] = (0, 0)
    statuses: dict[ServiceId, ServiceStatus] = field(default_factory=dict)
    identity: Identity | None = None
    more: dict[str, Any] = field(default_factory=dict)
    """What else it says of its site."""

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}", PROTOCOL_HEADER: "1"}

    async def introduce(self) -> Identity:
        answer = await self.client.get("/agent/v1/identity", headers=self.headers)
        self.identity = IDENTITY.validate_json(answer.content)
        return self.identity

    async def desired(self, *, known: tuple[int, int] = (0, 0), wait: float = 0) -> DesiredState | None:
        """The desired state, its signature checked; None where there is no newer one."""
        identity = self.identity or await self.introduce()
        answer = await self.client.get(
            "/agent/v1/desired",
            params={"epoch": known[0], "generation": known[1], "wait": wait},
            headers=self.headers,
        )
        if answer.status_code == 204:
            return None
        assert answer.status_code == 200, answer.text
        key = parse_public(identity.public_key)
        assert verify(key, DESIRED, answer.content, answer.headers[SIGNATURE_HEADER])
        found = DESIRED_STATE.validate_json(answer.content)
        assert DESIRED_STATE.dump_json(found) == answer.content, "it is written as anybody would write it"
        return found

    async def service(self, name: str) -> Service:
        """A service as it is desired, once it is; the agent acts on that from now on."""
        known = (0, 0)
        while (desired := await self.desired(known=known, wait=10)) is not None:
            self.applied = known = desired.version
            if found := [one for one in desired.services if one.name == name]:
                return found[0]
        raise AssertionError(f"the site is never told of {name}")

    async def report(self, *, mark: str = "") -> httpx.Response:
        """Tell what it says it saw."""
        identity = self.identity or await self.introduce()
        status = SiteStatus(
            site=identity.site,
            observed_at=self.clock.now(),
            applied=self.applied,
            gateway_address=GATEWAY,
            isolation=Isolation(mechanisms=("landlock",), missing=(("cgroups", "no root"),), egress=self.keeps),
            cpus=4.0,
            memory=8 * 2**30,
            runtimes=self.runtimes,
            services=tuple(self.statuses.values()),
            **self.more,
        )
        headers = {**self.headers, STATUS_HEADER: mark}
        return await self.client.post("/agent/v1/status", content=SITE_STATUS.dump_json(status), headers=headers)

    async def confirm(self, mark: str) -> int:
        """Tell that what it told under this mark is still true; the answer's status."""
        headers = {**self.headers, STATUS_HEADER: mark}
        return (await self.client.post("/agent/v1/still", headers=headers)).status_code

    async def send_usage(self, batch: UsageBatch) -> httpx.Response:
        return await self.client.post("/agent/v1/usage", content=USAGE_BATCH.dump_json(batch), headers=self.headers)

    async def say(
        self,
        service: Service,
        build: BuildState,
        trial: TrialState = TrialState.UNTRIED,
        *,
        state: ServiceState = ServiceState.STARTING,
        **more: object,
    ) -> None:
        """Report how far the revision under trial has come."""
        assert service.trial is not None
        revision = RevisionStatus(
            revision=service.trial.revision,
            rollout=service.trial.rollout,
            build=build,
            trial=trial,
            ready=int(trial is TrialState.PROVEN),
            **more,  # type: ignore[arg-type]
        )
        self.statuses[service.id] = ServiceStatus(service=service.id, state=state, revisions=(revision,))
        assert (await self.report()).status_code == 204

    async def prove(self, name: str) -> RevisionId:
        """Build and prove what is under trial, and act on the traffic that moves."""
        service = await self.service(name)
        await self.say(service, BuildState.BUILT, TrialState.PROVEN, state=ServiceState.RUNNING)
        self.applied = (await self.moved(name)).version
        await self.report()
        assert service.trial is not None
        return service.trial.revision

    async def serves(
        self, name: str, revision: RevisionId, *, ready: int = 1, trouble: str = "", serving: int = 0
    ) -> None:
        """Report that a revision is proven, with so many replicas ready, and act on the newest desired state. So many
        replicas of the other are awake beside it."""
        desired = await self.desired()
        assert desired is not None
        self.applied = desired.version
        service = next(one for one in desired.services if one.name == name)
        old = next((share.revision for share in service.shares if share.revision != revision), revision)
        awake = tuple(
            Replica(
                id=ReplicaId(f"rp-{number}"),
                service=service.id,
                revision=old,
                state=ReplicaState.READY,
                address="127.0.0.1:9",
                since=self.clock.now(),
            )
            for number in range(serving)
        )
        status = RevisionStatus(
            revision=revision,
            rollout=service.trial.rollout if service.trial else None,
            build=BuildState.BUILT,
            trial=TrialState.PROVEN,
            ready=ready,
            trouble=trouble,
        )
        self.statuses[service.id] = ServiceStatus(
            service=service.id, state=ServiceState.RUNNING, revisions=(status,), replicas=awake
        )
        assert (await self.report()).status_code == 204

    async def moved(self, name: str) -> DesiredState:
        """The desired state in which the service's trial is over."""
        known = (0, 0)
        while (desired := await self.desired(known=known, wait=10)) is not None:
            if all(one.trial is None for one in desired.services if one.name == name):
                return desired
            known = desired.version
        raise AssertionError(f"the trial of {name} never ends")

"""A captured control plane writes names that would be something else at the site: a line of the gateway's script, a
path, another revision's id. Such a desired state is not taken, and what was told before goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_captured_control import IDENTITY, PUBLIC, charter, law
from test_captured_deploys import CLAIMS, CODE, PROJECT, Deploys, named, signed

from kasbah.agent.gateway import protos, translate
from kasbah.agent.runner.operations import _below
from kasbah.decide.sound import unsound
from kasbah.domain.attestation import RevisionAttested
from kasbah.domain.crossing import Forwarded, Lane
from kasbah.domain.gateway import Credential
from kasbah.domain.ids import Digest, KeyId, ProjectId, RevisionId, SecretId, ServiceId, SiteId
from kasbah.domain.label import Level
from kasbah.domain.revision import Revision, Volume
from kasbah.domain.secret import Delivery, SecretUse
from kasbah.domain.service import Access, Key, Service
from kasbah.errors import Invalid

SCRIPT = "ky-a,,,\n]==]\nos.execute('id')\nlocal _ = [==["
ANOTHER_KEY = "ky-a,,,\n" + "e" * 64 + "=ky-evil,pr-1,,\n"
PLAIN_KEY = Key(id=KeyId("ky-a"), project=PROJECT, sha256="f" * 64)
NEW = replace(CLAIMS, id=ServiceId("sv-new"), name="new", hosts=("new.x",), label=PUBLIC)


@pytest.fixture
def site(tmp_path: Path) -> Deploys:
    made = Deploys(tmp_path / "ledger")
    made.word.take_law(IDENTITY, law(1))
    assert made.serve(CODE, attested=signed()) == ["claims"]
    return made


def tell(site: Deploys, *services: Service, **more: object) -> list[str]:
    claims = replace(CLAIMS, revisions=(CODE,))
    ours = (RevisionAttested(service=CLAIMS.id, revision=CODE.id, attested=signed()),)
    return site.tell(
        CLAIMS.label,
        services=(claims, *services),
        charters=(charter("FR", version=2),),
        deployers=(named(),),
        attestations=ours,
        **more,
    )


def running(**more: object) -> Service:
    return replace(NEW, revisions=(replace(CODE, id=RevisionId("rv-new"), **more),))  # type: ignore[arg-type]


def with_secret(variable: str, secret: str = "sc-1") -> Service:
    use = SecretUse(variable=variable, secret=SecretId(secret), version=1, delivery=Delivery.FILE)
    return running(secrets=(use,))


def with_volume(path: str, name: str = "v") -> Service:
    return running(volumes=(Volume(name=name, path=path, size=1),))


@pytest.mark.parametrize("id", [SCRIPT, ANOTHER_KEY, "", "ky a", "ky,a"])
@pytest.mark.parametrize("field", ["id", "project", "sha256"])
def test_a_key_is_no_line_of_a_script(site: Deploys, field: str, id: str) -> None:
    assert tell(site, keys=(PLAIN_KEY,)) == ["claims"]
    with pytest.raises(Invalid, match="cannot be taken"):
        tell(site, keys=(replace(PLAIN_KEY, **{field: id}),))
    assert site.runs() == ["claims"]
    site.start()
    assert site.runs() == ["claims"], "nor kept"


NAMES = [
    with_secret("/etc/cron.d/x"),
    with_secret("../x"),
    with_secret("A=B"),
    with_secret("KEY", "../../owner"),
    with_volume("../../victim"),
    with_volume("/etc"),
    with_volume("data/../../victim"),
    with_volume("."),
    with_volume("data", "../sv-other/data"),
    running(source=Digest("sha256:../../x")),
    running(calls=("a b",)),
    replace(NEW, id=ServiceId("../sv-claims")),
    replace(NEW, project=ProjectId("pr-1\n")),
    replace(NEW, lane="%FILE_CONTENT(/etc/passwd)%"),
    replace(NEW, revisions=(replace(CODE, id=RevisionId("rv-1/..")),)),
]


@pytest.mark.parametrize("service", NAMES)
def test_what_becomes_a_path_or_a_name_is_one(site: Deploys, service: Service) -> None:
    with pytest.raises(Invalid, match="cannot be taken"):
        tell(site, service)
    assert site.runs() == ["claims"]


def test_what_is_not_here_is_looked_at_too(site: Deploys) -> None:
    lane = Lane(id="dc-1", label=PUBLIC)
    away = Forwarded(id=ServiceId("sv/x"), project=PROJECT, name="x", hosts=("x.x",), lane="dc-1",
                     access=Access.KEY, revisions=())  # fmt: skip
    for more in (
        {"lanes": (lane,), "forwarded": (away,)},
        {"lanes": (lane,), "forwarded": (replace(away, id=ServiceId("sv-x"), revisions=(RevisionId("rv/1"),)),)},
        {"lanes": (replace(lane, id="dc 1"),)},
        {"lanes": (replace(lane, to=(SiteId("st-a\n"),)),)},
    ):
        with pytest.raises(Invalid, match="cannot be taken"):
            tell(site, **more)


def test_an_id_stands_for_one_revision_and_one_service(site: Deploys) -> None:
    other = replace(CODE, command=("keep what callers send",))
    with pytest.raises(Invalid, match="stands for two revisions"):
        tell(site, replace(NEW, revisions=(other,)))
    with pytest.raises(Invalid, match="twice"):
        tell(site, replace(CLAIMS, name="again"))


def plain() -> Iterator[Revision]:
    yield replace(CODE, volumes=(Volume(name="data", path="var/up-loads.d", size=1),))
    yield replace(CODE, secrets=(SecretUse(variable="API_KEY", secret=SecretId("sc-0a"), version=1),))


@pytest.mark.parametrize("revision", plain())
def test_what_is_written_plainly_is_taken(site: Deploys, revision: Revision) -> None:
    assert site.serve(replace(revision, id=RevisionId("rv-2")), service=NEW) == ["new"]
    assert site.ledger.told is not None
    assert unsound(site.ledger.told) is None


def test_the_script_has_no_other_lines_whoever_made_the_keys(tmp_path: Path) -> None:
    protos.load(tmp_path)
    good = Credential(key=KeyId("ky-good"), project=PROJECT, sha256="a" * 64, ceiling=Level.SENSITIVE)
    bad = [replace(good, key=KeyId(SCRIPT)), replace(good, key=KeyId(ANOTHER_KEY)), replace(good, sha256="x\n")]
    made = translate._keys((good, *bad)).body
    assert b"a" * 64 + b"=ky-good,pr-1,3,\n" in made
    assert b"os.execute('id')" not in made
    assert b"ky-evil" not in made


@pytest.mark.parametrize("path", ["/etc/cron.d/x", "../x", "a/../../x", "", ".", "a/./b"])
def test_the_runner_writes_below_the_replica_s_own_folder_alone(path: str) -> None:
    with pytest.raises(ValueError, match="is not in the replica's own folder"):
        _below(path)

"""A gateway's description in, Envoy's configuration out; Envoy itself finds every one of them sound."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from certificate_files import Authority
from golden_files import Golden
from google.protobuf import json_format
from xds_cases import CASES, CROSSES, FIRST, HOLDS_TUNNELS, SPEAKS_TLS, cluster, host, site

from kasbah.agent.gateway import names, protos, translate
from kasbah.agent.gateway.bootstrap import bootstrap
from kasbah.agent.gateway.translate import Kind, Resource
from kasbah.agent.gateway.wiring import Wiring
from kasbah.domain.gateway import Gateway

GOLDEN = "xds"
RUN, LOGS = "/run/kasbah", "/var/log/kasbah"
WIRING = Wiring(
    xds_socket=f"{RUN}/xds.sock",
    gate_socket=f"{RUN}/gate.sock",
    cold_socket=f"{RUN}/cold.sock",
    patient_socket=f"{RUN}/patient.sock",
    here_socket=f"{RUN}/here.sock",
    sources_socket=f"{RUN}/sources.sock",
    handing_socket=f"{RUN}/handing.sock",
    hops=RUN,
    takes_tunnels=True,
    holds_tunnels=True,
    door_socket=f"{RUN}/door.sock",
    admin_socket=f"{RUN}/admin.sock",
    access_log=f"{LOGS}/access.log",
    cold_log=f"{LOGS}/cold.log",
)
SAME_IN_ALL = (
    "listeners.json",
    "tls-listener.json",
    "crosses.json",
    "trust.json",
    "holds-tunnels.json",
    "bootstrap.json",
)
OTHERS = {"speaks-tls": SPEAKS_TLS, "crosses": CROSSES, "holds-tunnels": HOLDS_TUNNELS}


@pytest.fixture(scope="module", autouse=True)
def _messages(tmp_path_factory: pytest.TempPathFactory) -> None:
    protos.load(tmp_path_factory.mktemp("protos"))


@pytest.mark.parametrize("name", CASES)
def test_translation(golden: Golden, name: str) -> None:
    whole = written(CASES[name])
    del whole[Kind.LISTENER]
    golden.check(f"{name}.json", text_of(whole))


def test_listeners(golden: Golden) -> None:
    golden.check("listeners.json", text_of(written(CASES["empty"])[Kind.LISTENER]))


def test_tls_listener(golden: Golden) -> None:
    """One chain a host; the others are as they were."""
    found = written(SPEAKS_TLS)[Kind.LISTENER]
    golden.check("tls-listener.json", text_of(found.pop(names.TLS_LISTENER)))
    assert found == written(CASES["empty"])[Kind.LISTENER]


def test_crossing(golden: Golden) -> None:
    """A listener for other sites, with routes of its own, and the ways to them; callers' listeners are as they were."""
    found = written(CROSSES)
    callers = {name: found[Kind.LISTENER].pop(name) for name in written(CASES["empty"])[Kind.LISTENER]}
    assert callers == written(CASES["empty"])[Kind.LISTENER]
    del found[Kind.ENDPOINTS], found[Kind.FILTER]
    golden.check("crosses.json", text_of(found))


def test_tunnels(golden: Golden) -> None:
    """A site that nobody can dial listens where it has dialled."""
    found = written(HOLDS_TUNNELS)
    assert names.PEERS_LISTENER not in found[Kind.LISTENER]
    own = {name for name in found[Kind.LISTENER] if name not in written(CASES["empty"])[Kind.LISTENER]}
    listening = {name: found[Kind.LISTENER][name] for name in own}
    dialling = {name: one for name, one in found[Kind.CLUSTER].items() if name.startswith(names.DIALLED)}
    golden.check("holds-tunnels.json", text_of({Kind.LISTENER: listening, Kind.CLUSTER: dialling}))


def test_who_is_trusted(golden: Golden) -> None:
    """Each site as itself alone; where nobody is known, nobody: Envoy takes an empty list for everybody."""
    proofs = translate.proofs(b"authority", b"chain", b"key", CROSSES)
    assert "key" not in repr(proofs)
    alone = translate.proofs(b"authority", b"chain", b"key", replace(CROSSES, hosts=(), peers=()))
    shown = {name: fields(Kind.SECRET, one) for name, one in proofs.items()}
    shown["kasbah/trust where nobody is known"] = fields(Kind.SECRET, alone[names.TRUST_SECRET])
    golden.check("trust.json", text_of(shown))


def test_without_an_identity_no_other_site_is_met() -> None:
    found = written(replace(CROSSES, hosts=(), crossing=None))
    assert set(found[Kind.LISTENER]) == set(written(CASES["empty"])[Kind.LISTENER])
    assert set(found[Kind.ROUTES]) == {names.ROUTES, names.HERE_LISTENER}
    assert not [name for name in found[Kind.CLUSTER] if name.startswith((names.PEER, names.ACROSS))]


def test_a_site_that_hangs_is_noticed_within_a_second() -> None:
    check = written(CROSSES)[Kind.CLUSTER]["peer:st-b"]["health_checks"][0]
    seconds = float(check["interval"].removesuffix("s")) + float(check["timeout"].removesuffix("s"))
    assert seconds * check["unhealthy_threshold"] < 1


def test_what_others_send_leads_to_this_sites_own_clusters_only() -> None:
    table = json.dumps(written(CROSSES)[Kind.ROUTES][names.PEERS_LISTENER])
    assert '"cluster": "sv-notes/rv-first"' in table
    assert not [one for one in (names.PEER, names.ACROSS, "cluster_header", names.DOOR_CLUSTER) if one in table]


def test_without_a_certificate_nothing_listens_for_tls() -> None:
    assert SPEAKS_TLS.tls is not None
    without = replace(SPEAKS_TLS, tls=replace(SPEAKS_TLS.tls, names=()))
    assert names.TLS_LISTENER not in written(without)[Kind.LISTENER]


def test_a_key_is_in_no_text_of_its_certificate() -> None:
    made = translate.certificate("shop.example.org", b"the chain", b"the key")
    assert "key" not in repr(made)
    assert json_format.MessageToDict(protos.message(Kind.SECRET).FromString(made.body))["name"] == "shop.example.org"


def test_bootstrap(golden: Golden) -> None:
    parsed = protos.parse("envoy.config.bootstrap.v3.Bootstrap", bootstrap(WIRING))
    golden.check("bootstrap.json", text_of(json_format.MessageToDict(parsed, preserving_proto_field_name=True)))


def test_no_golden_file_is_stale(golden: Golden) -> None:
    there = {path.name for path in golden.folder.iterdir()}
    assert there <= {*SAME_IN_ALL, *(f"{name}.json" for name in CASES)}, "run pytest --rewrite-golden"


@pytest.mark.parametrize("name", CASES)
def test_listeners_never_change_with_services(name: str) -> None:
    """A listener that changes drains its connections."""
    found = translate.configuration(CASES[name], WIRING)
    without = replace(CASES["empty"], inside=CASES[name].inside)
    assert found[Kind.LISTENER] == translate.configuration(without, WIRING)[Kind.LISTENER]


def test_versions_are_those_of_the_contents() -> None:
    before, after = (translate.configuration(CASES[name], WIRING) for name in ("public-service", "asleep"))
    assert before == after, "what sleeps and wakes are endpoints, which are not part of the configuration"
    limited = translate.configuration(CASES["limited"], WIRING)
    assert limited[Kind.ROUTES] == before[Kind.ROUTES]
    assert limited[Kind.CLUSTER] != before[Kind.CLUSTER]


@pytest.mark.real
@pytest.mark.parametrize("name", [*CASES, *OTHERS])
def test_envoy_finds_it_sound(name: str, tmp_path: Path) -> None:
    file = tmp_path / "static.json"
    wiring = replace(WIRING, access_log=str(tmp_path / "access.log"), cold_log=str(tmp_path / "cold.log"))
    file.write_text(json.dumps(static({**CASES, **OTHERS}[name], wiring)))
    ran = subprocess.run(
        [protos.envoy_binary(), "--mode", "validate", "-c", file, "--log-level", "warning"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr + ran.stdout


FAULTS = {
    "a host of two services": (
        site(host((FIRST, 100)), replace(host((FIRST, 100)), name="other"), clusters=(cluster(),)),
        "host notes.localhost belongs to notes and to other",
    ),
    "a host of the site's": (
        site(replace(host((FIRST, 100)), hosts=("kasbah.localhost",)), clusters=(cluster(),)),
        "host kasbah.localhost belongs to the site's own door and to notes",
    ),
    "a host of another's revision": (
        site(
            host((FIRST, 100)),
            replace(host(), name="other", hosts=("rv-first.notes.localhost",)),
            clusters=(cluster(),),
        ),
        "host rv-first.notes.localhost belongs to a revision of notes and to other",
    ),
    "a cluster that is not there": (site(host((FIRST, 100))), "service notes routes to sv-notes/rv-first"),
    "shares of 90 percent": (site(host((FIRST, 90)), clusters=(cluster(),)), "do not add up to 100"),
    "sent on to a stranger": (
        replace(CROSSES, peers=CROSSES.peers[1:]),
        "service far is sent on to st-b, which is no peer",
    ),
    "sent on to where nobody can be dialled": (
        replace(CROSSES, peers=(replace(CROSSES.peers[0], address=""), *CROSSES.peers[1:])),
        "service far is sent on to st-b, which is no peer",
    ),
    "one cluster twice": (site(clusters=(cluster(), cluster())), "two clusters have one name"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_sound_is_refused(fault: str) -> None:
    gateway, said = FAULTS[fault]
    with pytest.raises(ValueError, match=said):
        translate.configuration(gateway, WIRING)


# --- how it is written down -------------------------------------------------------------------------------------------


def written(gateway: Gateway, wiring: Wiring = WIRING) -> dict[str, dict[str, Any]]:
    """Every resource in JSON form, by type and name."""
    found = {kind: dict(of_kind) for kind, of_kind in translate.configuration(gateway, wiring).items()}
    found[Kind.ENDPOINTS] = {one.name: translate.endpoints(one, wiring) for one in gateway.clusters}
    return {kind: {name: fields(kind, one) for name, one in of_kind.items()} for kind, of_kind in found.items()}


def fields(kind: Kind, found: Resource) -> Any:
    parsed = protos.message(kind).FromString(found.body)
    return json_format.MessageToDict(parsed, preserving_proto_field_name=True)


def text_of(whole: Any) -> str:
    """Sorted and indented; the script that every keys filter ends with is named, not shown."""
    script = resources.files("kasbah.agent.gateway").joinpath("keys.lua").read_text()
    text = json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False)
    return text.replace(json.dumps(script, ensure_ascii=False)[1:-1], "(keys.lua)") + "\n"


def static(gateway: Gateway, wiring: Wiring) -> dict[str, Any]:
    """All of it as one static configuration: what Envoy would have after it has heard everything."""
    whole = written(gateway, wiring)
    start = bootstrap(wiring)
    for name, one in whole[Kind.LISTENER].items():
        for chain in one["filter_chains"]:
            manager = chain["filters"][0]["typed_config"]
            if "rds" in manager:
                manager["route_config"] = whole[Kind.ROUTES][manager.pop("rds")["route_config_name"]]
                if len(manager["http_filters"]) > 1:
                    manager["http_filters"][-2] = whole[Kind.FILTER][names.KEYS_FILTER]
            if name == names.TLS_LISTENER:
                common = chain["transport_socket"]["typed_config"]["common_tls_context"]
                del common["tls_certificate_sds_secret_configs"]
                secret = translate.certificate(chain["name"], *Authority().issue(chain["name"]))
                common["tls_certificates"] = [fields(Kind.SECRET, secret)["tls_certificate"]]
    for name, assigned in whole[Kind.ENDPOINTS].items():
        one = whole[Kind.CLUSTER][name]
        del one["eds_cluster_config"]
        one |= {"type": "STATIC", "load_assignment": assigned}
    _prove(gateway, whole)
    return {
        "node": start["node"],
        "overload_manager": start["overload_manager"],
        "bootstrap_extensions": start["bootstrap_extensions"],
        "static_resources": {
            "clusters": [*start["static_resources"]["clusters"], *whole[Kind.CLUSTER].values()],
            "listeners": list(whole[Kind.LISTENER].values()),
        },
    }


def _prove(gateway: Gateway, whole: dict[str, dict[str, Any]]) -> None:
    """Put the secrets where they are asked for."""
    authority = Authority()
    made = translate.proofs(authority.certificate, *authority.issue_site("spiffe://in-1/site/st-a"), gateway)
    proofs = {name: fields(Kind.SECRET, one) for name, one in made.items()}
    listening = (chain for one in whole[Kind.LISTENER].values() for chain in one["filter_chains"])
    for one in [*whole[Kind.CLUSTER].values(), *listening]:
        if "validation_context_sds_secret_config" in json.dumps(one.get("transport_socket", {})):
            common = one["transport_socket"]["typed_config"]["common_tls_context"]
            (asked,) = common.pop("tls_certificate_sds_secret_configs")
            common["tls_certificates"] = [proofs[asked["name"]]["tls_certificate"]]
            asked = common.pop("validation_context_sds_secret_config")
            common["validation_context"] = proofs[asked["name"]]["validation_context"]

"""kasbah.yaml, good and bad: what is read, and that every mistake is told with its line, its key and the right word."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from kasbah.api.manifest import schema
from kasbah.cli.manifest import read
from kasbah.errors import Invalid

BILLION_LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "file.txt").write_text("")
    return tmp_path


def problems(folder: Path, text: str | bytes) -> list[str]:
    """What is told about a file, a line each."""
    file = folder / "kasbah.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(Invalid) as caught:
        read(file)
    return caught.value.message.splitlines()


def service(body: str) -> str:
    """A file with one service, `web`, whose keys start on line 3."""
    return "services:\n  web:\n" + "".join(f"    {line}\n" for line in body.splitlines())


BAD = {
    "empty": ("", "1: the file is empty"),
    "only a comment": ("# nothing\n", "1: the file is empty"),
    "a list": ("- services\n", "1: the file must hold `services:`"),
    "no services key": ("service: {}\n", "1: service: unknown key; did you mean services?"),
    "services empty": ("services: {}\n", "1: services: there is no service"),
    "services nothing": ("services:\n", "1: services: a mapping"),
    "services a list": ("services:\n  - name: web\n", "2: services: a mapping"),
    "no destination": (service("egress: [tcp://db]"), "3: services.web.egress[0]: 'tcp://"),
    "unknown key": (service("acess: key"), "3: services.web.acess: unknown key; did you mean access?"),
    "unknown key with a dash": (
        service("sleep: {stop-after: 1m}"),
        "3: services.web.sleep.stop-after: unknown key; did",
    ),
    "a key of a section": (
        service("freeze_after: 1m"),
        "3: services.web.freeze_after: unknown key here; it belongs below",
    ),
    "unlike any key": (service("zzz: 1"), "3: services.web.zzz: unknown key; here can stand: source, image"),
    "wrong word": (
        service("access: pubic"),
        "3: services.web.access: 'pubic' is none of key, public; did you mean public?",
    ),
    "yaml 1.1 boolean": (service("access: on"), "3: services.web.access: 'on' is none of key, public"),
    "boolean for a word": (service("access: true"), "3: services.web.access: true is none of"),
    "text for a number": (service("port: web"), "3: services.web.port: a whole number is expected, not 'web'"),
    "boolean for a number": (service("port: true"), "3: services.web.port: a number is expected, not true"),
    "port with a zero": (service("port: 08000"), "3: services.web.port: 08000 starts with a zero"),
    "port out of range": (service("port: 70000"), "3: services.web.port: '70000' is out of range: the most is 65,535"),
    "duration without unit": (
        service("sleep: {freeze_after: 90}"),
        "3: services.web.sleep.freeze_after: 90 is no duration",
    ),
    "size": (service("resources: {memory: lots}"), "3: services.web.resources.memory: 'lots' is no size"),
    "probe path": (
        service("health:\n  startup:\n    path: health"),
        "5: services.web.health.startup.path: 'health' cannot",
    ),
    "a number for a section": (service("scaling: 3"), "3: services.web.scaling: a mapping with keys such as min, max"),
    "min above max": (service("scaling: {min: 3, max: 2}"), "3: services.web.scaling: min (3) is above max (2)"),
    "port and replicas": (service("port: 80\nscaling: {max: 2}"), "3: services.web: port 80 is fixed"),
    "volumes and replicas": (
        service("volumes: [{name: data, path: data, size: 1Gi}]\nscaling: {max: 2}"),
        "3: services.web: volumes: data can be one replica's at a time: set scaling.max to 1",
    ),
    "volume outside": (
        service("volumes:\n- {name: data, path: /data, size: 1Gi}"),
        "4: services.web.volumes[0].path: /data is outside the app's folder",
    ),
    "volume above": (
        service("volumes: [{name: data, path: ../data, size: 1Gi}]"),
        "3: services.web.volumes[0].path: '../data' does not name a folder in the app's own",
    ),
    "volumes in each other": (
        service("volumes: [{name: a, path: data, size: 1Gi}, {name: b, path: ./data/b/, size: 1Gi}]"),
        "3: services.web: volumes: data and data/b lie in each other",
    ),
    "a volume twice": (
        service("volumes: [{name: a, path: x, size: 1Gi}, {name: a, path: y, size: 1Gi}]"),
        "3: services.web: volumes: a is there twice",
    ),
    "a volume of nothing": (
        service("volumes: [{name: a, path: x, size: 0}]"),
        "3: services.web.volumes[0].size: ",
    ),
    "reserved env": (service("env: {PORT: 80}"), "3: services.web: env: PORT is set by Kasbah itself"),
    "env without a value": (service("env:\n  A:"), "4: services.web.env.A: text is expected, not nothing"),
    "env list": (service("env: [A=1]"), "3: services.web.env: a mapping (names and values) is expected, not a list"),
    "env name": (service("env: {1A: x}"), "3: services.web.env.1A: "),
    "command mapping": (service("command: {a: 1}"), "3: services.web.command: one line of text, or a list of texts,"),
    "command empty": (service("command: []"), "3: services.web.command: must not be empty"),
    "label": (service("data: {level: secret}"), "3: services.web.data.level: 'secret' is none of public, internal"),
    "label without level": (service("data: {regimes: [gdpr]}"), "3: services.web.data.level: is missing"),
    "name": ("services:\n  My_App: {}\n", "2: services.My_App: 'My_App' is no name"),
    "reserved name": ("services:\n  kasbah: {}\n", "2: services.kasbah: 'kasbah' is reserved"),
    "no such folder": (service("source: ./nowhere"), "3: services.web.source: "),
    "a file for a folder": (service("source: file.txt"), "3: services.web.source: "),
    "image": (service("image: nginx"), "3: services.web.image: no site has a container driver yet"),
    "image and command": (service("image: nginx\ncommand: [x]"), "4: services.web.command: cannot stand beside image"),
    "two of one name": ("services:\n  a: {}\n  a: {}\n", "3: services.a: this key is here twice, first on line 2"),
    "tab": ("services:\n\tweb: {}\n", "2: a tab cannot indent YAML"),
    "not YAML": ("services: [\n", "2: "),
    "typo of a colon": ("services:\n  web\n    port: 80\n", "3: a colon"),
    "two documents": ("services: {}\n---\nservices: {}\n", "2: only one document"),
    "a tag": (service("source: !!python/object:os.system x"), "3: services.web.source: tags such as"),
    "not UTF-8": (b"services:\n  web: {source: '\xff'}\n", "2: the file is not UTF-8"),
    "10 MB": (b"a: " + b"x" * 10_000_000, "1: the file is larger"),
    "billion laughs": (BILLION_LAUGHS, "1: the file holds too many values"),
    "an anchor of itself": ("services: &a\n  web: *a\n", "1: the file holds too many values"),
    "deep": ("[" * 100 + "]" * 100, "1: the file holds too many values"),
    "very deep": ("[" * 500 + "]" * 500, "1: "),
    "a key that is a list": ("services:\n  ? [a, b]\n  : {}\n", "2: services: a key must be one word"),
}


@pytest.mark.parametrize(("text", "told"), BAD.values(), ids=BAD.keys())
def test_a_mistake_is_told_with_its_line(folder: Path, text: str | bytes, told: str) -> None:
    found = problems(folder, text)
    assert any(line.startswith(f"kasbah.yaml:{told}") for line in found), found
    assert not any("pydantic" in line or "https://" in line or "Traceback" in line for line in found)


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(folder: Path) -> None:
    found = problems(folder, "services:\n  Web:\n    acess: key\n    port: x\n    source: nowhere\n  b: {scaling: 1}\n")
    assert [line.partition(": ")[0] for line in found] == [f"kasbah.yaml:{line}" for line in (2, 3, 4, 5, 6)]


def test_a_hostile_name_does_not_reach_the_terminal(folder: Path) -> None:
    found = problems(folder, 'services:\n  "\\e]0;owned\\a": {}\n')
    assert "\x1b" not in "".join(found)


def test_ten_lines(folder: Path) -> None:
    (folder / "kasbah.yaml").write_text(
        service(
            "source: app\ncommand: [gunicorn, -w, 4, app:app]\nenv: {V: 1.10, N: 007, D: 2024-01-01, B: yes, E: ''}"
        )
    )
    web = read(folder / "kasbah.yaml").services["web"]
    assert web.command == ("gunicorn", "-w", "4", "app:app")
    assert web.env == {"V": "1.10", "N": "007", "D": "2024-01-01", "B": "yes", "E": ""}


def test_anchors_and_merges(folder: Path) -> None:
    (folder / "kasbah.yaml").write_text(
        "services:\n  a: &base\n    source: app\n    sleep: {stop_after: never}\n"
        "  b:\n    <<: *base\n    access: public\n"
    )
    services = read(folder / "kasbah.yaml").services
    assert list(services) == ["a", "b"]
    assert services["b"].source == "app"
    assert services["b"].sleep.stop_after is None
    assert services["b"].sleep.freeze_after == timedelta(minutes=1)


def test_a_byte_order_mark_and_windows_line_ends(folder: Path) -> None:
    (folder / "kasbah.yaml").write_bytes(b"\xef\xbb\xbfservices:\r\n  web:\r\n    source: app\r\n")
    assert read(folder / "kasbah.yaml").services["web"].source == "app"


def test_the_schema_accepts_what_is_read_and_refuses_what_is_refused(folder: Path) -> None:
    import jsonschema

    jsonschema.validate({"services": {"web": {"source": "app", "sleep": {"freeze_after": "1m30s"}}}}, schema())
    for wrong in ({}, {"services": {"web": {"acess": "key"}}}, {"services": {"web": {"port": 0}}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema())

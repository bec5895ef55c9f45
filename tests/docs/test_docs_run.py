"""What the documents tell a reader to type works: files are written, commands run in order, answers look as shown.

In a Markdown page, a block that opens with ```console holds commands (`$ `, continued by `> `) and what they print.
Commands run in one shell, in order, against an installation of the test's own; each must exit with 0, and each line
shown must be in what was printed, in that order, `...` standing for anything. A block that opens with
```LANGUAGE file=NAME is written to NAME first. A comment above a block changes how it is run:

    <!-- not run: WHY -->   shown only
    <!-- eventually -->     its commands are repeated until they print what is shown
"""

from __future__ import annotations

import json
import os
import re
import secrets
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import commands
import pytest
from ruamel.yaml import YAML

from kasbah.api.manifest import File

ROOT = Path(__file__).parents[2]
KASBAH = Path(sys.executable).with_name("kasbah")
DEADLINE = 120
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<info>[^\n]+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(slots=True, kw_only=True)
class Command:
    """What is typed, and the lines shown below it."""

    text: str
    shown: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block: what stands behind the fence, the comment above it, and its lines."""

    info: str
    mark: str
    body: str

    @property
    def file(self) -> str | None:
        named = re.search(r"\bfile=(\S+)", self.info)
        return named and named.group(1)

    @property
    def commands(self) -> list[Command]:
        found: list[Command] = []
        for line in self.body.splitlines():
            if line.startswith("$ "):
                found.append(Command(text=line[2:]))
            elif line.startswith("> ") and not found[-1].shown:
                found[-1].text += "\n" + line[2:]
            elif line.strip():
                found[-1].shown.append(line.strip())
        return found


def blocks(page: Path) -> list[Block]:
    return [
        Block(info=found["info"], mark=found["mark"] or "", body=found["body"])
        for found in BLOCK.finditer(page.read_text())
    ]


def pages() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])


def unshown(shown: list[str], printed: str) -> str | None:
    """The first line shown that was not printed, in order; None where all were."""
    rest = " ".join(printed.split())
    for line in shown:
        for piece in (piece.strip() for piece in line.split("...")):
            at = rest.find(" ".join(piece.split()))
            if at < 0:
                return line
            rest = rest[at + len(" ".join(piece.split())) :]
    return None


class Shell:
    """One bash for a whole page, so that folders and variables carry on from block to block."""

    def __init__(self, home: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KASBAH_", "XDG_"))}
        path = f"{KASBAH.parent}{os.pathsep}{kept['PATH']}"
        self.data_dir = home / "data"
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=home,
            env={**kept, "HOME": str(home), "PATH": path, "KASBAH_CONTEXT": str(home / "context.json")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._gateway = self._tls = ""

    def run(self, command: str) -> tuple[int, str]:
        """Run a command of the page; the exit code, and what it printed with the page's own ports in it."""
        code, printed = self._type(self._ours(command))
        if not self._gateway and (endpoint := self.data_dir / "agent" / "endpoint.json").exists():
            found = json.loads(endpoint.read_text())
            self._gateway = "localhost:" + found["gateway"].rpartition(":")[2]
            self._tls = ":" + found["tls"].rpartition(":")[2] if found["tls"] else ""
        if self._tls:
            printed = printed.replace(self._tls, ":8443")
        return code, printed.replace(self._gateway, "localhost:8080") if self._gateway else printed

    def write(self, name: str, body: str) -> None:
        _, folder = self._type("pwd")
        path = Path(folder.strip()) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)

    def close(self) -> None:
        self._bash.stdin.close()
        self._bash.wait(timeout=DEADLINE)
        self._bash.stdout.close()

    def _ours(self, command: str) -> str:
        """The command for this installation: its data folder, its ports."""
        up = f"kasbah up --data-dir {self.data_dir} --gateway 127.0.0.1:0 --api 127.0.0.1:0"
        command = re.sub(r"\bkasbah up\b", up, command)
        command = command.replace("--tls 127.0.0.1:8443", "--tls 127.0.0.1:0")
        command = command.replace(":8443", self._tls or ":8443")
        command = re.sub(r"\bkasbah down\b", f"kasbah down --data-dir {self.data_dir}", command)
        return command.replace("localhost:8080", self._gateway or "localhost:8080")

    def _type(self, command: str) -> tuple[int, str]:
        mark = secrets.token_hex(8)
        self._bash.stdin.write(f"{{ {command}\n}} </dev/null 2>&1\nprintf '\\n{mark} %d\\n' $?\n".encode())
        self._bash.stdin.flush()
        printed = b""
        end = time.monotonic() + DEADLINE
        while not (found := re.search(rb"\n%s (\d+)\n" % mark.encode(), printed)):
            ready, _, _ = select.select([self._bash.stdout], [], [], max(0, end - time.monotonic()))
            chunk = os.read(self._bash.stdout.fileno(), 65_536) if ready else b""
            if not chunk:
                pytest.fail(f"no end within {DEADLINE} s: {command}\n{printed.decode(errors='replace')}")
            printed += chunk
        return int(found[1]), printed[: found.start()].decode(errors="replace")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    if not (shutil.which("curl") and shutil.which("openssl")):
        pytest.skip("curl or openssl is not installed")
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("node_modules", ".venv"))
    shell = Shell(tmp_path)
    try:
        yield shell
    finally:
        shell.run("kasbah down")
        shell.close()


def follow(shell: Shell, block: Block) -> None:
    """Do what a block says."""
    end = time.monotonic() + DEADLINE
    for command in block.commands:
        while True:
            code, printed = shell.run(command.text)
            missing = unshown(command.shown, printed)
            if code == 0 and missing is None:
                break
            if block.mark != "eventually" or time.monotonic() > end:
                pytest.fail(f"$ {command.text}\nexit {code}; not printed: {missing!r}; printed:\n{printed}")
            time.sleep(0.3)  # between two looks at a condition with a deadline


@pytest.mark.real
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md", "docs/how-to/domains.md"])
def test_the_page_can_be_followed(page: str, shell: Shell) -> None:
    done = 0
    for block in blocks(ROOT / page):
        if block.mark.startswith("not run"):
            continue
        if block.file:
            shell.write(block.file, block.body)
        elif block.info == "console":
            follow(shell, block)
            done += len(block.commands)
    assert done, "the page has no command to follow"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_each_kasbah_yaml_shown_is_valid(page: Path) -> None:
    for block in blocks(page):
        if block.info.startswith("yaml") and "services:" in block.body:
            File.model_validate(YAML(typ="safe").load(block.body))


BELOW = (
    "create|list|revoke|quota|delete|apply|approve|describe|drain|remove|token|rollback|plan|coverage|log|show|verify|export"
    "|accept|add|key|approval add|approval revoke"
)
"""Commands that stand below another."""


def spoken() -> dict[str, set[str]]:
    """Every kasbah command the documents show, with the long options they give it."""
    said: dict[str, set[str]] = {}
    for page in pages():
        for block in blocks(page):
            for line in (command.text for command in block.commands) if block.info == "console" else ():
                for words in re.findall(rf"(?<![\w/-])kasbah ((?:[a-z]+ ?)(?:(?:{BELOW})\b)?)([^|;&)\n]*)", line):
                    said.setdefault(words[0].strip(), set()).update(re.findall(r"(?<!\S)--[a-z-]+", words[1]))
    return said


SPOKEN = dict(sorted(spoken().items()))


@pytest.mark.parametrize(("command", "options"), SPOKEN.items(), ids=SPOKEN)
def test_commands_the_documents_show_exist(command: str, options: set[str]) -> None:
    env = {**os.environ, "COLUMNS": "300"}
    code, told, complaint = commands.command([*command.split(), "--help"], env=env, folder=ROOT, seconds=DEADLINE)
    assert code == 0, f"kasbah {command}: {complaint}"
    assert not {option for option in options if option not in told}


PAGE = """
```text file=poem.txt
one
two
```
```console
$ WORD=two
$ for word in one "$WORD"
> do grep "$word" poem.txt; done
one
two
$ (sleep 0.5; touch late) &
```
<!-- eventually -->
```console
$ ls; true
... late ...
```
"""


@pytest.mark.real
def test_a_page_is_followed_block_by_block(tmp_path: Path, shell: Shell) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    write_file, first, later = blocks(tmp_path / "page.md")
    shell.write(write_file.file, write_file.body)
    follow(shell, first)
    follow(shell, later)


@pytest.mark.real
@pytest.mark.parametrize("body", ["$ false\n", "$ echo one\ntwo\n"])
def test_a_page_that_is_not_true_fails(body: str, shell: Shell) -> None:
    with pytest.raises(pytest.fail.Exception):
        follow(shell, Block(info="console", mark="", body=body))


@pytest.mark.parametrize(
    ("shown", "printed", "missing"),
    [
        (["a ... c"], "x a  b c", None),
        (["one", "two"], "two one", "two"),
        (["..."], "", None),
        (["hello"], "help", "hello"),
    ],
)
def test_what_is_shown_is_looked_for_in_order(shown: list[str], printed: str, missing: str | None) -> None:
    assert unshown(shown, printed) == missing

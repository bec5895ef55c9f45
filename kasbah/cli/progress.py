"""Shows what happens while one waits: a line that moves on a terminal, plain lines elsewhere, nothing for programs.

Always on standard error: standard output is for results.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol

from kasbah.cli.render import Output, colourful, say
from kasbah.cli.text import clean


class Progress(Protocol):
    """Shows the steps of one thing at a time, named by `subject`."""

    def __enter__(self) -> Progress: ...

    def __exit__(self, *_: object) -> None: ...

    def step(self, subject: str, text: str) -> None:
        """`text` is what happens now; what happened before is over."""
        ...

    def detail(self, text: str) -> None:
        """How far the step is."""
        ...

    def end(self) -> None:
        """The last step is over."""
        ...


def progress(output: Output) -> Progress:
    """The progress that suits standard error and what the results are for."""
    if output is not Output.TABLE:
        return Silent()
    return Live() if colourful(sys.stderr) else Plain()


class Silent:
    """For programs: standard error then holds an error and nothing else."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None: ...

    def step(self, subject: str, text: str) -> None: ...

    def detail(self, text: str) -> None: ...

    def end(self) -> None: ...


class Plain(Silent):
    """A line for each step, when it begins."""

    def step(self, subject: str, text: str) -> None:
        say(f"{subject}: {text}")


class Live(Silent):
    """The step of now moves; a step that is over stays as a line with the time it took."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, markup=False)
        self._status: Any = None
        self._now = ""
        self._since = 0.0

    def __exit__(self, *_: object) -> None:
        self._stop()

    def step(self, subject: str, text: str) -> None:
        self.end()
        self._now, self._since = clean(f"{subject}: {text}"), time.monotonic()
        self._status = self._console.status(self._text(self._now))
        self._status.start()

    def detail(self, text: str) -> None:
        if self._status is not None:
            self._status.update(self._text(f"{self._now} {clean(text)}"))

    def end(self) -> None:
        if self._now:
            self._stop()
            self._console.print(self._text(f"  {self._now} ({time.monotonic() - self._since:.1f} s)", "dim"))
            self._now = ""

    def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _text(self, text: str, style: str = "") -> Any:
        from rich.text import Text

        return Text(text, style=style)

"""Text that others wrote (services, logs, servers) made safe for a terminal: nothing in it is ever obeyed.

Control characters, escape sequences and characters that reorder text are shown, not sent.
"""

from __future__ import annotations

import re

_STYLE = re.compile(r"\x1b\[[0-9;:]*m")
"""Colours. Apps write them on purpose; they are dropped, because shown they would only hide the text."""

LINE_END = re.compile(r"\r?\n")
"""What ends a line. Python knows eight more line ends, with which a text could seem to be several messages."""

_UNSAFE = re.compile(
    r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters but the tab; marks and overrides of direction; line separators; halves of surrogate pairs."""


def clean(text: str, *, lines: bool = False) -> str:
    r"""`text` with everything a terminal would obey made visible. `lines` keeps line ends.

    >>> print(clean("a\x1b[31mb\x1b]0;title\x07"))
    ab\x1b]0;title\x07
    """
    if lines:
        return "\n".join(clean(line) for line in LINE_END.split(text.removesuffix("\n")))
    return _UNSAFE.sub(_shown, _STYLE.sub("", text))


def clean_json(text: str) -> str:
    """JSON with the same characters written as escapes: still the same JSON."""
    return _UNSAFE.sub(lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", text)


def _shown(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"

"""Quantities as people write them: durations (`90s`, `1m30s`, `never`) and sizes (`512Mi`, `8Gi`)."""

from __future__ import annotations

import re
from datetime import timedelta

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
BYTES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
LONGEST = timedelta(days=3_650)
LARGEST = 2**60
LONGEST_TEXT = 1_000
"""Characters of a quantity. Looking for units in a longer text takes the square of its length."""
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(k|M|G|T|Ki|Mi|Gi|Ti)?B?")


def parse_duration(text: object) -> timedelta:
    """A duration: numbers with a unit (ms, s, m, h, d), largest first, as in `1h30m`. A bare number is refused.

    >>> parse_duration("1m30s")
    datetime.timedelta(seconds=90)
    """
    if isinstance(text, timedelta):
        return text
    if not isinstance(text, str) or not text or len(text) > LONGEST_TEXT or _PART.sub("", text):
        raise ValueError(
            f"{_shown(text)} is no duration: write a number and a unit, such as 500ms, 30s, 5m, 1h30m or 2d"
        )
    seconds = sum(float(number) * SECONDS[unit] for number, unit in _PART.findall(text))
    if seconds > LONGEST.total_seconds():
        raise ValueError(f"{text[:40]!r} is too long: {format_duration(LONGEST)} is the most")
    return timedelta(seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """The shortest way to write a duration that `parse_duration` reads back to the millisecond.

    >>> format_duration(timedelta(seconds=90))
    '1m30s'
    """
    left = round(duration.total_seconds() * 1_000)
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_size(text: object) -> int:
    """A number of bytes: `512Mi` (powers of two) or `500M` (powers of ten); a bare number is bytes.

    >>> parse_size("1Ki")
    1024
    """
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        size: float = min(text, LARGEST)  # a number of any length is told in few words
    elif match is not None and len(match[0]) > LONGEST_TEXT:
        size = LARGEST
    elif match is not None:
        size = (int(match[1]) if "." not in match[1] else float(match[1])) * BYTES[match[2] or ""]
    else:
        raise ValueError(f"{_shown(text)} is no size: write a number and a unit, such as 512Mi or 8Gi")
    if size >= LARGEST:
        raise ValueError(f"{_shown(text)} is too large: it must be below {format_size(LARGEST)}")
    return int(size)


def _shown(value: object) -> str:
    """What was written, in a few words whatever it is: Python refuses to write out a number of thousands of digits."""
    if isinstance(value, int) and abs(value) >= LARGEST:
        return "the number"
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:40]}..."


def write_size(size: int) -> str:
    """The shortest way to write a size that `parse_size` reads back exactly.

    >>> write_size(1_500_000_000)
    '1500M'
    """
    exact = (unit for unit in BYTES if size and size % BYTES[unit] == 0)
    unit = max(exact, key=BYTES.__getitem__, default="")
    return f"{size // BYTES[unit]}{unit}"


def format_size(size: int) -> str:
    """A size as people read it, in powers of two.

    >>> format_size(8 * 2**30)
    '8Gi'
    """
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        if size >= BYTES[unit]:
            value = size / BYTES[unit]
            return f"{value:.0f}{unit}" if value == int(value) else f"{value:.1f}{unit}"
    return f"{size}B"

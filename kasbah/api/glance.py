"""What detection needs to see of a source folder: the names of the top levels, and the texts it asks for."""

from __future__ import annotations

from pathlib import Path

from kasbah.api.ignore import travelling
from kasbah.decide.detect import DEPTH, LARGEST_TEXT, wanted

MOST_TEXTS = 500


def glance(folder: Path) -> dict[str, str | None]:
    """The files that travel, as `decide.detect` takes them. Raises Invalid where the folder cannot be read."""
    names = sorted(travelling(folder, depth=DEPTH), key=lambda name: (name.count("/"), name))
    texts = {name: _text(folder / name) for name in [name for name in names if wanted(name)][:MOST_TEXTS]}
    return {name: texts.get(name) for name in names}


def _text(path: Path) -> str | None:
    """None for links, pipes and the like, and for what is too long."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST_TEXT:
            return None
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return None

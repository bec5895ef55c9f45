"""Golden files: text in, text out, compared word for word. In a module of its own, so that tests can name the class."""

from __future__ import annotations

from pathlib import Path


class Golden:
    """The golden files of one folder below `tests/golden`. A folder belongs to one test module: when all of that
    module has run under `--rewrite-golden`, files in the folder that nobody asked for are stale."""

    def __init__(self, folder: Path, *, rewrite: bool, asked: set[Path]) -> None:
        self.folder = folder
        self._rewrite = rewrite
        self._asked = asked

    def check(self, name: str, text: str) -> None:
        """Fail unless the file `name` holds exactly `text`; under `--rewrite-golden`, make it so."""
        path = self.folder / name
        self._asked.add(path)
        if self._rewrite:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return
        assert path.exists(), f"{path} is missing: run pytest --rewrite-golden and read what it writes"
        assert text == path.read_text(), f"{path} differs: if that is meant, run pytest --rewrite-golden"

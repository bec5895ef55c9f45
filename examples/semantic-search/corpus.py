"""The sentences that are searched (`corpus.txt`, a language and a sentence a line) and their vectors."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from embed import MODEL, Vectors

TEXT = Path(__file__).with_name("corpus.txt")
VECTORS = MODEL / "corpus.npy"


@dataclass(frozen=True, slots=True)
class Entry:
    """A sentence and its language."""

    language: str
    text: str


def entries() -> list[Entry]:
    """The sentences, in the file's order."""
    lines = TEXT.read_text(encoding="utf-8").splitlines()
    return [Entry(*line.split(" ", 1)) for line in lines if line and not line.startswith("#")]


def vectors() -> Vectors:
    """Their vectors, as `index.py` left them: a row for each entry."""
    rows: Vectors = np.load(VECTORS)
    return rows

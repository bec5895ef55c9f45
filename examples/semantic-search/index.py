"""Embeds the corpus once, at build, so that a replica that wakes has nothing to compute but the query."""

import numpy as np
from corpus import VECTORS, entries
from embed import Embedder

if __name__ == "__main__":
    texts = [entry.text for entry in entries()]
    np.save(VECTORS, Embedder().many(texts))
    print(f"{len(texts)} sentences indexed")

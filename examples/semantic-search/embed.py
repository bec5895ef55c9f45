"""Text to a vector of length 1, so that the cosine of two texts is their dot product.

The weights stay in their own file, mapped and neither copied nor repacked: loading takes a third of the time, replicas
share the pages, and a request pays about a millisecond for it.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when onnxruntime is imported

import onnxruntime
from tokenizers import Tokenizer

MODEL = Path(sys.prefix) / "share" / "minilm"
"""In the environment, beside the packages: replicas share the one that was built, and none is given a copy."""

GRAPH, WEIGHTS, TOKENIZER = "minilm.onnx", "minilm.weights", "tokenizer.json"

LONGEST_TEXT = 256
"""Tokens the model was trained on; what is beyond is cut off."""

Vectors = NDArray[np.float32]


class Embedder:
    """The model, loaded."""

    def __init__(self, folder: Path = MODEL) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = min(4, os.cpu_count() or 1)
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(folder / GRAPH, options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(LONGEST_TEXT)

    def __call__(self, text: str) -> Vectors:
        """The vector of one text."""
        tokens = self._tokenizer.encode(text)
        inputs = {"input_ids": np.array([tokens.ids]), "attention_mask": np.array([tokens.attention_mask])}
        (vectors,) = self._session.run(["embedding"], inputs)
        vector: Vectors = vectors[0]
        return vector

    def many(self, texts: Sequence[str]) -> Vectors:
        """The vectors of several texts, a row each."""
        return np.stack([self(text) for text in texts])

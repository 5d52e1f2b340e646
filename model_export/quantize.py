"""Turn the float graph into int8: static QDQ, U8S8, per channel, reduced range, head kept float.

``reduce_range`` costs one bit of weight and buys the same answer on every processor: without it,
8-bit products saturate silently on CPUs that have AVX2 but no VNNI. The head (pooling, dense units,
map) stays float, so that the score is not cut into 256 steps.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from app.cxr.metrics import auc, youden_threshold
from app.cxr.model import OUTPUTS, open_graph
from model_export.datasets import load_kermany, read_films, split_by_patient
from model_export.export import FLOAT_GRAPH, ParityError
from model_export.runs import load_experiment

INT8_GRAPH = "int8.onnx"
CALIBRATION_FILMS = 200
# Concat joins the gate's features. Quantized, it would give three depths one scale, and through the
# pooled features that it shares with the dense unit it would cut the score into steps as well.
HEAD_OPERATORS = frozenset({"ReduceMean", "GlobalAveragePool", "Concat", "MatMul", "Gemm"})

# Limits of the parity check on the validation patients; the same as the product's promise.
AUC_LOSS = 0.003
AGREEMENT = 0.99
MAP_CORRELATION = 0.97


class _Films(CalibrationDataReader):
    """Feeds films one by one to the range finder."""

    def __init__(self, films: np.ndarray) -> None:
        self._films: Iterator[np.ndarray] = iter(films)

    def get_next(self) -> dict[str, np.ndarray] | None:
        film = next(self._films, None)
        return None if film is None else {"image": film[np.newaxis].astype(np.float32)}


def head_nodes(graph: onnx.GraphProto) -> list[str]:
    """Nodes between the last convolutions and the outputs, which stay float, with those
    convolutions of one channel that draw the maps.
    """
    head = {node.name for node in graph.node if node.op_type in HEAD_OPERATORS}
    makers = {name: node for node in graph.node for name in node.output}
    waiting = [output.name for output in graph.output]
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or (node.name in head and node.op_type not in HEAD_OPERATORS):
            continue
        head.add(node.name)
        if node.op_type not in {"Conv", *HEAD_OPERATORS}:
            waiting.extend(node.input)
    return sorted(head)


def input_nodes(graph: onnx.GraphProto) -> list[str]:
    """Nodes between the image and the first convolutions: mirroring and scaling, which stay float,
    so that the film is rounded once.
    """
    reached, nodes = {"image"}, []
    for node in graph.node:
        if node.op_type != "Conv" and reached.intersection(node.input):
            reached.update(node.output)
            nodes.append(node.name)
    return nodes


def fold_batch_norm(graph: onnx.GraphProto) -> int:
    """Fold ``Conv, Mul, Add`` with constant factors into the Conv; returns how many were folded.

    Batch normalisation behind depthwise convolutions reaches us unfolded. Each left as it is costs
    two more roundings to 256 steps, and two more passes over memory.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    outputs = {output.name for output in graph.output}
    folded = 0
    for conv in [node for node in graph.node if node.op_type == "Conv" and len(node.input) == 2]:
        multiply = _only_user(users, outputs, conv.output[0], "Mul")
        add = multiply and _only_user(users, outputs, multiply.output[0], "Add")
        if multiply is None or add is None or conv.input[1] not in constants:
            continue
        factor, offset = (_constant_of(node, constants) for node in (multiply, add))
        kernel = numpy_helper.to_array(constants[conv.input[1]])
        if factor is None or offset is None or not (factor.size == offset.size == kernel.shape[0]):
            continue
        name = conv.name or conv.output[0]
        scaled = (kernel * factor.reshape(-1, 1, 1, 1)).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(scaled, f"{name}/folded_kernel"))
        graph.initializer.append(
            numpy_helper.from_array(offset.reshape(-1).astype(np.float32), f"{name}/folded_bias")
        )
        conv.input[:] = [conv.input[0], f"{name}/folded_kernel", f"{name}/folded_bias"]
        conv.output[0] = add.output[0]
        graph.node.remove(multiply)
        graph.node.remove(add)
        folded += 1
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
    return folded


def film_as_bytes(model: onnx.ModelProto, side: int) -> bool:
    """Round the film to bytes before it is mirrored and scaled; returns whether that was done.

    Grey values are whole numbers, and the quantizer codes the scaled film so that its codes are
    those numbers again: mirroring and scaling floats, a seventh of the whole time, gains nothing.
    Left as it is where the codes are others, so that no answer ever changes.
    """
    graph, front = model.graph, _front(model.graph)
    if not front or front[-1].op_type != "QuantizeLinear":
        return False
    codes = front[-1].output[0]
    film = np.random.default_rng(0).integers(0, 256, (1, side, side, 1)).astype(np.float32)
    both = np.concatenate([film, film[:, :, ::-1]]).reshape(2, 1, side, side)
    if not np.array_equal(_codes(model, front, codes, film), both):
        return False
    nodes, constants = _mirrored_bytes(codes, side)
    for node in front:
        graph.node.remove(node)
    for index, node in enumerate(nodes):
        graph.node.insert(index, node)
    graph.initializer.extend(constants)
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
    return True


def _front(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """What lies between the image and the first rounding, that included, in order."""
    reached, nodes = {"image"}, []
    for node in graph.node:
        if reached.intersection(node.input):
            reached.update(node.output)
            nodes.append(node)
            if node.op_type == "QuantizeLinear":
                break
    return nodes


def _codes(
    model: onnx.ModelProto, front: list[onnx.NodeProto], codes: str, film: np.ndarray
) -> np.ndarray:
    """What the ``front`` makes of a film."""
    graph = onnx.helper.make_graph(
        front,
        "front",
        [value for value in model.graph.input if value.name == "image"],
        [onnx.helper.make_tensor_value_info(codes, onnx.TensorProto.UINT8, None)],
        model.graph.initializer,
    )
    alone = onnx.helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "front.onnx"
        onnx.save(alone, path)
        return np.asarray(open_graph(path).run(None, {"image": film})[0])


def _mirrored_bytes(codes: str, side: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The nodes that make ``codes``, uint8 ``(2 * films, 1, side, side)``: films, then mirrored."""
    make, constants = onnx.helper.make_node, {
        "film/one": np.array(1, np.float32),
        "film/zero": np.array(0, np.uint8),
        "film/planes_shape": np.array([-1, 1, side, side]),
        "film/from": np.array([side - 1]),
        "film/to": np.array([-side - 1]),
        "film/across": np.array([3]),
        "film/back": np.array([-1]),
    }  # fmt: skip
    turn = ["film/planes", "film/from", "film/to", "film/across", "film/back"]
    nodes = [
        make("QuantizeLinear", ["image", "film/one", "film/zero"], ["film/bytes"], "film/round"),
        make("Reshape", ["film/bytes", "film/planes_shape"], ["film/planes"], "film/reshape"),
        make("Slice", turn, ["film/mirrored"], "film/mirror"),
        make("Concat", ["film/planes", "film/mirrored"], [codes], "film/both", axis=0),
    ]
    return nodes, [numpy_helper.from_array(value, name) for name, value in constants.items()]


def _only_user(
    users: dict[str, list[onnx.NodeProto]], outputs: set[str], name: str, kind: str
) -> onnx.NodeProto | None:
    found = users.get(name, [])
    alone = len(found) == 1 and name not in outputs and found[0].op_type == kind
    return found[0] if alone else None


def _constant_of(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> np.ndarray | None:
    named = [name for name in node.input if name in constants]
    return np.asarray(numpy_helper.to_array(constants[named[0]])) if named else None


def quantize(run: Path, data: Path) -> Path:
    """Write ``int8.onnx`` into the run; raises ParityError where it answers differently."""
    size = load_experiment(run).size
    split = split_by_patient(load_kermany(data))
    step = max(1, len(split.train) // CALIBRATION_FILMS)
    films = read_films(split.train[::step], size, "calibration films")
    path = run / INT8_GRAPH
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        # the symbolic pass gives up at Resize, and ONNX's own shape inference is enough here
        quant_pre_process(str(run / FLOAT_GRAPH), str(prepared), skip_symbolic_shape=True)
        model = onnx.load(prepared)
        fold_batch_norm(model.graph)
        onnx.save(model, prepared)
        quantize_static(
            str(prepared),
            str(path),
            _Films(films),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            nodes_to_exclude=[*head_nodes(model.graph), *input_nodes(model.graph)],
        )
    small = onnx.load(path)
    film_as_bytes(small, size)
    onnx.save(small, path)
    labels = np.array([film.label for film in split.validation])
    report = check_parity(run, read_films(split.validation, size, "validation films"), labels)
    print(", ".join(f"{name} {value:.4f}" for name, value in report.items()))
    return path


def run_graph(path: Path, films: np.ndarray, threads: int = 2) -> dict[str, np.ndarray]:
    """All outputs of a graph for uint8 films ``(count, size, size, 1)``, one film at a time."""
    session = open_graph(path, threads)
    rows = [session.run(OUTPUTS, {"image": film[np.newaxis].astype(np.float32)}) for film in films]
    return {
        name: np.concatenate([np.asarray(row[index]) for row in rows])
        for index, name in enumerate(OUTPUTS)
    }


def check_parity(run: Path, films: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Compare int8 with float on films; raises ParityError outside the stated limits."""
    exact, small = (run_graph(run / name, films) for name in (FLOAT_GRAPH, INT8_GRAPH))
    return compare(exact, small, labels)


def compare(
    exact: dict[str, np.ndarray], small: dict[str, np.ndarray], labels: np.ndarray
) -> dict[str, float]:
    """AUC lost, share of equal answers, and correlation of the maps; raises ParityError.

    The answers are those at the float graph's best threshold: logits of averaged networks have no
    meaning at zero, and the operating points are only chosen when the release is packed.
    """
    before, after = exact["logit"].ravel(), small["logit"].ravel()
    threshold = youden_threshold(labels, before)
    maps = np.corrcoef(exact["activation_map"].ravel(), small["activation_map"].ravel())[0, 1]
    report = {
        "auc_loss": auc(labels, before) - auc(labels, after),
        "agreement": float(((before >= threshold) == (after >= threshold)).mean()),
        "map_correlation": float(maps),
    }
    if (
        not report["auc_loss"] <= AUC_LOSS
        or not report["agreement"] >= AGREEMENT
        or not report["map_correlation"] >= MAP_CORRELATION
    ):
        raise ParityError(f"int8 differs too much from float: {report}")
    return report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this stage."""
    parser.add_argument("--run", type=Path, required=True, help="folder of an exported run")
    parser.add_argument("--data", type=Path, required=True, help="folder with NORMAL and PNEUMONIA")


def main(options: argparse.Namespace) -> int:
    """Run the stage; returns the exit status."""
    path = quantize(options.run, options.data)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0

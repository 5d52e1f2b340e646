"""Turn a trained run into a float ONNX graph whose outputs are asked for by name."""

from __future__ import annotations

import argparse
from pathlib import Path

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

from app.cxr.model import OUTPUTS, open_graph
from model_export.gate import load_gate
from model_export.network import with_explanation
from model_export.runs import load_members

OPSET = 18  # the highest that tf2onnx 1.17 writes
FLOAT_GRAPH = "float.onnx"
TOLERANCE = 1e-4


class ParityError(RuntimeError):
    """A stage's output does not say what the stage before it says."""


def export(run: Path) -> Path:
    """Write ``float.onnx`` into the run; raises ParityError where it differs from Keras."""
    model = with_explanation(load_members(run), load_gate(run))
    size = model.input_shape[1]
    signature = [tf.TensorSpec((None, size, size, 1), tf.float32, name="image")]

    @tf.function(input_signature=signature)
    def graph(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(model(image, training=False))

    path = run / FLOAT_GRAPH
    converted, _ = tf2onnx.convert.from_function(graph, signature, opset=OPSET)
    name_the_enlarging(converted.graph)
    onnx.save(converted, path)
    check_parity(model, path, size)
    return path


def name_the_enlarging(graph: onnx.GraphProto) -> None:
    """Say "repeat every cell" in today's words: tf2onnx writes a mode of Resize that ONNX dropped.

    For whole factors ``asymmetric`` with ``floor`` is the same mapping.
    """
    words = {"coordinate_transformation_mode": b"asymmetric", "nearest_mode": b"floor"}
    for node in graph.node:
        if node.op_type == "Resize":
            for attribute in node.attribute:
                if attribute.name in words:
                    attribute.s = words[attribute.name]


def check_parity(model: keras.Model, path: Path, size: int) -> None:
    """Compare every output of the ONNX graph with Keras on noise of several kinds."""
    generator = np.random.default_rng(0)
    images = [np.full((size, size, 1), grey) for grey in (0.0, 127.0, 255.0)]
    images += [generator.uniform(0, 255, (size, size, 1)) for _ in range(3)]
    session = open_graph(path)
    for image in images:
        batch = image[np.newaxis].astype(np.float32)
        expected = model(batch, training=False)
        for name, found in zip(OUTPUTS, session.run(OUTPUTS, {"image": batch}), strict=True):
            wanted = np.asarray(expected[name])
            limit = TOLERANCE * max(1.0, float(np.abs(wanted).max()))
            gap = float(np.abs(np.asarray(found) - wanted).max())
            if not gap <= limit:
                raise ParityError(f"{name} differs from Keras by {gap:.2g} (limit {limit:.2g})")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this stage."""
    parser.add_argument("--run", type=Path, required=True, help="folder of a trained run")


def main(options: argparse.Namespace) -> int:
    """Run the stage; returns the exit status."""
    path = export(options.run)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, equal to Keras within {TOLERANCE}")
    return 0

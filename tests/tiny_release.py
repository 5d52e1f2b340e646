"""A model release small enough to build for every test: its graph is three means of the film.

The logit rises with the film's brightness, the map is the film's brightness on a 5 x 5 grid, and
the gate lets pass what is not nearly black; so a test can say beforehand what the answer must be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

from model_export.phantom import chest_film

SIZE = 40
GRID = 5
Manifest = dict[str, Any]


def logit_of(grey: float) -> float:
    """What the graph says of a film whose mean grey is ``grey``."""
    return (grey - 100.0) / 20.0


def write_graph(path: Path, outputs: tuple[str, ...] = ("logit", "activation_map", "film_score")):
    """``image`` to the three outputs of every release, by ten nodes."""
    cell = SIZE // GRID
    constants = {"middle": 100.0, "spread": 20.0, "dark": 5.0}
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool", ["planes"], ["cells"], kernel_shape=[cell, cell], strides=[cell, cell]
        ),
        helper.make_node("Sub", ["cells", "middle"], ["centred"]),
        helper.make_node("Div", ["centred", "spread"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["activation_map"], perm=[0, 2, 3, 1]),
        helper.make_node("GlobalAveragePool", ["scaled"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["logit"]),
        helper.make_node("GlobalAveragePool", ["planes"], ["grey"]),
        helper.make_node("Flatten", ["grey"], ["flat"]),
        helper.make_node("Sub", ["flat", "dark"], ["film_score"]),
    ]
    shapes = {
        "logit": (None, 1),
        "activation_map": (None, GRID, GRID, 1),
        "film_score": (None, 1),
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (None, SIZE, SIZE, 1))],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shapes[n]) for n in outputs],
        [helper.make_tensor(n, TensorProto.FLOAT, [], [v]) for n, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def make_release(folder: Path, change: Callable[[Manifest], None] | None = None) -> Path:
    """Write a whole release into ``folder``; ``change`` may spoil its manifest on the way."""
    (folder / "self_test").mkdir(parents=True)
    write_graph(folder / "model.onnx")
    film = chest_film(1, (80, 80))
    Image.fromarray(film).save(folder / "self_test" / "film.png")
    seen = Image.fromarray(film).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    point = {"threshold": 0.5, "lower": 0.4, "upper": 0.6}
    manifest: Manifest = {
        "format": 1,
        "name": "tiny",
        "version": "1.2.3",
        "graph": "model.onnx",
        "input": {"size": SIZE, "channels": 1, "dtype": "float32", "range": [0, 255]},
        "calibration": {"slope": 1.0, "intercept": 0.0},
        "operating_points": {
            "under_5": {"threshold": 0.3, "lower": 0.25, "upper": 0.35},
            "unknown": point,
        },
        "activation_map": {"low": 0.0, "high": 5.0},
        "gate": {"threshold": 0.0},
        "self_test": [
            {
                "file": "self_test/film.png",
                "logit": logit_of(float(np.asarray(seen, np.float64).mean())),
                "tolerance": 0.01,
            }
        ],
    }
    manifest["files"] = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("model.onnx", "self_test/film.png")
    }
    if change is not None:
        change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder

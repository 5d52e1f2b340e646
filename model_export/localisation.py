"""Does the map point at the disease: its peak against radiologists' boxes.

And would any map do? The same peaks with the network's weights shuffled: a map that still points
well, or still looks the same, was drawn by the film's outlines and not by what was learnt
(Adebayo et al. 2018, "Sanity checks for saliency maps").
"""

from __future__ import annotations

import csv
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from scipy.stats import spearmanr
from tqdm import tqdm

from app.cxr.analysis import LIKELY, Analysis
from app.cxr.model import open_graph
from app.cxr.regions import body_mask, peak
from model_export.datasets import LabelledFilm
from model_export.figures import Figures, Pair, drawn, patient_of, share

Box = tuple[float, float, float, float]
SEEDS = range(5)
QUANTIZED = ("QuantizeLinear", "DequantizeLinear")


def read_boxes(path: Path) -> dict[str, list[Box]]:
    """Boxes by file name from a table with the columns file, x, y, w, h in pixels of the image."""
    boxes: dict[str, list[Box]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            x, y, width, height = (float(row[name]) for name in ("x", "y", "w", "h"))
            boxes[row["file"]].append((x, y, width, height))
    return dict(boxes)


def is_inside(point: tuple[int, int], boxes: Sequence[Box]) -> bool:
    """Whether a point lies in any of the boxes; in two of them it counts once."""
    return any(x <= point[0] <= x + w and y <= point[1] <= y + h for x, y, w, h in boxes)


def covered(boxes: Sequence[Box], width: int, height: int) -> float:
    """Share of a film's area that lies in any box: what a peak thrown blindly would hit."""
    film = np.zeros((height, width), bool)
    for x, y, w, h in boxes:
        left, top = max(0, round(x)), max(0, round(y))
        film[top : max(top, round(y + h)), left : max(left, round(x + w))] = True
    return float(film.mean())


def localisation(pairs: Sequence[Pair], boxes: Mapping[str, list[Box]]) -> Figures:
    """Share of films whose peak lies in a box: of those called likely, and of all scored."""
    known = [pair for pair in pairs if boxes.get(pair[0].path.name) and pair[1].peak is not None]
    likely = [pair for pair in known if pair[1].answer == LIKELY]
    areas = [
        covered(boxes[film.path.name], analysis.width or 1, analysis.height or 1)
        for film, analysis in known
    ]
    return {
        "likely": _hits(likely, boxes),
        "all": _hits(known, boxes),
        "chance": float(np.mean(areas)) if areas else None,
    }


def _hits(pairs: Sequence[Pair], boxes: Mapping[str, list[Box]]) -> Figures:
    hits = sum(is_inside(a.peak, boxes[f.path.name]) for f, a in pairs if a.peak is not None)
    return {"hits": hits, "films": len(pairs), **share(hits, len(pairs))}


# --- the network without what it learnt -------------------------------------------------------


def shuffled(graph: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The graph with the values of every weight in another order: the same numbers, nothing learnt.

    Scales and zero points of an int8 graph stay, and so does by how much a Resize enlarges: they
    belong to the coding and the shape, not to the knowledge.
    """
    dice = np.random.default_rng(seed)
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    coding = {
        name
        for node in graph.graph.node
        if node.op_type in {*QUANTIZED, "Resize"}
        for name in node.input[1:]
    }
    coded = {node.input[0] for node in graph.graph.node if node.op_type == "DequantizeLinear"}
    for tensor in changed.graph.initializer:
        values = numpy_helper.to_array(tensor)
        is_weight = values.dtype == np.float32 or tensor.name in coded
        if is_weight and tensor.name not in coding and values.size > 1:
            mixed = dice.permutation(values.ravel()).reshape(values.shape)
            tensor.CopyFrom(numpy_helper.from_array(mixed, tensor.name))
    return changed


def maps_of(graph: Path, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The raw activation map of every film, one thread."""
    session = open_graph(graph)
    return [
        np.asarray(session.run(["activation_map"], {"image": model_input})[0])[0, :, :, 0]
        for model_input in inputs
    ]


def randomised(
    graph: Path,
    inputs: Sequence[np.ndarray],
    pairs: Sequence[Pair],
    boxes: Mapping[str, list[Box]],
) -> Figures:
    """Hit rate of networks with shuffled weights, and how like theirs the true maps are.

    Means over a few fixed seeds of shuffling, intervals by patient.
    """
    chosen = [index for index, (film, _) in enumerate(pairs) if boxes.get(film.path.name)]
    films = [pairs[index] for index in chosen]
    films_inputs = [inputs[index] for index in chosen]
    true_maps = maps_of(graph, films_inputs)
    bodies = [body_mask(np.rint(seen[0, :, :, 0]).astype(np.uint8)) for seen in films_inputs]
    model = onnx.load(graph)
    hits, likeness = [], []
    for seed in tqdm(SEEDS, desc="shuffling weights", unit="network", leave=False):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "shuffled.onnx"
            onnx.save(shuffled(model, seed), path)
            maps = maps_of(path, films_inputs)
        hits.append(
            [
                _hit(found, body, *pair, boxes)
                for found, body, pair in zip(maps, bodies, films, strict=True)
            ]
        )
        likeness.append([alike(a, b) for a, b in zip(true_maps, maps, strict=True)])
    patients = np.array([patient_of(film) for film, _ in films], str)
    return {
        "graph": graph.name,
        "networks": len(SEEDS),
        "films": len(films),
        "hit_rate": _mean(hits, patients),
        "map_correlation": _mean(likeness, patients),
    }


def _hit(
    found: np.ndarray,
    body: np.ndarray,
    film: LabelledFilm,
    analysis: Analysis,
    boxes: Mapping[str, list[Box]],
) -> float:
    point = peak(found, analysis.width or 1, analysis.height or 1, body)
    return float(is_inside(point, boxes[film.path.name]))


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's correlation of two maps; 0 where one of them is flat and says nothing."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


def _mean(rows: list[list[float]], patients: np.ndarray) -> Figures:
    values: Any = np.array(rows, float).mean(axis=0)
    return drawn(lambda _, chosen: float(chosen.mean()), values, values, patients)

"""Go on from a release with films that clinics sent, without forgetting what it knew.

A packed release holds an int8 graph with batch normalisation folded into the convolutions. Its
networks are read back out of it by the names of their layers: kernels of 7 bits times their scale,
which is what the clinic's computer multiplies with, so the start answers as the release does but
for the rounding between layers (release 0.3.0 on 255 held-out children's films: AUC 0.991 and
0.991, correlation of the scores 0.9999). What training had below the rounding is lost; where the
run itself was kept, continue from that.

Against forgetting (French 1999): old films in every batch (rehearsal), the release as a teacher of
old and new films (Li & Hoiem 2018), a low rate, few epochs, and batch normalisation that stays as
it was released, so that the first step already sees the network that clinics have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import onnx
from onnx import numpy_helper

from app.cxr.release import MANIFEST, Release
from model_export.configs import Experiment
from model_export.datasets import LabelledFilm, load_contributions
from model_export.network import MAP, BatchNormalization
from model_export.runs import input_size, load_members

# Names of tf2onnx: .../member0_1/block3_expand_1/convolution/...
_OF_LAYER = re.compile(r"member(\d+)(?:_\d+)?/(\w+?)(?:_\d+)?/(?:convolution|depthwise)")
Kernel = tuple[np.ndarray, np.ndarray]


class NotContinued(ValueError):
    """The release cannot be gone on with; the text says why."""


@dataclass(frozen=True)
class Continuation:
    """``release``: a packed release or a finished run; ``member``: which of its networks, from 0;
    ``new``: the folder that ``merge`` made.
    """

    release: Path
    member: int
    new: Path

    def check(self, experiment: Experiment) -> None:
        """Raises NotContinued where the experiment does not fit."""
        size = input_size(self.release)
        if experiment.size != size:
            raise NotContinued(f"{self.release} sees {size} pixels, not {experiment.size}")
        if not 0 < experiment.new_share < 1:
            raise NotContinued(f"{experiment.name} mixes no old films with new ones")

    def films(self) -> list[LabelledFilm]:
        """The new films; raises NotContinued where there is none."""
        films = load_contributions(self.new)
        if not films:
            raise NotContinued(f"{self.new} holds no film that can be learnt from")
        return films

    def load_weights(self, model: keras.Model) -> None:
        """Set a classifier to the network of the release; its normalisation is not trained."""
        if (self.release / MANIFEST).exists():
            set_kernels(model, kernels(Release.load(self.release).graph, self.member))
        else:
            model.set_weights(self._of_run().get_weights())
        for layer in model.layers:
            if isinstance(layer, BatchNormalization):
                layer.trainable = False

    def _of_run(self) -> keras.Model:
        members = load_members(self.release)
        if not 0 <= self.member < len(members):
            raise NotContinued(f"{self.release} has {len(members)} networks, from 0")
        return members[self.member]


def kernels(graph: Path, member: int) -> dict[str, Kernel]:
    """Kernel and bias of every convolution of a network in an exported graph, by its layer.

    Kernels are as ONNX has them, float32 ``(outputs, inputs, rows, columns)``. Raises NotContinued.
    """
    nodes = onnx.load(graph).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in nodes.initializer}
    makers = {name: node for node in nodes.node for name in node.output}
    found: dict[str, Kernel] = {}
    for layer, node in _convolutions_of(nodes, makers, member):
        values = [
            constants[one] if one in constants else _decoded(makers[one], constants)
            for one in node.input[1:]
        ]
        bias = values[1].ravel() if len(values) == 2 else np.zeros(len(values[0]), np.float32)
        found[layer] = (values[0], bias)
    if not found:
        raise NotContinued(f"{graph} holds no network {member} that was made by export")
    return found


def _convolutions_of(
    graph: onnx.GraphProto, makers: dict[str, onnx.NodeProto], member: int
) -> Iterator[tuple[str, onnx.NodeProto]]:
    """The convolutions that the map of a network is made by, with their layers.

    Only the map's kernel tells whose it is: of constants that two networks have in common, those of
    a layer that training never moved for instance, tf2onnx keeps one.
    """
    convolutions = {
        node.output[0]: (name[1], name[2])
        for node in graph.node
        if node.op_type == "Conv" and (name := _OF_LAYER.search(node.input[1]))
    }
    waiting = [one for one, whose in convolutions.items() if whose == (str(member), MAP)]
    seen: set[str] = set()
    while waiting:
        output = waiting.pop()
        if output in seen or output not in makers:
            continue
        seen.add(output)
        node = makers[output]
        if output in convolutions:
            yield convolutions[output][1], node
        waiting.extend(node.input)


def _decoded(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> np.ndarray:
    """What DequantizeLinear gives for constants, with a scale for each channel or for all."""
    codes, scale, *zero = (constants[name] for name in node.input)
    axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
    shape = [1] * codes.ndim
    if scale.ndim and codes.ndim:
        shape[axis] = -1
    offset = zero[0].reshape(shape).astype(np.int32) if zero else 0
    return np.asarray((codes.astype(np.int32) - offset) * scale.reshape(shape), np.float32)


def set_kernels(model: keras.Model, found: dict[str, Kernel]) -> None:
    """Put folded kernels into a classifier; raises NotContinued where one is missing or not alike.

    Each normalisation then only adds the bias: mean 0, variance 1, and a factor of their square
    root, epsilon included.
    """
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            continue
        if layer.name not in found:
            raise NotContinued(f"the graph has no layer {layer.name}")
        kernel, bias = found[layer.name]
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        ours = kernel.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
        if ours.shape != tuple(layer.kernel.shape):
            raise NotContinued(f"the layer {layer.name} of the graph is of another shape")
        if layer.name == MAP:
            layer.set_weights([ours, bias])
            continue
        layer.set_weights([ours])
        normalisation = model.get_layer(f"{layer.name}_bn")
        ones = np.ones_like(bias)
        factor = ones * np.sqrt(1 + normalisation.epsilon)
        normalisation.set_weights([factor, bias, 0 * ones, ones])

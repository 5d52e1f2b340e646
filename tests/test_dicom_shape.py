"""A file that is made to exhaust its reader is told before anything is built of it."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from app.cxr.dicom_structure import DEEPEST, MOST_ELEMENTS
from app.cxr.radiograph import UnreadableFilm, read_radiograph
from tests import films

PIXELS = np.arange(128 * 128, dtype=np.uint16).reshape(128, 128)
ENDLESS = 0xFFFFFFFF
OPENING = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, ENDLESS)
ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
OPEN_ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, ENDLESS)
ENDS = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
EMPTY = struct.pack("<HH2sH", 0x0009, 0x1001, b"LO", 0)
BOMBS = {
    "items": OPENING + ITEM * 400_000,
    "elements": EMPTY * 400_000,
    "nesting": (OPENING + OPEN_ITEM) * 500 + ENDS * 500,
}


def with_front(front: bytes, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    """A film with more before its own elements, which pydicom reads first."""
    found = films.dataset(PIXELS, 12)
    whole = films.written(found)
    begin = 144 + int.from_bytes(whole[140:144], "little")
    if syntax == ExplicitVRLittleEndian:
        return whole[:begin] + front + whole[begin:]
    found.file_meta.TransferSyntaxUID = syntax
    deflated = films.written(found)
    begin_deflated = 144 + int.from_bytes(deflated[140:144], "little")
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = packer.compress(front + whole[begin:]) + packer.flush()
    return deflated[:begin_deflated] + body + b"\0" * (len(body) % 2)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_it_is_called_damaged_and_costs_little(bomb: bytes, syntax: UID) -> None:
    content = with_front(bomb, syntax)
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableFilm) as caught:
            read_radiograph(content)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.code == "damaged"
    assert most < 40 * 1024**2


def test_a_film_with_many_elements_is_still_read() -> None:
    few = with_front(EMPTY * (MOST_ELEMENTS // 2))
    assert read_radiograph(few).pixels.shape == (128, 128)


def test_a_film_with_some_depth_is_still_read() -> None:
    depth = DEEPEST // 2 - 1
    deep = with_front((OPENING + OPEN_ITEM) * depth + ENDS * depth)
    assert read_radiograph(deep).pixels.shape == (128, 128)

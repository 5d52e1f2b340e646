"""The film as DICOM: whole, and well formed with elements that make no sense."""

from __future__ import annotations

import io
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian

from tests import films
from tests.fuzz.mutations import EDGES
from tests.fuzz.whole import FILM
from tests.test_dicom_transfer_syntaxes import COMPRESSED, DEPTHS, compressed, written

Element = tuple[int, bytes, bytes]

#: Value representations whose length has 32 bits (PS3.5, 7.1.2).
LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
VRS = tuple(b"AE AS CS DA DS DT FL IS LO OB OW PN SH SL SQ SS TM UI UL UN US UT XX".split())
UNDEFINED = 0xFFFFFFFF


def dicoms(folder: Path) -> list[bytes]:
    """The film as DICOM in every depth and, where DCMTK is there, every compressed syntax."""
    made = [written(depth.store(FILM, "MONOCHROME1")) for depth in DEPTHS.values()]
    made.append(films.dicom(np.asarray(films.rgb(FILM))))
    made.append(
        films.dicom(
            np.stack([FILM, FILM]), NumberOfFrames=2, Rows=FILM.shape[0], Columns=FILM.shape[1]
        )
    )
    if shutil.which("dcmcjpeg"):
        made += [written(compressed(syntax, folder, FILM)) for syntax in COMPRESSED]
    return made


def elements(content: bytes) -> tuple[bytes, list[Element]]:
    """Preamble and file meta information of a file, and its elements as they are written there."""
    found = pydicom.dcmread(io.BytesIO(content))
    if found.file_meta.TransferSyntaxUID in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.2"):
        found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    raw = [found.get_item(tag) for tag in found.keys()]  # noqa: SIM118  items would convert them
    listed = [(int(one.tag), str(one.VR).encode(), bytes(one.value or b"")) for one in raw]
    head = content[: content.index(struct.pack("<HH", listed[0][0] >> 16, listed[0][0] & 0xFFFF))]
    return head, listed


def joined(head: bytes, listed: list[Element]) -> bytes:
    """The file of such elements."""
    return head + b"".join(_element(*one) for one in listed)


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    start = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    if tag == 0x7FE00010 and value.startswith(b"\xfe\xff\x00\xe0"):  # encapsulated frames
        return (
            start + b"\0\0" + struct.pack("<I", UNDEFINED) + value + b"\xfe\xff\xdd\xe0" + bytes(4)
        )
    if vr in LONG:
        return start + b"\0\0" + struct.pack("<I", len(value)) + value
    return start + struct.pack("<H", len(value) & 0xFFFF) + value


_values = st.one_of(
    st.sampled_from(EDGES).map(lambda one: struct.pack("<I", one)),
    st.sampled_from(EDGES).map(lambda one: struct.pack("<H", one & 0xFFFF)),
    st.sampled_from(EDGES).map(lambda one: str(one).encode()),
    st.sampled_from(
        [b"", b"-1", b"1e400", b"nan", b"\\" * 9, b"RGB", b"YBR_FULL_422", b"PALETTE COLOR "]
    ),
    st.binary(max_size=64),
    st.text(max_size=20).map(lambda one: one.encode("utf-8", "surrogatepass")),
)


@st.composite
def dicom_with_odd_elements(draw: Any, whole: list[tuple[bytes, list[Element]]]) -> bytes:
    """A DICOM file that is well formed, with values, kinds or places of elements that are not."""
    head, given = draw(st.sampled_from(whole))
    listed = list(given)
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(listed) - 1))
        tag, vr, value = listed[at]
        what = draw(st.sampled_from(("value", "value", "value", "kind", "drop", "double", "nest")))
        if what == "value":
            listed[at] = (tag, vr, draw(_values))
        elif what == "kind":
            listed[at] = (tag, draw(st.sampled_from(VRS)), value)
        elif what == "drop" and len(listed) > 1:
            del listed[at]
        elif what == "double":
            listed.insert(at, (tag, vr, draw(_values)))
        elif what == "nest":
            depth = draw(st.sampled_from((1, 3, 200, 3000)))
            item = b"\xfe\xff\x00\xe0" + struct.pack("<I", UNDEFINED)
            inside = (
                item + struct.pack("<HH", 0x0008, 0x1140) + b"SQ\0\0" + struct.pack("<I", UNDEFINED)
            ) * depth
            listed.insert(at, (0x00081140, b"SQ", inside))
    return joined(head, listed)

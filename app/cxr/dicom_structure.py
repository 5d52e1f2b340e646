"""The shape of an encoded data set (PS3.5, 7), walked without building anything of it.

A data set of two megabytes can hold a quarter of a million empty items, nested as deep as it likes;
whoever builds them all needs a hundred times the memory. Here they are counted first.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import BinaryIO

#: Elements and items before the pixels. Films have a few hundred; those of fifty frames, thousands.
MOST_ELEMENTS = 20_000
#: Levels of sequences within sequences. Films have three or four.
DEEPEST = 32
#: No value that is asked for is longer (PS3.5, 6.2: the longest is a UI or an SH).
LONGEST_VALUE = 128

_PIXELS = 0x7FE00008  # float and double float pixels, and (7FE0,0010)
_ITEM, _ITEM_ENDS, _SEQUENCE_ENDS = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
#: Their length has four bytes, after two that are reserved (PS3.5, 7.1.2).
_LONG = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)


class Malformed(Exception):
    """The data set is no data set, ends too early, or is made to exhaust its reader.

    ``code``: ``truncated``, ``too_many_elements``, ``too_deep`` or ``no_data_set``.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class _Walk:
    file: BinaryIO
    order: str
    size: int
    #: For each open sequence or item of undefined length whether VRs are explicit inside it; None
    #: where what is inside are fragments of pixels (PS3.5, A.4).
    explicit: list[bool | None]
    counted: int = 0
    found: dict[int, bytes] = field(default_factory=dict)


def values_of(
    file: BinaryIO, explicit: bool, little_endian: bool, tags: Collection[int]
) -> dict[int, bytes]:
    """The raw values of ``tags`` at the top level of the data set that begins here.

    Raises Malformed. Pixels are not looked at, but they must all be there.
    """
    begin = file.tell()
    size = file.seek(0, 2)
    file.seek(begin)
    walk = _Walk(file, "<" if little_endian else ">", size, [explicit])
    while _take_element(walk, tags):
        walk.counted += 1
        if walk.counted > MOST_ELEMENTS:
            raise Malformed("too_many_elements")
    if not walk.counted or len(walk.explicit) > 1:
        raise Malformed("truncated" if walk.counted else "no_data_set")
    return walk.found


def _take_element(walk: _Walk, tags: Collection[int]) -> bool:
    """Read the next element's head and go past its value; whether there may be more."""
    head = walk.file.read(8)
    if not head:
        return False
    if len(head) < 8:
        raise Malformed("truncated")
    group, element = struct.unpack(walk.order + "HH", head[:4])
    tag = group << 16 | element
    if group == 0xFFFE:
        _take_delimiter(walk, tag, struct.unpack(walk.order + "L", head[4:])[0])
        return True
    vr, length = _length(walk, head)
    if length == _UNDEFINED:
        if tag >= _PIXELS and len(walk.explicit) == 1:
            return False  # frames in fragments: whoever decodes them knows how to read them
        _enter(walk, _inside(vr, walk.explicit[-1]))
        return True
    if walk.file.tell() + length > walk.size:
        raise Malformed("truncated")
    _take_value(walk, tag, length, tags)
    return not (tag >= _PIXELS and len(walk.explicit) == 1)


def _take_value(walk: _Walk, tag: int, length: int, tags: Collection[int]) -> None:
    if len(walk.explicit) == 1 and tag in tags and length <= LONGEST_VALUE:
        walk.found[tag] = walk.file.read(length)
    else:
        walk.file.seek(length, 1)


def _inside(vr: bytes, explicit: bool | None) -> bool | None:
    if vr in (b"OB", b"OW"):
        return None
    # What is unknown is encoded with implicit VRs inside (PS3.5, 6.2.2 note 2)
    return explicit and vr != b"UN"


def _length(walk: _Walk, head: bytes) -> tuple[bytes, int]:
    """VR (empty where it is implicit) and length of the value."""
    if walk.explicit[-1] is None:
        raise Malformed("no_data_set")
    if not walk.explicit[-1]:
        return b"", int(struct.unpack(walk.order + "L", head[4:])[0])
    vr = head[4:6]
    if not vr.isalpha():
        raise Malformed("no_data_set")
    if vr not in _LONG:
        return vr, int(struct.unpack(walk.order + "H", head[6:])[0])
    more = walk.file.read(4)
    if len(more) < 4:
        raise Malformed("truncated")
    return vr, int(struct.unpack(walk.order + "L", more)[0])


def _take_delimiter(walk: _Walk, tag: int, length: int) -> None:
    """An item begins, or it or its sequence ends. Of items with a length the inside is walked."""
    if tag == _ITEM and walk.explicit[-1] is None:
        if walk.file.tell() + length > walk.size:
            raise Malformed("truncated")
        walk.file.seek(length, 1)
    elif tag == _ITEM and length == _UNDEFINED:
        _enter(walk, walk.explicit[-1])
    elif tag in (_ITEM_ENDS, _SEQUENCE_ENDS):
        if len(walk.explicit) == 1:
            raise Malformed("no_data_set")
        walk.explicit.pop()


def _enter(walk: _Walk, explicit: bool | None) -> None:
    walk.explicit.append(explicit)
    if len(walk.explicit) > DEEPEST:
        raise Malformed("too_deep")

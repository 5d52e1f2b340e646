"""Files that were whole once: what bad sticks, broken transfers and hostile senders make of it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

#: Numbers at which lengths, offsets and sizes go over an edge.
EDGES = (0, 1, 2, 7, 8, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)
Edit = Callable[[bytearray], bytearray]
Chunk = tuple[bytes, bytes]
SIGNATURE = b"\x89PNG\r\n\x1a\n"

#: Parts of a file's length, of 1; from whole numbers, which are drawn three times as quickly.
_places = st.integers(0, 10_000).map(lambda one: one / 10_000)
_spans = st.one_of(st.integers(1, 8), st.integers(1, 4096))


def _at(content: bytearray, place: float) -> int:
    return int(place * max(len(content) - 1, 0))


def _overwrite(place: float, value: bytes) -> Edit:
    def edit(content: bytearray) -> bytearray:
        start = _at(content, place)
        content[start : start + len(value)] = value
        return content

    return edit


def _insert(place: float, value: bytes) -> Edit:
    def edit(content: bytearray) -> bytearray:
        start = _at(content, place)
        content[start:start] = value
        return content

    return edit


def _cut(place: float, length: int) -> Edit:
    def edit(content: bytearray) -> bytearray:
        start = _at(content, place)
        del content[start : start + length]
        return content

    return edit


def _repeat(place: float, length: int, to: float) -> Edit:
    def edit(content: bytearray) -> bytearray:
        start, end = _at(content, place), _at(content, to)
        content[end:end] = content[start : start + length]
        return content

    return edit


def _end(place: float) -> Edit:
    return lambda content: content[: _at(content, place)]


def _numbers() -> st.SearchStrategy[bytes]:
    forms = st.sampled_from(["B", "<H", ">H", "<I", ">I"])

    def written(form: str, value: int) -> bytes:
        return struct.pack(form, value & (2 ** (8 * struct.calcsize(form)) - 1))

    return st.builds(written, forms, st.sampled_from(EDGES))


#: Near the beginning is where a file says what it is.
_early = st.one_of(_places, _places.map(lambda one: one / 20))
edits: st.SearchStrategy[Edit] = st.one_of(
    st.builds(_overwrite, _early, _numbers()),
    st.builds(_overwrite, _early, st.binary(min_size=1, max_size=16)),
    st.builds(_insert, _early, st.binary(min_size=1, max_size=64)),
    st.builds(_cut, _early, _spans),
    st.builds(_repeat, _places, _spans, _places),
    st.builds(_end, _places),
)


@st.composite
def mutated(draw: Any, whole: Sequence[bytes]) -> bytes:
    """One of the files with one to six changes; sometimes it goes on as another one."""
    one = draw(st.sampled_from(whole))
    content = bytearray(one)
    for edit in draw(st.lists(edits, min_size=1, max_size=6)):
        content = edit(content)
    if draw(st.integers(0, 15)) == 0:
        other = draw(st.sampled_from(whole))
        content += other[_at(bytearray(other), draw(_places)) :]
    # What comes to nothing would be no malformed file
    return bytes(content if content != one else content[:-1])


@st.composite
def png_with_true_sums(draw: Any, whole: Sequence[bytes]) -> bytes:
    """A PNG whose chunks say wrong things under right checksums: so that decoders believe them."""
    one = draw(st.sampled_from(whole))
    chunks = chunks_of(one)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(chunks) - 1))
        kind, body = chunks[at]
        if draw(st.booleans()):
            chunks[at] = (kind, bytes(draw(edits)(bytearray(body or b"\0"))))
        else:
            chunks.insert(draw(st.integers(0, len(chunks))), (kind, body))
    content = png_of(chunks)
    return content if content != one else one[:-1]


def chunks_of(content: bytes) -> list[Chunk]:
    """Kind and body of what a PNG consists of."""
    found, at = [], len(SIGNATURE)
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        found.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def png_of(chunks: Sequence[Chunk]) -> bytes:
    """The PNG of such chunks."""
    return SIGNATURE + b"".join(map(_chunk, chunks))


def _chunk(chunk: Chunk) -> bytes:
    kind, body = chunk
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

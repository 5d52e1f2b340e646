"""The update file as a source of named members: a ZIP that is distrusted from its last byte on.

Nothing is ever unpacked by the names that the file gives: a caller asks for a name and a length,
and gets no byte beyond it. All that is wrong comes out as UpdateRefused.
"""

from __future__ import annotations

import contextlib
import errno
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

from app.cxr.update_format import (
    LARGEST_DIRECTORY,
    LARGEST_FILE,
    LARGEST_UNPACKED,
    MOST_MEMBERS,
    clash,
    is_fit_name,
)
from app.updates.refused import UpdateRefused

CHUNK = 256 * 1024
# APPNOTE.TXT 4.3.16, the end of central directory record, and 4.3.7, the local file header
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE, _FIRST_SIGNATURE = b"PK\5\6", b"PK\3\4"
_LOCAL_HEADER_BYTES = 30
# Encrypted, strongly encrypted, with an encrypted directory (APPNOTE.TXT 4.4.4)
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000

# All that zipfile and zlib raise over bytes that are not what they should be
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    struct.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    IndexError,
    KeyError,
)


class Source(Protocol):
    """Where the members of an update are read from."""

    def __contains__(self, name: object) -> bool:
        """Whether there is a member of this very name."""

    def chunks(self, name: str, limit: int) -> Iterator[bytes]:
        """The bytes of a member; raises UpdateRefused at the first beyond ``limit``."""


class Archive:
    """An update file, open to be read in place. Use it in a ``with`` block."""

    def __init__(self, path: Path) -> None:
        with _told():
            if path.is_dir():
                raise UpdateRefused("not_a_file")
            self._file = path.open("rb")
        try:
            with _told():
                size = _check_ends(self._file)
                self._zip = zipfile.ZipFile(self._file)
                self._members = _members(self._zip, size)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def names(self) -> set[str]:
        """The names of all members."""
        return set(self._members)

    def chunks(self, name: str, limit: int) -> Iterator[bytes]:
        """The bytes of a member, no more than ``limit``; raises UpdateRefused."""
        member = self._members.get(name)
        if member is None:
            raise UpdateRefused("incomplete", member=name)
        if member.file_size > limit:
            raise UpdateRefused("endless", member=name)
        # zipfile ends at the size that the directory names, and then compares the CRC
        with _told(name), self._zip.open(member) as content:
            while chunk := content.read(CHUNK):
                yield chunk


class Folder:
    """Members kept as files of a folder; what is not a plain file there is not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and is_fit_name(name) and (self._folder / name).is_file()

    def chunks(self, name: str, limit: int) -> Iterator[bytes]:
        """The bytes of a member, no more than ``limit``; raises UpdateRefused."""
        if name not in self:
            raise UpdateRefused("incomplete", member=name)
        with _told(name), (self._folder / name).open("rb") as content:
            left = limit
            while chunk := content.read(CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise UpdateRefused("endless", member=name)
                yield chunk


@contextlib.contextmanager
def _told(member: str = "") -> Iterator[None]:
    """Whatever reading raises, as UpdateRefused."""
    try:
        yield
    except UpdateRefused:
        raise
    except OSError as error:
        raise UpdateRefused(_fault_of(error)) from error
    except _DAMAGE as error:
        raise UpdateRefused("damaged", member=member) from error


def _fault_of(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "file_missing"
    # Windows refuses to open a folder as it refuses what one has no right to
    if isinstance(error, IsADirectoryError):
        return "not_a_file"
    if isinstance(error, PermissionError) or error.errno == errno.EACCES:
        return "not_allowed"
    return "stick_gone"


def _check_ends(file: IO[bytes]) -> int:
    """The size of the file, once first and last bytes are those of a plain, whole, small ZIP.

    zipfile would search for an end, put up with anything before, between and behind, and read a
    directory of any size.
    """
    size = file.seek(0, 2)
    if size > LARGEST_FILE:
        raise UpdateRefused("too_large")
    file.seek(0)
    if file.read(len(_FIRST_SIGNATURE)) != _FIRST_SIGNATURE:
        raise UpdateRefused("not_an_update")
    if size < _END.size:
        raise UpdateRefused("cut_short")
    file.seek(size - _END.size)
    found = _END.unpack(file.read(_END.size))
    signature, disk, first_disk, here, entries, length, offset, comment = found
    if signature != _END_SIGNATURE or comment:
        raise UpdateRefused("cut_short")
    if entries > MOST_MEMBERS or length > LARGEST_DIRECTORY:
        raise UpdateRefused("bomb")
    if disk or first_disk or here != entries or offset + length + _END.size != size:
        raise UpdateRefused("damaged", member="")
    return size


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The members by name, each of them and all together found harmless."""
    listed = archive.infolist()
    for member in listed:
        _check(member)
    if again := clash(member.orig_filename for member in listed):
        raise UpdateRefused("duplicate_name", member=again)
    if sum(member.file_size for member in listed) > LARGEST_UNPACKED:
        raise UpdateRefused("bomb")
    # Members that share their bytes make a small file unpack to any size (Fifield 2019)
    end = 0
    for member in sorted(listed, key=lambda one: one.header_offset):
        if member.header_offset < end:
            raise UpdateRefused("bomb")
        name_bytes = len(member.orig_filename.encode())
        end = member.header_offset + _LOCAL_HEADER_BYTES + name_bytes + member.compress_size
    if end > size:
        raise UpdateRefused("damaged", member="")
    return {member.orig_filename: member for member in listed}


def _check(member: zipfile.ZipInfo) -> None:
    # zipfile cuts a name at its first zero and turns the system's own separator round;
    # ``orig_filename`` is what the file says
    name = member.orig_filename
    if not is_fit_name(name) or name != member.filename:
        raise UpdateRefused("odd_name", member=repr(name)[1:-1][:60])
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        raise UpdateRefused("link", member=name)
    if member.flag_bits & _ENCRYPTED:
        raise UpdateRefused("encrypted", member=name)
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UpdateRefused("odd_compression", member=name)

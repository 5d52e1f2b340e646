"""The update file, ``.clinicupdate``: the contract of ``model_export publish`` and ``app.updates``.

A plain ZIP that holds one state of a TUF repository (The Update Framework, specification 1.0)::

    metadata/1.root.json …      every root there ever was, so that old programs can follow
    metadata/timestamp.json  snapshot.json  targets.json
    targets/update.json         what the update is (UpdateInfo)
    targets/release/…           the model release, as its own manifest lists it

Nothing executable travels: only files whose names end in one of ``TRAVELLING``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import PurePosixPath

FORMAT = 1
SUFFIX = ".clinicupdate"
METADATA, TARGETS = "metadata/", "targets/"
INFO = "update.json"
RELEASE = "release/"
#: A folder of an installed release in which the update's metadata stays; no release may have it.
KEPT = "update"

TRAVELLING = frozenset({".json", ".md", ".onnx", ".png", ".txt"})

# Far beyond any model for a clinic's laptop; what a file may ask of the computer ends here.
LARGEST_FILE = LARGEST_UNPACKED = 512 * 1024**2
LARGEST_DIRECTORY = 1024**2
MOST_MEMBERS = 1000
LARGEST_INFO = 64 * 1024
LARGEST_METADATA = {"root": 256_000, "timestamp": 16_000, "snapshot": 64_000, "targets": 512_000}
MOST_ROTATIONS = 256
LONGEST_NAME = 120

# Lower case, so that two releases stay two folders on a stick that does not tell A from a
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_VERSION = re.compile(r"\d{1,6}(\.\d{1,6}){2}(-[a-z0-9]+)?")
_PROGRAM = re.compile(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_METADATA = re.compile(METADATA + r"(?:[1-9]\d{0,5}\.(root)|(timestamp|snapshot|targets))\.json")
# Windows opens a device for these, whatever the ending
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


class UnusableInfo(Exception):
    """An ``update.json`` that says nothing this program understands; ``code`` is stable."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class UpdateInfo:
    """What an update is: ``update.json``.

    ``minimum_program``: the oldest program that may take it, such as ``0.1.0``. ``notes``: release
    notes, plain text.
    """

    name: str
    version: str
    minimum_program: str
    published: date
    notes: str

    @property
    def label(self) -> str:
        """``name@version``, as written beside every finding."""
        return f"{self.name}@{self.version}"

    @property
    def folder(self) -> str:
        """The name of the folder that the release is kept in."""
        return f"{self.name}-{self.version}"

    @property
    def is_fit(self) -> bool:
        """Whether name and versions are of the form that folders and comparisons rest on."""
        named = bool(_NAME.fullmatch(self.name) and _VERSION.fullmatch(self.version))
        named = named and len(self.folder) <= LONGEST_NAME and not _DEVICES.fullmatch(self.name)
        # A terminal obeys control characters
        shown = all(character.isprintable() or character in "\n\t" for character in self.notes)
        return named and shown and bool(_PROGRAM.fullmatch(self.minimum_program))

    def suits(self, program: str) -> bool:
        """Whether a program of this version may take the update."""
        return program_version(program) >= program_version(self.minimum_program)

    def to_bytes(self) -> bytes:
        """As the file holds it."""
        noted = {"format": FORMAT, **asdict(self), "published": self.published.isoformat()}
        return json.dumps(noted, indent=1, ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> UpdateInfo:
        """Read what ``to_bytes`` wrote; raises UnusableInfo.

        ``info_format_unknown``: a later program may read it. ``info_damaged``: none will.
        """
        try:
            noted = json.loads(data)
            if noted["format"] != FORMAT:
                raise UnusableInfo("info_format_unknown")
            words = {key: str(noted[key]) for key in ("name", "version", "minimum_program")}
            published = date.fromisoformat(noted["published"])
            info = cls(**words, published=published, notes=str(noted["notes"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UnusableInfo("info_damaged") from error
        if not info.is_fit:
            raise UnusableInfo("info_damaged")
        return info


def program_version(version: str) -> tuple[int, ...]:
    """``0.10.2`` as numbers that compare; what follows the third number counts for nothing.

    Raises ValueError.
    """
    found = _PROGRAM.match(version)
    if not found:
        raise ValueError(f"{version!r} is no version of a program")
    return tuple(map(int, found.groups()))


def is_fit_name(name: str) -> bool:
    """Whether a name of a file inside the update means one and the same everywhere: a relative
    path of plain letters, without tricks, and no device of Windows.
    """
    if not 0 < len(name) <= LONGEST_NAME:
        return False
    parts = name.split("/")
    return all(
        _PART.fullmatch(part) and not part.endswith(".") and not _DEVICES.fullmatch(part)
        for part in parts
    )


def role_of(name: str) -> str | None:
    """The TUF role whose metadata a member of this name holds, None for any other member."""
    found = _METADATA.fullmatch(name)
    return (found[1] or found[2]) if found else None


def may_travel(name: str) -> bool:
    """Whether a target of this name may be in an update."""
    if not is_fit_name(name):
        return False
    if name == INFO:
        return True
    inside = name.removeprefix(RELEASE)
    at_home = inside != name and inside.split("/")[0].lower() != KEPT
    return at_home and PurePosixPath(name).suffix in TRAVELLING


def clash(names: Iterable[str]) -> str | None:
    """A name that is there twice for a stick that does not tell A from a, or that is a file here
    and a folder there; None where there is none.
    """
    taken: set[str] = set()
    folders: set[str] = set()
    for name in names:
        plain = name.lower()
        above = {str(folder) for folder in PurePosixPath(plain).parents}
        if plain in taken or plain in folders or taken & above:
            return name
        taken.add(plain)
        folders |= above
    return None

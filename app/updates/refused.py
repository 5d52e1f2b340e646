"""Why an update is not taken."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping

# Windows says it in numbers of its own, which Python turns into ENOSPC
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


class UpdateRefused(Exception):
    """The update is not taken, and nothing has changed. ``code`` is stable; ``details`` fills the
    sentence (``app.update_words``).
    """

    def __init__(self, code: str, **details: object) -> None:
        super().__init__(f"{code} {details}" if details else code)
        self.code = code
        self.details: Mapping[str, object] = details


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """What this computer's disk will not do, as UpdateRefused."""
    try:
        yield
    except OSError as error:
        code = "disk_full" if error.errno in _FULL else "cannot_write"
        raise UpdateRefused(code) from error


#: Of the file and the stick.
FILE_CODES = frozenset(
    {
        "file_missing",
        "not_a_file",
        "not_allowed",
        "stick_gone",
        "not_an_update",
        "cut_short",
        "damaged",
        "too_large",
        "bomb",
        "odd_name",
        "duplicate_name",
        "link",
        "encrypted",
        "odd_compression",
        "stowaway",
        "incomplete",
    }
)
#: Of whose it is and what it claims to be.
TRUST_CODES = frozenset(
    {
        "no_publisher",
        "publisher_damaged",
        "unknown_key",
        "withdrawn_key",
        "too_few_signatures",
        "changed_after_signing",
        "root_not_signed",
        "root_out_of_order",
        "older_than_known",
        "mixed",
        "content_changed",
        "endless",
        "metadata_damaged",
        "not_data",
        "info_damaged",
        "info_format_unknown",
        "program_too_old",
    }
)
#: Of putting it in place.
INSTALL_CODES = frozenset(
    {
        "busy",
        "disk_full",
        "cannot_write",
        "release_unusable",
        "release_differs",
        "self_test_failed",
        "version_reused",
        "doubts_open",
        "nothing_to_go_back_to",
        "cannot_go_back",
    }
)
CODES = FILE_CODES | TRUST_CODES | INSTALL_CODES

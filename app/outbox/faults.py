"""Why results did not arrive: stable codes, which ``app.outbox_words`` puts into sentences.

Beside these stand the codes of ``app.dicom.association``: why a peer could not be spoken with.
"""

from __future__ import annotations

CODES = frozenset(
    {
        "address_unknown",
        "no_answer",
        "connection_refused",
        "kind_not_taken",
        "out_of_room",
        "turned_down",
        "broken_off",
        "no_server",
        "not_a_web_address",
        "certificate_wrong",
        "not_allowed",
        "not_found",
        "server_fault",
        "film_missing",
        "unforeseen",
    }
)


class NotSent(Exception):
    """It did not arrive. ``code``: one of CODES or of the association's; ``details`` fill its
    sentence; ``nobody_there``: nothing else would get through either; ``for_good``: trying again
    helps nothing.
    """

    def __init__(
        self, code: str, *, nobody_there: bool = False, for_good: bool = False, **details: str
    ) -> None:
        super().__init__(code)
        self.code, self.details = code, details
        self.nobody_there, self.for_good = nobody_there, for_good

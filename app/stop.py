"""What ends a command early, with a sentence instead of a traceback."""

from __future__ import annotations


class CannotStart(Exception):
    """The command ends here; the text is the sentence for the person who tried.

    ``code`` is stable and says which steps help; empty where the sentence says all there is.
    """

    def __init__(self, sentence: str, exit_code: int = 1, code: str = "") -> None:
        super().__init__(sentence)
        self.exit_code, self.code = exit_code, code

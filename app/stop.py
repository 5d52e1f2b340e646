"""What ends a command early, with a sentence instead of a traceback."""

from __future__ import annotations


class CannotStart(Exception):
    """The command ends here; the text is the sentence for the person who tried."""

    def __init__(self, sentence: str, exit_code: int = 1) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code

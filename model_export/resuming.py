"""Where a run that was stopped takes up again: the epochs that it has behind it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import keras

MONITOR = "val_logit_auc"
HISTORY, BACKUP = "history.csv", "backup"


def past_scores(history: Path) -> list[float]:
    """Validation AUC of the finished epochs of a run, oldest first; empty for a new run."""
    if not history.exists():
        return []
    with history.open(newline="", encoding="utf-8") as file:
        return [float(row[MONITOR]) for row in csv.DictReader(file)]


def forget_unsaved(run: Path) -> None:
    """Take epochs out of the history that the backup does not hold: they are trained again.

    A row is written before the backup, so whoever stops a run between the two leaves one too many.
    """
    history, saved = run / HISTORY, run / BACKUP / "training_metadata.json"
    if not history.exists():
        return
    done = json.loads(saved.read_text())["epoch"] if saved.exists() else 0
    lines = history.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines[1:] if int(line.partition(",")[0]) < done]
    if len(kept) < len(lines) - 1:
        history.write_text("".join(lines[:1] + kept), encoding="utf-8")


class ResumableEarlyStopping(keras.callbacks.EarlyStopping):
    """Early stopping that counts the epochs of an interrupted run, which are in ``history.csv``."""

    def __init__(self, history: Path, patience: int) -> None:
        super().__init__(monitor=MONITOR, mode="max", patience=patience)
        self.history = history

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Look back first."""
        super().on_train_begin(logs)
        for epoch, value in enumerate(past_scores(self.history)):
            self.on_epoch_end(epoch, {MONITOR: value})

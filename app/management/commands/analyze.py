"""``analyze PATH…``: answer films from the command line; needs no server and stores nothing."""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from app import messages
from app.cxr.release import UnusableRelease, load_active

if TYPE_CHECKING:
    from app.cxr.analysis import Analysis
    from app.cxr.model import Model

EXIT_UNREADABLE, EXIT_USAGE = 1, 2
OLDEST_AGE = 130.0


def age(text: str) -> float:
    """An age in years from the command line."""
    try:
        years = float(text)
    except ValueError:
        years = math.nan
    if not 0 <= years <= OLDEST_AGE:
        raise argparse.ArgumentTypeError(f"“{text}” is no age in years (0 to {OLDEST_AGE:.0f})")
    return years


def inputs(paths: Iterable[Path]) -> Iterator[Path]:
    """Files as given; folders opened recursively in sorted order, hidden files and folders
    skipped.
    """
    for path in paths:
        if path.is_dir():
            yield from _inside(path)
        else:
            yield path


def _inside(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError:  # a folder we may not open, or a stick pulled out: an input that cannot be read
        yield folder
        return
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            yield from _inside(entry)
        elif not entry.is_dir():
            yield entry


def result(path: Path, analysis: Analysis, map_path: Path | None) -> dict[str, Any]:
    """The JSON object of one film: every key always there, null where unknown."""
    return {
        "file": str(path),
        "answer": analysis.answer,
        "probability": analysis.probability,
        "threshold": analysis.threshold,
        "reason": analysis.reason,
        "message": message(analysis),
        "regions": [vars(region) for region in analysis.regions],
        "peak": None if analysis.peak is None else dict(zip("xy", analysis.peak, strict=True)),
        "view_position": analysis.view_position,
        "age_years": analysis.age_years,
        "width": analysis.width,
        "height": analysis.height,
        "frames": analysis.frames,
        "map": None if map_path is None else str(map_path),
        "model": analysis.model,
        "milliseconds": round(analysis.milliseconds, 3),
    }


def message(analysis: Analysis) -> str:
    """What a person is told: the reason where there is one, else the answer."""
    if analysis.reason is not None:
        return messages.sentence(analysis.reason, analysis.details)
    return f"{messages.headline(analysis.answer)}. {messages.next_step(analysis.answer)}"


class MapFolder:
    """Writes activation maps as grey PNG of the film's size; a repeated stem gets ``.2``, ``.3``
    …
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._taken: set[str] = set()

    def write(self, path: Path, analysis: Analysis) -> Path | None:
        """Where the map of an analysis was written; None where there is none.

        Raises OSError where it cannot be written.
        """
        if analysis.activation_map is None or not analysis.width or not analysis.height:
            return None
        from PIL import Image

        from app.cxr.regions import enlarge

        target = self._folder / self._name(path.stem)
        heat = enlarge(analysis.activation_map, analysis.width, analysis.height)
        Image.fromarray((heat * 255).round().astype("uint8")).save(target)
        return target

    def _name(self, stem: str) -> str:
        name, count = f"{stem}.map.png", 1
        # normcase: to Windows, A.map.png and a.map.png are one file
        while os.path.normcase(name) in self._taken:
            count += 1
            name = f"{stem}.{count}.map.png"
        self._taken.add(os.path.normcase(name))
        return name


class Command(BaseCommand):
    """Analyse films and folders of films; see DESIGN's command line."""

    help = "Analyse films from files and folders; needs no server and stores nothing."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="film or folder")
        parser.add_argument("--json", action="store_true", help="one JSON object a line on stdout")
        parser.add_argument("--age", type=age, metavar="YEARS", help="for films that carry no age")
        parser.add_argument("--maps", type=Path, metavar="DIR", help="write activation maps here")
        parser.add_argument("--data-dir", type=Path, metavar="DIR", help="whose model to use")

    def handle(self, *args: Any, **options: Any) -> None:
        # The console of Windows and LANG=C know few letters: a file name must not stop the batch.
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
        model = _load_model(options["data_dir"])
        try:
            maps = MapFolder(options["maps"]) if options["maps"] else None
        except OSError as error:
            raise CommandError(
                f"The folder {options['maps']} for the maps cannot be written.",
                returncode=EXIT_USAGE,
            ) from error
        unreadable = 0
        for number, path in enumerate(inputs(options["paths"]), start=1):
            analysis = _analyse(path, model, options["age"])
            map_path = self._write_map(maps, path, analysis)
            self._tell(number, path, analysis, map_path, options["json"])
            unreadable += analysis.answer == "unreadable"
        if unreadable:
            sys.exit(EXIT_UNREADABLE)

    def _write_map(self, maps: MapFolder | None, path: Path, analysis: Analysis) -> Path | None:
        """A map that cannot be written (a name too long, a full disk) costs no answer."""
        try:
            return maps.write(path, analysis) if maps else None
        except OSError as error:
            self.stderr.write(f"The map of {_shown(path)} cannot be written: {error.strerror}.")
            return None

    def _tell(
        self, number: int, path: Path, analysis: Analysis, map_path: Path | None, as_json: bool
    ) -> None:
        name = _shown(path)
        if as_json:
            line = json.dumps(result(path, analysis, map_path), allow_nan=False)
            self.stderr.write(f"{number}: {name}", self.style.NOTICE)
        else:
            line = f"{name}: {message(analysis)}"
            if analysis.probability is not None:
                line += f" (probability {analysis.probability:.3f})"
        self.stdout.write(line)
        self.stdout.flush()


def _shown(path: Path) -> str:
    """A path for people: what is not UTF-8 in it is spelled out."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _load_model(data_directory: Path | None) -> Model:
    home = data_directory or (
        Path(os.environ["CLINIC_HOME"]) if "CLINIC_HOME" in os.environ else None
    )
    from app.cxr.model import Model

    try:
        return Model.load(load_active(home))
    except UnusableRelease as error:
        raise CommandError(
            messages.sentence(error.code, error.details), returncode=EXIT_USAGE
        ) from error


def _analyse(path: Path, model: Model, age_years: float | None) -> Analysis:
    from app.cxr.analysis import analyse

    return analyse(path, model, age_years)

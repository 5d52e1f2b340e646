"""Put what was measured into a release: ``report.json`` and the model card.

The card (Mitchell et al. 2019, "Model cards for model reporting") is made of the manifest and of
the JSON of ``evaluate``; none of its figures is typed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from app.cxr.durable import write_durably
from app.cxr.metrics import Interval
from app.cxr.release import AGE_BANDS, MANIFEST, UNKNOWN_AGE, Release
from model_export.figures import Figures, thinned
from model_export.report_page import BAND_WORDS, FEATURE_WORDS, SUBGROUP_WORDS

CARD, REPORT = "MODEL_CARD.md", "report.json"
CURVES = ("roc", "precision_recall")
CURVE_POINTS = 101
DIGITS = 5
NONE = "–"


def add_card(directory: Path, reports: Sequence[Figures]) -> Release:
    """Write report and card into a release and name them in its manifest.

    Whatever breaks off on the way, the manifest is whole; once it is written the release verifies.
    A release left between the two is put right by running this again.
    """
    manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    label = f"{manifest['name']}@{manifest['version']}"
    for report in reports:
        if report["release"] != label:
            raise ValueError(
                f"the report {report['title']!r} is of {report['release']}, not of {label}"
            )
    compacted = {"release": label, "reports": [compact(report) for report in reports]}
    size = (directory / str(manifest["graph"])).stat().st_size
    contents = {
        REPORT: json.dumps(compacted, separators=(",", ":"), allow_nan=False) + "\n",
        CARD: model_card(manifest, reports, size),
    }
    for name, text in contents.items():
        manifest["files"][name] = hashlib.sha256(text.encode()).hexdigest()
        write_durably(directory / name, text.encode())
    manifest.pop("localisation", None)
    located = localisation_of(reports)
    if located:
        manifest["localisation"] = located
    write_durably(directory / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    return Release.load(directory)


def localisation_of(reports: Iterable[Figures]) -> Figures | None:
    """Where the map of films called likely was held against boxes: what the clinic may quote."""
    for report in reports:
        likely = report.get("localisation", {}).get("likely", {})
        if likely.get("films"):
            return {**likely, "source": report["title"]}
    return None


def compact(report: Figures) -> Figures:
    """A report with shorter numbers and thinner curves: the same picture in a few kilobytes."""
    thin = {name: thinned(report[name], CURVE_POINTS) for name in CURVES if name in report}
    shorter: Figures = _rounded(report | thin)
    return shorter


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_rounded(entry) for entry in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


# --- the card ---------------------------------------------------------------------------------


def model_card(manifest: Figures, reports: Sequence[Figures], graph_bytes: int) -> str:
    """The whole card in Markdown."""
    parts = [
        f"# {manifest['name']} {manifest['version']}",
        INTENDED,
        NETWORK.format(size=manifest["input"]["size"], megabytes=f"{graph_bytes / 1e6:.1f}"),
        _training(manifest.get("training") or {}),
        DATA,
        "## Operating points",
        OPERATING_POINTS,
        _operating_points(manifest),
        "## Calibration",
        CALIBRATION,
        _calibration(manifest, reports),
        "## What was measured",
        MEASURED,
        *(part for report in reports for part in _report(report)),
        "## Limits",
        LIMITS,
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def figure(found: Figures | None, digits: int = 3) -> str:
    """A figure with its interval, or a dash where it could not be computed."""
    if not found or found["value"] is None:
        return NONE
    if found.get("low") is None or found.get("high") is None:
        return f"{found['value']:.{digits}f}"
    if digits == 3:
        return str(Interval(found["value"], found["low"], found["high"]))
    return f"{found['value']:.{digits}f} ({found['low']:.{digits}f}-{found['high']:.{digits}f})"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown; bars inside a cell would break it."""
    lines = [head, ["---"] * len(head), *rows]
    cells = ([str(cell).replace("|", "/").replace("\n", " ") for cell in row] for row in lines)
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _said(value: Any) -> str:
    """A free entry of the manifest as one line."""
    if isinstance(value, dict):
        return "; ".join(f"{_words(str(key))} {_said(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(_said, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _training(entries: Figures) -> str:
    if not entries:
        return ""
    lines = (f"- {_words(name)}: {_said(value)}" for name, value in entries.items())
    return "**How it was trained.**\n\n" + "\n".join(lines)


def _bands() -> Iterable[tuple[str, str]]:
    return ((band, BAND_WORDS[band]) for band in (*dict(AGE_BANDS), UNKNOWN_AGE))


def _operating_points(manifest: Figures) -> str:
    points, notes = manifest["operating_points"], manifest.get("operating_point_notes") or {}
    rows = []
    for band, words in _bands():
        point = points.get(band, points[UNKNOWN_AGE])
        limits = (f"{point[name]:.3f}" for name in ("threshold", "lower", "upper"))
        rows.append((words, *limits, notes.get(band, NONE)))
    return table(("age", "threshold", "lower", "upper", "how it was chosen"), rows)


def _calibration(manifest: Figures, reports: Sequence[Figures]) -> str:
    by_age: Figures = manifest.get("calibration_by_age") or {}
    rows: list[Sequence[object]] = []
    for band, words in _bands():
        curve = by_age[band] if band in by_age else manifest["calibration"]
        fitted = (words, f"{curve['slope']:.3f}", f"{curve['intercept']:.3f}")
        known = [(r["title"], r["subgroups"]["age_band"][band]) for r in reports]
        there = [
            (*fitted, title, group["scored"], figure(group["expected_calibration_error"]))
            for title, group in known
            if group["scored"]
        ]
        rows += there or [(*fitted, "not measured", 0, NONE)]
    head = ("age", "slope", "intercept", "measured on", "films", "calibration error")
    return table(head, rows)


def _report(report: Figures) -> list[str]:
    """One report: its figures, and what stands behind them."""
    return [
        f"### {report['title']}",
        table(("figure", "value (95 % interval)"), _main_rows(report)),
        _subgroups(report),
        _trivial(report),
        _int8(report),
    ]


def _main_rows(report: Figures) -> list[tuple[str, str]]:
    intervals, answers = report["intervals"], report["answers"]
    rows = [("films", str(report["films"])), ("patients", str(report["patients"]))]
    if "auc" in report:
        positives, negatives = report["positives"], report["negatives"]
        rows += [
            ("scored with pneumonia, without", f"{positives}, {negatives}"),
            ("AUC", figure(report["auc"])),
            ("average precision", figure(report["average_precision"])),
            ("sensitivity", figure(report["sensitivity"])),
            ("specificity", figure(report["specificity"])),
            ("precision", figure(intervals["precision"])),
            ("F1", figure(intervals["f1"])),
            ("accuracy", figure(intervals["accuracy"])),
            ("expected calibration error", figure(intervals["expected_calibration_error"])),
            ("wrong among answered", figure(report["wrong_among_answered"])),
            ("wrong among “likely”", figure(report["wrong_by_answer"]["likely"])),
            ("wrong among “unlikely”", figure(report["wrong_by_answer"]["unlikely"])),
        ]
    rows += [
        ("share “cannot say”", figure(answers["cannot_say"])),
        ("share refused", figure(answers["refused"])),
        ("share unreadable", figure(answers["unreadable"])),
    ]
    return rows + _located(report.get("localisation"))


def _located(found: Figures | None) -> list[tuple[str, str]]:
    """The rows on where the map points, if boxes were there to tell."""
    if not found:
        return []
    rows = [
        (f"hottest point in a box, {words} ({part['hits']} of {part['films']})", figure(part))
        for part, words in ((found["likely"], "films called likely"), (found["all"], "all films"))
    ]
    if found["chance"] is not None:
        rows.append(("the same by chance (share of area in boxes)", f"{found['chance']:.3f}"))
    if "randomised" in found:
        other = found["randomised"]
        rows += [
            ("the same with shuffled weights, all films", figure(other["hit_rate"])),
            ("rank correlation of those maps with the true ones", figure(other["map_correlation"])),
        ]
    return rows


def _subgroups(report: Figures) -> str:
    rows = []
    for name, groups in report["subgroups"].items():
        for group, found in groups.items():
            words = BAND_WORDS[group] if name == "age_band" else group
            shown = f"{SUBGROUP_WORDS[name].lower()} {words}"
            if not found["films"]:
                rows.append((shown, "not tested", *[NONE] * 7))
                continue
            star = " *" if found["auc_against"] else ""
            rows.append((
                shown, f"{found['films']} ({found['positives']})", figure(found["auc"]) + star,
                figure(found["sensitivity"]), figure(found["specificity"]),
                figure(found["expected_calibration_error"]),
                figure(found["wrong_among_answered"]), figure(found["cannot_say"]),
                figure(found["refused"]),
            ))  # fmt: skip
    head = (
        "subgroup", "films (pneumonia)", "AUC", "sensitivity", "specificity", "calibration error",
        "wrong among answered", "cannot say", "refused",
    )  # fmt: skip
    return table(head, rows) + "\n\n\\* one class only: AUC against all films of the other class."


def _trivial(report: Figures) -> str:
    features = report.get("trivial_features") or {}
    rows = [
        (FEATURE_WORDS.get(name, _words(name)), figure(found))
        for name, found in features.items()
        if found["value"] is not None
    ]
    return TRIVIAL + "\n\n" + table(("feature alone", "AUC"), rows) if rows else ""


def _int8(report: Figures) -> str:
    found = report.get("int8_against_float")
    if not found:
        return ""
    rows = [
        ("AUC lost", figure(found["auc_loss"], 4)),
        ("same forced answer", figure(found["same_answer"], 4)),
        ("correlation of the maps", figure(found["map_correlation"], 4)),
        ("ms a film, float", figure(found["milliseconds_float"], 1)),
        ("ms a film, int8", figure(found["milliseconds_int8"], 1)),
        ("times faster", figure(found["times_faster"], 2)),
    ]
    return table((f"int8 against float, {found['films']} films, one thread", "value"), rows)


INTENDED = """**Intended use.** A second look at a frontal chest film for signs of pneumonia,
where no radiologist is at hand, beside the clinical examination and never instead of it.

**Not for.** Lateral films, CT, other body parts; ruling out tuberculosis, heart failure or any
other disease; children under one year; sending home a patient with danger signs; any decision
that nobody looks at. It is no medical device and has had no trial."""

NETWORK = """**Network.** EfficientNet-Lite0 (ImageNet weights, Apache-2.0) with an activation
map as a second output; input {size} x {size} grey; int8, a file of {megabytes} MB."""

DATA = """**Training films.** Kermany, Zhang, Goldbaum 2018 (Mendeley Data rscbjbr9sj, CC BY
4.0): children of 1-5 years, one hospital in Guangzhou, split by patient: most are trained on,
others choose the calibration and the operating points, and the rest are held out. No label of
anybody older taught it: what it knows of adults comes from films without labels, if from any."""

OPERATING_POINTS = """A probability at or above the threshold is the forced answer "likely". From
lower up to upper the answer is withheld: "cannot say"."""

CALIBRATION = """A logistic curve (Platt 1999) on the network's score. The error is the mean
distance between what was said and what was true (expected calibration error); it grows by itself
where films are few."""

MEASURED = """Films went through the clinic's own program. In brackets 95 % intervals: Wilson's
for shares, else a bootstrap that draws patients. Figures of the hospital that the network learnt
from say little about another one: published models of this kind lose much of their specificity
there."""

TRIVIAL = """What trivial features alone reach, each in the direction that flatters it (the
better of AUC and 1 - AUC). Where one does well, the classes were taken in different ways, and
the network may have learnt that."""

LIMITS = """**A known shortcut.** In the full-size originals of the training films those with
pneumonia are wider than the normal ones, and every film is squashed to a square. Training now
brings both classes to the same middle shape and then stretches at random; that weakens the hint,
and may not remove it.

**Lateral films** are refused where the file names the view. Whether one is known by its picture
alone is untested. **A mirrored film** is not recognised: its answer is the same, but right and
left of its regions are exchanged. A film on its side or on its head is put right where that is
sure, and so is a negative.

**Other diseases.** Tuberculosis, heart failure, tumours and fluid look alike on a film: "likely"
is not a diagnosis, and "unlikely" rules nothing out.

**Ages.** Children under one year are not among the training films. An age band that the tables
call not tested or not measured is just that.

**Other machines, photographs of films, bad exposure** can be wrong more often than the figures
say, and answers withheld or refused are part of the result: a patient who looks ill is treated
as ill.

**The map** shows what the score rests on, in coarse cells. It is not the border of a disease,
and it can be wrong when the answer is right."""


# --- the stage --------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this stage."""
    parser.add_argument("--release", type=Path, required=True, help="folder of a model release")
    parser.add_argument(
        "--report", type=Path, nargs="+", required=True, help="what evaluate --json wrote, in order"
    )


def main(options: argparse.Namespace) -> int:
    """Run the stage; returns the exit status."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in options.report]
    release = add_card(options.release, reports)
    print(f"{release.label}: {release.directory / CARD}, {release.directory / REPORT}")
    return 0

"""The report of an evaluation as one page of HTML: no script, no font or picture from elsewhere.

Everything is drawn from the JSON of ``evaluate``; the curves are SVG written by hand (ADR 0005).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from model_export.figures import Figures, thinned

CURVE_POINTS = 301
NONE = "–"

ANSWER_WORDS = {
    "likely": "likely",
    "unlikely": "unlikely",
    "cannot_say": "cannot say",
    "refused": "refused",
    "unreadable": "unreadable",
}
BAND_WORDS = {
    "under_5": "under 5",
    "5_14": "5–14",
    "15_64": "15–64",
    "65_and_over": "65 and over",
    "unknown": "unknown",
}
SUBGROUP_WORDS = {
    "age_band": "Age",
    "sex": "Sex",
    "view": "View",
    "kind": "Kind",
    "source": "Source",
}
FEATURE_WORDS = {
    "file_size": "size of the file",
    "sharpness": "sharpness (variance of the Laplacian)",
    "brightness": "mean brightness",
    "contrast": "contrast",
    "shape": "shape (width to height)",
    "view": "the view that the label names (AP or not)",
}

CSS = """
:root { --ink: #1c2430; --soft: #5b6675; --line: #dde2e8; --paper: #fff; --ground: #f4f6f8;
  --blue: #1f5fa8; --wash: #dbe7f5; --likely: #b3472e; --unlikely: #2f7d6b; --cannot_say: #c99a2e;
  --refused: #7b8794; --unreadable: #b9c1ca; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa7b6; --line: #323c48;
  --paper: #1a2029; --ground: #12171d; --blue: #7db3ee; --wash: #24384f; --likely: #e07a5f;
  --unlikely: #55b39d; --cannot_say: #dcb355; --refused: #8b97a5; --unreadable: #5a6572; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 70rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .25rem; letter-spacing: -.01em; }
h2 { font-size: 1.15rem; margin: 0 0 .75rem; }
h3 { font-size: .95rem; margin: 0 0 .25rem; font-weight: 600; }
p { margin: .25rem 0 .75rem; max-width: 46rem; }
.soft, small, caption, figcaption { color: var(--soft); }
small, .note, figcaption { font-size: .82rem; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.25rem; margin-top: 1.25rem; }
.tiles { display: grid; gap: .75rem; margin-top: 1.25rem;
  grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }
.tile { background: var(--paper); border: 1px solid var(--line); border-radius: 10px;
  padding: .75rem .9rem; }
.tile b { display: block; font-size: 1.55rem; line-height: 1.25; font-weight: 650; }
.tile span { display: block; font-size: .85rem; }
.pair { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); }
figure { margin: 0; } svg { display: block; width: 100%; height: auto; }
.wide { overflow-x: auto; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .7rem .4rem 0; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; vertical-align: top; }
th { font-weight: 600; color: var(--soft); white-space: normal; vertical-align: bottom; }
td small { display: block; line-height: 1.2; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 6rem;
  overflow-wrap: anywhere; }
tr.head td { font-weight: 600; padding-top: .9rem; } tr.none td { color: var(--soft); }
.bar { display: flex; height: 1.5rem; border-radius: 5px; overflow: hidden; margin-bottom: .75rem; }
.unreadable { background: var(--unreadable); } .key { display: inline-block; width: .7rem;
  height: .7rem; border-radius: 2px; margin-right: .4rem; }
.likely { background: var(--likely); } .unlikely { background: var(--unlikely); }
.cannot_say { background: var(--cannot_say); } .refused { background: var(--refused); }
.axis { stroke: var(--line); } .frame { stroke: var(--soft); fill: none; }
.chance { stroke: var(--soft); stroke-dasharray: 4 4; }
.curve { stroke: var(--blue); stroke-width: 2.5; fill: none; stroke-linejoin: round; }
.under { fill: var(--wash); } .dot { fill: var(--blue); } .whisker { stroke: var(--blue);
  stroke-width: 1.5; } .point { fill: var(--paper); stroke: var(--likely); stroke-width: 2.5; }
svg text { fill: var(--soft); font-size: 13px; font-family: inherit; }
@media print { body { background: #fff; } section, .tile { break-inside: avoid; } }
"""


def page(report: Figures) -> str:
    """The whole page of one report."""
    sections = [
        _answers(report),
        _curves(report),
        _operating_points(report),
        _calibration(report),
        _localisation(report),
        _subgroups(report),
        _trivial(report),
        _int8(report),
        _method(report),
    ]
    title = escape(report["title"])
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title} · {escape(report['release'])}</title>\n<style>{CSS}</style>\n"
        f"</head>\n<body>\n<main>\n<header><h1>{title}</h1>\n{_header(report)}</header>\n"
        f"{_tiles(report)}\n{chr(10).join(filter(None, sections))}\n</main>\n</body>\n</html>\n"
    )


# --- figures as words -------------------------------------------------------------------------


def number(value: float | None, digits: int = 3) -> str:
    """A figure, or a dash for what could not be computed."""
    return NONE if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share in percent."""
    return NONE if value is None else f"{100 * value:.1f} %"


def bounds(figure: Figures, as_percent: bool = False, digits: int = 3) -> str:
    """The interval of a figure, or nothing where there is none."""
    if figure["low"] is None or figure["high"] is None:
        return ""
    if as_percent:
        return f"{100 * figure['low']:.1f}–{100 * figure['high']:.1f} %"
    return f"{figure['low']:.{digits}f}–{figure['high']:.{digits}f}"


def _cell(figure: Figures, as_percent: bool = False, digits: int = 3) -> str:
    value = percent(figure["value"]) if as_percent else number(figure["value"], digits)
    return f"{value}<small>{bounds(figure, as_percent, digits)}</small>"


def _with(report: Figures, name: str) -> Figures:
    """A plain number of the report together with its interval."""
    interval: Figures = report["intervals"][name]
    return {**interval, "value": report[name]}


def _table(head: Sequence[str], rows: Iterable[str]) -> str:
    cells = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    return (
        f'<div class="wide"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(*cells: Any, kind: str = "") -> str:
    opened = f'<tr class="{kind}">' if kind else "<tr>"
    return opened + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{title}</h2>{''.join(parts)}</section>"


# --- the sections -----------------------------------------------------------------------------


def _header(report: Figures) -> str:
    counts = f"{_counted(report['films'], 'film')} of {_counted(report['patients'], 'patient')}"
    if "positives" in report:
        counts += f"; {report['positives']} scored with pneumonia, {report['negatives']} without"
    return (
        f'<p class="soft">{escape(report["release"])} · {counts}. '
        "Small figures are 95 % intervals.</p>"
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _tiles(report: Figures) -> str:
    shown: list[tuple[str, Figures, bool]] = []
    if "auc" in report:
        shown += [
            ("AUC", report["auc"], False),
            ("average precision", report["average_precision"], False),
            ("sensitivity", report["sensitivity"], True),
            ("specificity", report["specificity"], True),
            ("precision", _with(report, "precision"), True),
            ("recall", _with(report, "recall"), True),
            ("F1", _with(report, "f1"), False),
            ("accuracy", _with(report, "accuracy"), True),
            ("calibration error (ECE)", _with(report, "expected_calibration_error"), False),
            ("wrong among answered", report["wrong_among_answered"], True),
        ]
    shown += [
        ("cannot say", report["answers"]["cannot_say"], True),
        ("refused", report["answers"]["refused"], True),
    ]
    tiles = "".join(
        f'<div class="tile"><span>{name}</span>'
        f"<b>{percent(figure['value']) if share else number(figure['value'])}</b>"
        f"<small>{bounds(figure, share) or '&nbsp;'}</small></div>"
        for name, figure, share in shown
    )
    return f'<div class="tiles">{tiles}</div>'


def _answers(report: Figures) -> str:
    answers = report["answers"]
    bar = "".join(
        f'<i class="{name}" style="width:{100 * figure["value"]:.2f}%"></i>'
        for name, figure in answers.items()
    )
    wrong = report.get("wrong_by_answer", {}) | report.get("wrong_if_forced", {})
    rows = []
    for name, figure in answers.items():
        error = _cell(wrong[name], True) if name in wrong else NONE
        label = f'<span class="key {name}"></span>{ANSWER_WORDS[name]}'
        rows.append(_row(label, _cell(figure, True), error))
        rows += [
            _row(f"<small>{escape(code)}</small>", f"<small>{percent(share['value'])}</small>", "")
            for code, share in report["reasons"].get(name, {}).items()
        ]
    note = (
        '<p class="note soft">An answer is wrong where it differs from the label. For “cannot say” '
        "the error is that of the answer that was withheld.</p>"
    )
    table = _table(("Answer", "Share of films", "Wrong"), rows)
    return _section("Answers", f'<div class="bar">{bar}</div>', table, note)


def _curves(report: Figures) -> str:
    if report.get("auc", {}).get("value") is None:
        return ""
    points = report["operating_points"].values()
    known = [p for p in points if p["specificity"]["value"] is not None]
    used = [
        (1 - p["specificity"]["value"], p["sensitivity"]["value"])
        for p in known
        if p["sensitivity"]["value"] is not None
    ]
    roc = thinned(report["roc"], CURVE_POINTS)
    ranked = thinned(report["precision_recall"], CURVE_POINTS)
    prevalence = report["positives"] / (report["positives"] + report["negatives"])
    right = zip(ranked["recall"], ranked["precision"], strict=True)
    left = list(zip(roc["false_positive_rate"], roc["sensitivity"], strict=True))
    charts = (
        _figure(
            "ROC curve",
            f"AUC {number(report['auc']['value'])} ({bounds(report['auc'])}). "
            "Circles: the operating points used, each among the films of its age band.",
            _chart(left, "1 − specificity", "sensitivity", ((0, 0), (1, 1)), used),
        ),
        _figure(
            "Precision and recall",
            f"Average precision {number(report['average_precision']['value'])} "
            f"({bounds(report['average_precision'])}). Dashed: share of positives.",
            _chart(list(right), "recall", "precision", ((0, prevalence), (1, prevalence)), []),
        ),
    )
    return _section("Ranking", f'<div class="pair">{"".join(charts)}</div>')


def _operating_points(report: Figures) -> str:
    rows = []
    for band, point in report["operating_points"].items():
        counts = point["confusion"]
        rows.append(
            _row(
                BAND_WORDS[band],
                f"{number(point['threshold'])}"
                f"<small>withheld {number(point['lower'])}–{number(point['upper'])}</small>",
                counts["true_positive"],
                counts["false_negative"],
                counts["true_negative"],
                counts["false_positive"],
                _cell(point["sensitivity"], True),
                _cell(point["specificity"], True),
                _cell(point["withheld"], True),
            )
        )
    if not rows:
        return ""
    head = (
        "Age", "Threshold", "True<br>positive", "False<br>negative", "True<br>negative",
        "False<br>positive", "Sensitivity", "Specificity", "Withheld",
    )  # fmt: skip
    note = (
        '<p class="note soft">Forced answers of all scored films, those where the program says '
        "“cannot say” included.</p>"
    )
    return _section("Confusion at each operating point used", _table(head, rows), note)


def _calibration(report: Figures) -> str:
    if "calibration" not in report:
        return ""
    error = _with(report, "expected_calibration_error")
    chart = _figure(
        "Reliability",
        "Each dot is a tenth of the scale: what was said across, what was true upwards. "
        "The nearer the dashed line, the more a probability means what it says.",
        _reliability(report["calibration"]),
    )
    rows = [
        _row(
            f"{bin_['from']:.1f}–{bin_['to']:.1f}",
            bin_["films"],
            number(bin_["mean_probability"]),
            _cell(bin_["share_positive"]),
        )
        for bin_ in report["calibration"]
    ]
    table = _table(("Probability", "Films", "Mean said", "Share true"), rows)
    words = f"<p>Expected calibration error {number(error['value'])} ({bounds(error)}).</p>"
    return _section("Calibration", words, f'<div class="pair">{chart}<div>{table}</div></div>')


def _localisation(report: Figures) -> str:
    found = report.get("localisation")
    if not found:
        return ""
    rows = [
        _row(words, f"{found[name]['hits']} of {found[name]['films']}", _cell(found[name], True))
        for name, words in (("likely", "films called likely"), ("all", "all scored films"))
    ]
    rows.append(_row("a point thrown blindly", "", percent(found["chance"])))
    parts = [_table(("Hottest point of the map in a box", "Films", "Share"), rows)]
    if "randomised" in found:
        other = found["randomised"]
        rows = [
            _row("hottest point in a box, all films", _cell(other["hit_rate"], True)),
            _row("rank correlation with the true map", _cell(other["map_correlation"])),
        ]
        parts += [
            f'<h3 style="margin-top:1rem">The same with the weights shuffled '
            f"({other['networks']} networks)</h3>",
            _table(("If the map owed nothing to what was learnt", "Mean"), rows),
        ]
    return _section("Does the map point at the disease", *parts)


def _subgroups(report: Figures) -> str:
    rows = []
    for name, groups in report["subgroups"].items():
        rows.append('<tr class="head"><td colspan="10">' + SUBGROUP_WORDS[name] + "</td></tr>")
        rows += [_group_row(name, group, figures) for group, figures in groups.items()]
    head = (
        "Group", "Films", "Pneu&shy;monia", "AUC", "Sensitivity", "Specificity", "ECE",
        "Wrong among answered", "Cannot say", "Refused",
    )  # fmt: skip
    note = (
        '<p class="note soft">* A group of one class: its AUC is against all films of the other '
        "class. ECE grows by itself where films are few.</p>"
    )
    return _section("Subgroups", _table(head, rows), note)


def _group_row(name: str, group: str, figures: Figures) -> str:
    words = BAND_WORDS[group] if name == "age_band" else escape(group)
    if not figures["films"]:
        return _row(words, 0, *[NONE] * 8, kind="none")
    star = " *" if figures["auc_against"] and figures["auc"]["value"] is not None else ""
    area = figures["auc"]
    return _row(
        words,
        f"{figures['films']}<small>{figures['patients']} patients</small>",
        figures["positives"],
        f"{number(area['value'])}{star}<small>{bounds(area)}</small>",
        _cell(figures["sensitivity"], True),
        _cell(figures["specificity"], True),
        _cell(figures["expected_calibration_error"]),
        _cell(figures["wrong_among_answered"], True),
        _cell(figures["cannot_say"], True),
        _cell(figures["refused"], True),
    )


def _trivial(report: Figures) -> str:
    features = report.get("trivial_features", {})
    known = {name: figure for name, figure in features.items() if figure["value"] is not None}
    if not known:
        return ""
    if report.get("auc", {}).get("value") is not None:
        known = {"": report["auc"], **known}
    rows = [
        _row(FEATURE_WORDS.get(name, "<b>the network</b>"), _cell(figure), _interval(figure))
        for name, figure in known.items()
    ]
    words = (
        "<p>How far one number that needs no lung to be looked at tells these films apart. Its "
        "direction is the one that flatters it, max(AUC, 1 − AUC), also in every draw of the "
        "interval. Where such a number does well, the two classes were taken in different ways, "
        "and the network may have learnt that.</p>"
    )
    return _section(
        "What trivial features alone reach", words, _table(("Feature", "AUC", "0.5 to 1"), rows)
    )


def _int8(report: Figures) -> str:
    found = report.get("int8_against_float")
    if not found:
        return ""
    rows = [
        _row("AUC lost", _cell(found["auc_loss"], digits=4)),
        _row("same forced answer", _cell(found["same_answer"], True)),
        _row("correlation of the maps", _cell(found["map_correlation"], digits=4)),
        _row("float, ms a film", _cell(found["milliseconds_float"], digits=1)),
        _row("int8, ms a film", _cell(found["milliseconds_int8"], digits=1)),
        _row("times faster", _cell(found["times_faster"], digits=2)),
    ]
    return _section("int8 against float", _table((f"{found['films']} films, one thread", ""), rows))


def _method(report: Figures) -> str:
    whole = report["intervals"]["milliseconds_median"]
    bare = report["intervals"]["milliseconds_without_decoding_median"]
    words = (
        "<p>Median time for a film on the machine of this run, one thread: "
        f"{number(whole['value'], 1)} ms from its bytes ({bounds(whole, digits=1)})"
    )
    if bare["value"] is not None:
        words += (
            f"; of films that were scored, {number(bare['value'], 1)} ms from the decoded film to "
            f"its regions ({bounds(bare, digits=1)})"
        )
    words += ".</p>"
    note = (
        '<p class="note soft">Shares: Wilson’s 95 % interval over films. AUC, average precision, '
        "F1, calibration error, correlations and times: percentile bootstrap of 1000 draws that "
        "draws patients, not films. Films were read, refused, scored and answered by the clinic’s "
        "own program.</p>"
    )
    return _section("Time and method", words, note)


# --- drawing ----------------------------------------------------------------------------------

SIZE, LEFT, BELOW = 340, 46, 44
Point = tuple[float, float]


def _figure(title: str, caption: str, drawing: str) -> str:
    return f"<figure><h3>{title}</h3>{drawing}<figcaption>{caption}</figcaption></figure>"


def _at(point: Point) -> tuple[float, float]:
    """A point of the unit square in the units of the drawing."""
    return LEFT + point[0] * SIZE, 10 + (1 - point[1]) * SIZE


def _path(points: Iterable[Point]) -> str:
    return " ".join("{:.1f},{:.1f}".format(*_at(point)) for point in points)


def _axes(across: str, up: str) -> str:
    lines = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        (x, low), (_, high) = _at((tick, 0)), _at((tick, 1))
        (left, y), (right, _) = _at((0, tick)), _at((1, tick))
        lines.append(
            f'<path class="axis" d="M{x:.1f} {low:.1f}V{high:.1f}M{left:.1f} {y:.1f}H{right:.1f}"/>'
            f'<text x="{x:.1f}" y="{low + 17:.1f}" text-anchor="middle">{tick:g}</text>'
            f'<text x="{left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    middle_x, middle_y = LEFT + SIZE / 2, 10 + SIZE / 2
    return (
        "".join(lines)
        + f'<text x="{middle_x}" y="{SIZE + 48}" text-anchor="middle">{across}</text>'
        + f'<text transform="translate(12 {middle_y}) rotate(-90)" text-anchor="middle">{up}</text>'
    )


def _svg(label: str, *parts: str) -> str:
    width, height = LEFT + SIZE + 12, SIZE + BELOW + 12
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _line(ends: tuple[Point, Point], kind: str) -> str:
    return f'<polyline class="{kind}" points="{_path(ends)}"/>'


def _chart(
    points: list[Point], across: str, up: str, chance: tuple[Point, Point], used: list[Point]
) -> str:
    last = points[-1][0]
    under = [(points[0][0], 0.0), *points, (last, 0.0)]
    dots = "".join(
        '<circle class="point" cx="{:.1f}" cy="{:.1f}" r="5"/>'.format(*_at(point))
        for point in used
    )
    return _svg(
        f"{up} against {across}",
        f'<polygon class="under" points="{_path(under)}"/>',
        _axes(across, up),
        _line(chance, "chance"),
        f'<polyline class="curve" points="{_path(points)}"/>',
        dots,
    )


def _reliability(bins: list[Figures]) -> str:
    most = max(bin_["films"] for bin_ in bins)
    parts = []
    for bin_ in bins:
        (left, base), (right, _) = _at((bin_["from"], 0)), _at((bin_["to"], 0))
        tall = 0.2 * SIZE * bin_["films"] / most
        parts.append(
            f'<rect class="under" x="{left + 1:.1f}" y="{base - tall:.1f}" '
            f'width="{right - left - 2:.1f}" height="{tall:.1f}"/>'
        )
    for bin_ in bins:
        said, true = bin_["mean_probability"], bin_["share_positive"]
        x, y = _at((said, true["value"]))
        (_, low), (_, high) = _at((said, true["low"])), _at((said, true["high"]))
        parts.append(
            f'<path class="whisker" d="M{x:.1f} {low:.1f}V{high:.1f}"/>'
            f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
        )
    return _svg(
        "share of pneumonia against the probability said",
        _axes("probability said", "share with pneumonia"),
        _line(((0, 0), (1, 1)), "chance"),
        *parts,
    )


def _interval(figure: Figures) -> str:
    """A figure between 0.5 and 1 with its interval, as a small picture in a row."""
    at = [
        None if figure[k] is None else 120 * (2 * figure[k] - 1) for k in ("low", "value", "high")
    ]
    low, value, high = at
    if low is None or high is None or value is None:
        return ""
    return (
        '<svg viewBox="-5 0 130 16" style="width:130px;display:inline-block" aria-hidden="true">'
        '<path class="axis" d="M0 8H120M0 3V13M120 3V13"/>'
        f'<path class="whisker" d="M{low:.1f} 8H{high:.1f}"/>'
        f'<circle class="dot" cx="{value:.1f}" cy="8" r="4"/></svg>'
    )

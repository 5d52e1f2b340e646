"""A comparison of two releases to be read: Markdown."""

from __future__ import annotations

import math

from model_export.figures import Figures

NAMES = {
    "auc": "AUC",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "not_refused": "films not refused",
    "answered": "films answered likely or unlikely",
}
JUDGED = {
    "proven": "by the interval",
    "counted": "by the difference",
    "evident": "only an evident loss counts",
    "not_measured": "not measured",
}


def page(figures: Figures) -> str:
    """The verdict first, then a table for every group."""
    old, new = figures["old"]["label"], figures["new"]["label"]
    accepted = figures["verdict"]["accepted"]
    lines = [f"# {new} against {old}", "", f"**{'Accepted' if accepted else 'Refused'}.**", ""]
    lines += [f"- {reason}" for reason in figures["verdict"]["reasons"]]
    lines += ["", _rule(figures)]
    for group in figures["groups"]:
        lines += _table(group, old, new)
    return "\n".join(lines) + "\n"


def _rule(figures: Figures) -> str:
    return (
        f"Margin {figures['margin']}. With {figures['enough_to_prove']} films or more the 95 % "
        "interval of the difference (drawn by patient) must lie above minus the margin, with "
        f"{figures['enough_to_count']} or more the difference itself; with fewer only a loss that "
        "chance hardly explains counts, and the group is as good as untested. Every group must "
        "pass, so the verdict needs no correction for their number; the p-values, which it does "
        "not rest on, are given as they are and after Holm. Tests take films for independent: "
        "DeLong for the AUC, McNemar (exact) for shares."
    )


def _table(group: Figures, old: str, new: str) -> list[str]:
    title = group["group"] if group["kind"] == "overall" else f"{group['kind']}: {group['group']}"
    lines = [
        "",
        f"## {title}",
        "",
        f"{group['films']} films of {group['patients']} patients.",
        "",
        f"| | films | {old} | {new} | difference (95 %) | p | p (Holm) | judged | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, figure in group["figures"].items():
        gap = figure["difference"]
        cells = [
            NAMES[name],
            str(figure["films"]),
            _number(figure["old"]),
            _number(figure["new"]),
            f"{_number(gap['value'], '+')} ({_number(gap['low'], '+')} to "
            f"{_number(gap['high'], '+')})",
            _number(figure["p_value"]),
            _number(figure["p_value_holm"]),
            JUDGED[figure["judged"]],
            "**worse**" if figure["is_worse"] else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _number(value: float, sign: str = "") -> str:
    return "–" if math.isnan(value) else f"{value:{sign}.3f}"

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
    "shown": "shown to be no worse",
    "not_shown": "not shown to be no worse",
    "counted": "by the difference alone",
    "evident": "as good as untested",
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
        f"Margin {figures['margin']}. With {figures['enough_to_count']} films or more the "
        "difference must be no worse than the margin. It is shown to be no worse where the 95 % "
        f"interval (drawn by patient) is so too, with {figures['can_be_shown']} films or more; "
        f"with {figures['must_be_shown']} or more that is asked for. With fewer than "
        f"{figures['enough_to_count']} only a loss that chance hardly explains counts. Every group "
        "must pass, so the verdict needs no correction for their number; the p-values of DeLong "
        "(AUC) and of McNemar (exact; the other figures) take films for independent, and are given "
        "as they are and after Holm."
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

"""The report of ``merge`` to be read: Markdown."""

from __future__ import annotations

from typing import Any

REASONS = {
    "superseded": "sent again later with a newer reading, which counts",
    "unsure": "the readers were unsure or did not agree",
    "other": "read as another illness",
    "not_usable": "read as not usable",
    "refused": "the release in use does not take it for a usable chest film",
    "known": "a film of this person is in use already, and perhaps for testing",
    "contradiction": "the same film came with the other label; all of its copies are left out",
    "duplicate": "the very same picture as another film, which stays",
    "near_duplicate": "the same film as another one, saved anew; that one stays",
    "one_class": "nearly all films of this site have one label: the site itself would be learnt",
    "no_better_than_chance": "the labels of this site fit the release no better than chance does",
    "suspected": "the release is sure of the other label; a second reader can confirm this one",
    "beyond_share": "this site would bring more than its share of all films",
}


def page(report: dict[str, Any]) -> str:
    """Counts, sites, limits, then every film that was left out."""
    lines = [
        f"# Contributions merged: {report['kept']} of {report['read']} films",
        "",
        f"Folders: {', '.join(report['folders'])}. Labels held against {report['release']}.",
        "",
        "| left out | films | why |",
        "|---|---|---|",
    ]
    lines += [f"| {code} | {n} | {REASONS[code]} |" for code, n in report["reasons"].items()]
    lines += ["", "## Sites", "", *_sites(report)]
    if report["joined_patients"]:
        lines += ["", "## Patients who share a film, and count as one person", ""]
        lines += [f"- {', '.join(names)}" for names in report["joined_patients"]]
    lines += ["", "## Limits", ""]
    lines += [f"- {name}: {value}" for name, value in report["limits"].items()]
    lines += [
        "",
        "## Films left out",
        "",
        "| film | reason | detail | folder |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {one['site']}-{one['film']} | {one['reason']} | {one['detail']} | {one['folder']} |"
        for one in report["dropped"]
    ]
    return "\n".join(lines) + "\n"


def _sites(report: dict[str, Any]) -> list[str]:
    lines = [
        "AUC: of the release in use against the site's labels. Noise: share of the films that the "
        "release places confidently which it places in the other class.",
        "",
        "| site | read | kept | with pneumonia | AUC (95 %) | noise | judged | held back |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for site, one in report["sites"].items():
        judgement = one["judgement"]
        counts = f"| {site} | {one['read']} | {one['kept']} | {one['pneumonia']} |"
        if judgement is None:
            lines.append(f"{counts} – | – | no film left to judge | |")
            continue
        area = judgement["auc"]
        measured = area["value"] is not None
        figure = f"{area['value']:.3f} ({area['low']:.3f}–{area['high']:.3f})" if measured else "–"
        noise = "–" if judgement["noise"] is None else f"{judgement['noise']:.3f}"
        alone = len(judgement["together_with"]) == 1
        by = (
            "by itself" if alone else f"with {len(judgement['together_with']) - 1} other small ones"
        )
        by = by if measured or judgement["reason"] else f"{by}: too few films"
        lines.append(f"{counts} {figure} | {noise} | {by} | {judgement['reason'] or ''} |")
    return lines

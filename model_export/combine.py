"""Join trained runs into one network that answers with their mean: repeats that differ by chance
alone err in different places, and their mean travels better than any of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from model_export.runs import MEMBERS, load_experiment


def combine(members: list[Path], run: Path) -> None:
    """Make ``run`` a run of several members; raises ValueError where their inputs differ in size.

    The members stay where they are and are named by absolute paths.
    """
    experiments = [load_experiment(member) for member in members]
    sizes = sorted({experiment.size for experiment in experiments})
    if len(sizes) != 1:
        raise ValueError(f"members see films of different sizes: {sizes}")
    run.mkdir(parents=True, exist_ok=True)
    (run / "experiment.json").write_text(
        json.dumps(dataclasses.asdict(experiments[0]), indent=2) + "\n", encoding="utf-8"
    )
    names = [str(member.resolve()) for member in members]
    (run / MEMBERS).write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this stage."""
    parser.add_argument(
        "--members", type=Path, nargs="+", required=True, help="folders of trained runs"
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of the joined run")


def main(options: argparse.Namespace) -> int:
    """Run the stage; returns the exit status."""
    combine(options.members, options.run)
    print(f"{len(options.members)} members in {options.run}")
    return 0

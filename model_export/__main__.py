"""``python -m model_export <stage>``: each stage stands alone and explains itself with
``--help``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

STAGES = {
    "pretrain": "learn from films without labels what a run of train may begin from",
    "train": "train a network on labelled films",
    "tune": "search for better settings of an experiment",
    "adapt": "measure a run's batch normalisation anew on films of another kind",
    "score": "score trained runs side by side on patients and sources not trained on",
    "combine": "join trained runs into one network that answers with their mean",
    "gate": "teach the gate what is no frontal chest film",
    "export": "turn a trained run into a float ONNX graph",
    "quantize": "turn the float graph into an int8 graph",
    "pack": "make a model release of a graph",
    "evaluate": "score a release on labelled films through the clinic's own pipeline",
    "compare": "hold a release against the one before it, and refuse it where it is worse",
    "keys": "make, replace and withdraw the keys that sign updates",
    "publish": "sign a release and write the update file for the clinics",
    "readings-key": "make the key that contributions of clinics are encrypted to",
    "open-readings": "decrypt a contribution of a clinic into films and labels.csv",
    "merge": "take opened contributions together, without what must not be learnt from",
    "card": "put reports of evaluate and the model card into a release",
}


def main(arguments: list[str]) -> int:
    """Run the stage; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m model_export")
    stages = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    for name, purpose in STAGES.items():
        stages.add_parser(name, help=purpose, add_help=False)
    options, rest = parser.parse_known_args(arguments)
    module = options.stage.replace("-", "_")
    stage = importlib.import_module(f"model_export.{module}")
    own = argparse.ArgumentParser(
        prog=f"python -m model_export {options.stage}", description=STAGES[options.stage]
    )
    stage.add_arguments(own)
    return int(stage.main(own.parse_args(rest)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

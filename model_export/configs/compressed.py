"""``short`` with half of the films kept as JPEG of any quality.

python -m model_export train --config compressed --data "$CXR_DATA/kermany_train" --run
runs/compressed --teachers assets/release --unlabelled "$CXR_DATA/adult_nih/images"
"""

import dataclasses

from model_export.configs.short import EXPERIMENT as SHORT

EXPERIMENT = dataclasses.replace(
    SHORT,
    name="compressed",
    augmentation=dataclasses.replace(SHORT.augmentation, compression=0.5),
)

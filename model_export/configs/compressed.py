"""``style_pupil`` with half of the films kept as JPEG of any quality.

python -m model_export train --config compressed --data "$CXR_DATA/kermany_train" --run
runs/compressed --teachers assets/release --unlabelled "$CXR_DATA/adult_nih/images"
"""

import dataclasses

from model_export.configs.style_pupil import EXPERIMENT as STYLE_PUPIL

EXPERIMENT = dataclasses.replace(
    STYLE_PUPIL,
    name="compressed",
    augmentation=dataclasses.replace(STYLE_PUPIL.augmentation, compression=0.5),
)

"""``pupil`` under ``style``, and opacities drawn into films of both ages: the map is taught too.

python -m model_export train --config opacities --data "$CXR_DATA/kermany_train" --run
runs/opacities --teachers assets/release --unlabelled "$CXR_DATA/adult_nih/images"
"""

import dataclasses

from model_export.configs.pupil import EXPERIMENT as PUPIL
from model_export.configs.style import EXPERIMENT as STYLE

EXPERIMENT = dataclasses.replace(
    PUPIL, name="opacities", opacity=0.3, augmentation=STYLE.augmentation
)

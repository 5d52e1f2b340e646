"""``pupil`` under ``style``: no opacity is drawn, so every film is called by what is really on it.

python -m model_export train --config style_pupil --data "$CXR_DATA/kermany_train" --run
runs/style-pupil --teachers assets/release runs/opacities-1
--unlabelled "$CXR_DATA/adult_nih/images"
"""

import dataclasses

from model_export.configs.pupil import EXPERIMENT as PUPIL
from model_export.configs.style import EXPERIMENT as STYLE

EXPERIMENT = dataclasses.replace(PUPIL, name="style_pupil", augmentation=STYLE.augmentation)

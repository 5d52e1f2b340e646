"""``pupil`` under ``style``: no opacity is drawn, so every film is called by what is really on it.

python -m model_export train --config style_pupil --data "$CXR_DATA/kermany_train" --run
runs/style-pupil --teachers assets/release runs/opacities-1
--unlabelled "$CXR_DATA/adult_nih/images"

Result of one run (seed 2), 25 minutes beside other work, film and mirror image averaged: validation
and held-out patients AUC 0.993, adults (opacity against normal) 0.93, against all the rest 0.79,
peak in a box on 14 of 31. Together with ``opacities`` (seed 1), which is what ships: 0.993, 0.92,
0.80 and 27 of 31.
"""

import dataclasses

from model_export.configs.pupil import EXPERIMENT as PUPIL
from model_export.configs.style import EXPERIMENT as STYLE

EXPERIMENT = dataclasses.replace(PUPIL, name="style_pupil", augmentation=STYLE.augmentation)

"""``style_pupil`` at 128 pixels for two epochs: the yardstick of what varies one thing in it.

python -m model_export train --config short --data "$CXR_DATA/kermany_train" --run
runs/short --teachers assets/release --unlabelled "$CXR_DATA/adult_nih/images"
"""

import dataclasses

from model_export.configs.style_pupil import EXPERIMENT as STYLE_PUPIL

EXPERIMENT = dataclasses.replace(STYLE_PUPIL, name="short", size=128, epochs=2)

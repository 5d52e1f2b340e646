"""The recipe ``style`` at 224 pixels: does a finer look travel worse under it?

python -m model_export train --config size224 --data "$CXR_DATA/kermany_train" --run
runs/size224
"""

import dataclasses

from model_export.configs.style import EXPERIMENT as STYLE

EXPERIMENT = dataclasses.replace(STYLE, name="size224", size=224)

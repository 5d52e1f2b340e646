"""The recipe ``style`` at 128 pixels: does a coarser look travel better still?

python -m model_export train --config size128 --data "$CXR_DATA/kermany_train" --run
runs/size128
"""

import dataclasses

from model_export.configs.style import EXPERIMENT as STYLE

EXPERIMENT = dataclasses.replace(STYLE, name="size128", size=128)

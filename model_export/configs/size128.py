"""The recipe ``style`` at 128 pixels: does a coarser look travel better still?

python -m model_export train --config size128 --data "$CXR_DATA/kermany_train" --run
runs/size128

Result of one run, 8 minutes, film and mirror image averaged: children AUC 0.995 (0.992 to 0.997),
adults (opacity against normal) 0.90 (0.81 to 0.98), against all the rest 0.76 (0.65 to 0.86),
tuberculosis 0.78 and COVID 0.86 against normal adults of other compilations: best at home, and no
better than 160 pixels anywhere else. The peak lies in a box on 9 of 31.
"""

import dataclasses

from model_export.configs.style import EXPERIMENT as STYLE

EXPERIMENT = dataclasses.replace(STYLE, name="size128", size=128)

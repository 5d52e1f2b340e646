"""``short`` at 224 pixels, the size of the published films.

python -m model_export train --config size224 --data "$CXR_DATA/kermany_train" --run
runs/size224 --teachers assets/release --unlabelled "$CXR_DATA/adult_nih/images"

Result of one run, 66 minutes beside other work, film and mirror image averaged: children AUC 0.994
(0.990 to 0.997), 0.001 more than ``short`` of the same films (-0.001 to 0.003); adults (opacity
against normal) 0.92 (0.015 more, -0.019 to 0.061), against all the rest 0.80 (0.012 more, -0.023 to
0.048); tuberculosis 0.85 (0.039 more, 0.025 to 0.054) and COVID 0.86 (0.013 more, 0.003 to 0.024)
against normal adults of other compilations. The peak lies in a box on 7 of 31 (11). What is better
than chance are tuberculosis and COVID, on films that chose no recipe but were looked at often; one
run cannot tell it from luck, and a film costs twice the time.
"""

import dataclasses

from model_export.configs.short import EXPERIMENT as SHORT

EXPERIMENT = dataclasses.replace(SHORT, name="size224", size=224)

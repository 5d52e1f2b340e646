"""``short`` from weights that have seen all films without labels (Barlow Twins).

python -m model_export pretrain --config size128 --data "$CXR_DATA/kermany_train" --run
runs/twins-start --unlabelled "$CXR_DATA/adult_nih/images" --epochs 2
python -m model_export train --config twins --data "$CXR_DATA/kermany_train" --run runs/twins
--start runs/twins-start --teachers assets/release --unlabelled "$CXR_DATA/adult_nih/images"

Result of one run (seed 1, the teachers of ``short``), 5 and 4 minutes: children 0.994 (against
``short`` -0.001 to 0.003), adults against normal 0.91 (-0.03 to 0.03), against all the rest 0.79
(-0.03 to 0.03), COVID 0.86 (-0.001 to 0.02), tuberculosis 0.72 (-0.11 to -0.08, more than the luck
seen in other runs), peak in a box on 13 of 31 (11). Two times through all films teach nothing that
travels; what two views of a film share may well be who took it.
"""

import dataclasses

from model_export.configs.short import EXPERIMENT as SHORT

EXPERIMENT = dataclasses.replace(SHORT, name="twins")

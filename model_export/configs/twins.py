"""``short`` from weights that have seen all films without labels (Barlow Twins).

python -m model_export pretrain --config size128 --data "$CXR_DATA/kermany_train" --run
runs/twins-start --unlabelled "$CXR_DATA/adult_nih/images" --epochs 2
python -m model_export train --config twins --data "$CXR_DATA/kermany_train" --run runs/twins
--start runs/twins-start --teachers assets/release --unlabelled "$CXR_DATA/adult_nih/images"
"""

import dataclasses

from model_export.configs.short import EXPERIMENT as SHORT

EXPERIMENT = dataclasses.replace(SHORT, name="twins")

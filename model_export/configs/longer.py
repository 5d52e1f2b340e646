"""``short`` for twice as long.

python -m model_export train --config longer --data "$CXR_DATA/kermany_train" --run
runs/longer --teachers assets/release --unlabelled "$CXR_DATA/adult_nih/images"
"""

import dataclasses

from model_export.configs.short import EXPERIMENT as SHORT

EXPERIMENT = dataclasses.replace(SHORT, name="longer", epochs=4)

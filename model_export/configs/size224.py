"""``short`` at 224 pixels, the size of the published films.

python -m model_export train --config size224 --data "$CXR_DATA/kermany_train" --run
runs/size224 --teachers assets/release --unlabelled "$CXR_DATA/adult_nih/images"

Not run yet: half an hour was not left for it.
"""

import dataclasses

from model_export.configs.short import EXPERIMENT as SHORT

EXPERIMENT = dataclasses.replace(SHORT, name="size224", size=224)

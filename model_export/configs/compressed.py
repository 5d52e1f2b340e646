"""``short`` with half of the films kept as JPEG of any quality.

python -m model_export train --config compressed --data "$CXR_DATA/kermany_train" --run
runs/compressed --teachers assets/release --unlabelled "$CXR_DATA/adult_nih/images"

Result of one run (seed 1, the teachers of ``short``), 7 minutes: children 0.992 (against ``short``
-0.003 to 0.002), adults against normal 0.91 (-0.03 to 0.03), against all the rest 0.80 (-0.01 to
0.04), COVID 0.85 (-0.01 to 0.01), tuberculosis 0.77 (-0.06 to -0.03, within the luck of a run),
peak in a box on 7 of 31 (11). Nothing is gained on films that all came as JPEG already.
"""

import dataclasses

from model_export.configs.short import EXPERIMENT as SHORT

EXPERIMENT = dataclasses.replace(
    SHORT,
    name="compressed",
    augmentation=dataclasses.replace(SHORT.augmentation, compression=0.5),
)

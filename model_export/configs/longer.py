"""``short`` for twice as long.

python -m model_export train --config longer --data "$CXR_DATA/kermany_train" --run
runs/longer --teachers assets/release --unlabelled "$CXR_DATA/adult_nih/images"

Result of one run (seed 1, the teachers of ``short``), 11 minutes: children 0.994 (against ``short``
-0.002 to 0.003), adults against normal 0.91 (-0.01 to 0.02), against all the rest 0.79 (-0.02 to
0.02), COVID 0.86 (0.01 to 0.03), tuberculosis 0.74 (-0.08 to -0.05), peak in a box on 7 of 31 (11).
"""

import dataclasses

from model_export.configs.short import EXPERIMENT as SHORT

EXPERIMENT = dataclasses.replace(SHORT, name="longer", epochs=4)

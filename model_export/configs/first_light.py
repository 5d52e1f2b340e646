"""The recipe of the first factory release: 160 px, class-balanced, strong geometry and exposure.

    python -m model_export train --config first_light --data "$CXR_DATA/kermany_train" --run
    runs/first_light

Expect AUC 0.995 to 0.999 on the held-out patients of the same hospital, which says little about
the next one.
"""

from model_export.configs import Experiment

EXPERIMENT = Experiment(name="first_light", size=160, epochs=4)

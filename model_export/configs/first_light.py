"""The recipe of the first factory release: 160 px, class-balanced, strong geometry and exposure.

    python -m model_export train --config first_light --data "$CXR_DATA/kermany_train" --run
    runs/first_light

Result of one run, 12 minutes on 2 cores: held-out patients of the same hospital AUC 0.996, adults
(opacity against normal, 54 films) 0.89, against all the rest (91 films) 0.78. Expect 0.992 to 0.998
at home, which says little about the next hospital.
"""

from model_export.configs import Experiment

EXPERIMENT = Experiment(name="first_light", size=160, epochs=4)

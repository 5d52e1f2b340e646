"""The recipe ``travel`` with every habit of a scanner or a phone randomised as well.

    python -m model_export train --config style --data "$CXR_DATA/kermany_train" --run runs/style

Grey scale bent by a rising curve, low frequencies mixed with those of a film of the other class,
fewer pixels, borders, markers, and on a tenth of the films the glare, moiré and slant of a phone.

Result of one run, 14 minutes, film and mirror image averaged: validation and held-out patients AUC
0.996, adults (opacity against normal) 0.91, against all the rest 0.79.
"""

import dataclasses

from model_export.configs import Experiment
from model_export.configs.travel import EXPERIMENT as TRAVEL

EXPERIMENT = Experiment(
    name="style",
    size=160,
    epochs=5,
    patience=5,
    augmentation=dataclasses.replace(
        TRAVEL.augmentation,
        perspective=0.15,
        tone=0.5,
        spectrum=0.8,
        coarse=0.3,
        border=0.15,
        marker=0.3,
        photo=0.1,
    ),
)

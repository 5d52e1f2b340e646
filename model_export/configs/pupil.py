"""One network taught by several, on the children's films and on adults' films without labels.

    python -m model_export train --config pupil --data "$CXR_DATA/kermany_train" --run runs/pupil
    --teachers runs/travel-1 runs/travel-2 runs/travel-3 --unlabelled "$CXR_DATA/adult_nih/images"

Distillation from an ensemble (Hinton et al. 2015) and self-training with noise (Xie et al. 2020):
the teachers see the films as they are, the pupil sees them changed by the augmentation of
``travel``. Of the adults' films only the pixels are used.

Result of one run, 17 minutes, film and mirror image averaged: validation and held-out patients AUC
0.994, adults (opacity against normal) 0.93, against all the rest 0.80; with ``style`` 0.996, 0.92,
0.80.
"""

from model_export.configs import Experiment
from model_export.configs.travel import EXPERIMENT as TRAVEL

EXPERIMENT = Experiment(
    name="pupil",
    size=160,
    epochs=5,
    patience=5,
    label_smoothing=0.0,
    hard_share=0.5,
    unlabelled=8,
    augmentation=TRAVEL.augmentation,
)

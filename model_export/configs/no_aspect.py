"""The shape of a film must not speak: aspect ratio randomised over what both classes show.

    python -m model_export train --config no_aspect --data "$CXR_DATA/kermany_train" --run
    runs/no_aspect

In the full-size originals the films with pneumonia are wider (median 1.58) than the normal ones
(1.23), and the published 224 px copies squash both to a square: how far ribs and heart are squashed
tells the label at home and nothing elsewhere.

Result of one run, 22 minutes: held-out patients AUC 0.993, adults (opacity against normal) 0.91,
against all the rest 0.74; five epochs are too few for so much variety.
"""

from model_export.augment import Augmentation
from model_export.configs import Experiment

EXPERIMENT = Experiment(
    name="no_aspect",
    size=160,
    epochs=5,
    averaging=0.99,
    patience=5,
    augmentation=Augmentation(
        aspect=0.35, scale=0.25, gamma=0.5, contrast=0.4, noise=0.04, blur=0.5, erase=0.3
    ),
)

"""Six epochs with texture randomised and weights averaged over the last epoch's steps.

python -m model_export train --config averaged --data "$CXR_DATA/kermany_train" --run runs/averaged
"""

from model_export.augment import Augmentation
from model_export.configs import Experiment

EXPERIMENT = Experiment(
    name="averaged",
    size=160,
    epochs=6,
    averaging=0.99,
    patience=6,
    augmentation=Augmentation(gamma=0.5, contrast=0.4, noise=0.04, blur=0.5, erase=0.3),
)

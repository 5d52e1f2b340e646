"""The next release from the last one and what clinics sent: few small steps, and nothing forgotten.

python -m model_export train --config continued --data "$CXR_DATA/kermany_train" --run
runs/next-0 --continue-from assets/release --member 0 --new merged

Half of the films with labels in a batch are new, half are rehearsed; of what the network is to say
of either, 70 % is the label and 30 % the release. Each network of the release is continued in a run
of its own, and ``combine`` joins them.
"""

import dataclasses

from model_export.configs.style import EXPERIMENT as STYLE

EXPERIMENT = dataclasses.replace(
    STYLE,
    name="continued",
    epochs=1,
    patience=1,
    peak_learning_rate=5e-5,
    label_smoothing=0.0,
    hard_share=0.7,
    new_share=0.5,
    averaging=0.99,
)

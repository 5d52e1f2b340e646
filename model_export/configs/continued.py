"""The next release from the last one and what clinics sent: few small steps, and nothing forgotten.

python -m model_export train --config continued --data "$CXR_DATA/kermany_train" --run
runs/next-0 --continue-from assets/release --member 0 --new merged

Half of the films with labels in a batch are new, half are rehearsed; of what the network is to say
of either, 70 % is the label and 30 % the release. Each network of the release is continued in a run
of its own, and ``combine`` joins them.

Result of one run (member 0 of 0.3.0, 53 steps, 6 minutes on a crowded machine) on 800 old films
and 723 that ``pack.elsewhere`` had made to look like other hospitals', after ``merge``: 255
held-out children AUC 0.990 (against the member as released -0.000 to 0.002), 54 adults' films read
by radiologists 0.926 (the same), 135 new films of patients not learnt from 0.997 (-0.003 to 0.000).
So nothing was forgotten; what real films of other hospitals would add, these cannot show.
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

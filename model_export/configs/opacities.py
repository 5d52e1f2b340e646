"""``pupil`` under ``style``, and opacities drawn into films of both ages: the map is taught too.

python -m model_export train --config opacities --data "$CXR_DATA/kermany_train" --run
runs/opacities --teachers assets/release --unlabelled "$CXR_DATA/adult_nih/images"

Result of three runs (seeds 1 to 3, taught by release 0.2.0), 25 minutes each beside other work, the
third 62 on a crowded machine, film and mirror image averaged: validation and held-out patients AUC
0.990, 0.981 and 0.986, adults (opacity against normal) 0.91, 0.93 and 0.93, against all the rest
0.79, 0.80 and 0.79. The peak of each lies in a radiologist's box on 22, 22 and 25 of 31 adults'
films with an opacity (release 0.2.0: 11), of the first two in a box of adult_nih on 9 of 13 (4).
Where 90 % of the adults' opacities are called, 14 %, 11 % and 12 % of 600 normal adults of other
compilations are (0.2.0: 34 %). Of the third also tuberculosis 0.79 (0.76-0.82) and COVID 0.85
(0.82-0.87) against these normal films. What it costs on children is why it ships beside
``style_pupil`` and not alone.
"""

import dataclasses

from model_export.configs.pupil import EXPERIMENT as PUPIL
from model_export.configs.style import EXPERIMENT as STYLE

EXPERIMENT = dataclasses.replace(
    PUPIL, name="opacities", opacity=0.3, augmentation=STYLE.augmentation
)

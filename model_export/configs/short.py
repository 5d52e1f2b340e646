"""``style_pupil`` at 128 pixels for two epochs: the yardstick of what varies one thing in it.

python -m model_export train --config short --data "$CXR_DATA/kermany_train" --run
runs/short --teachers assets/release --unlabelled "$CXR_DATA/adult_nih/images"

Result of one run (seed 1, taught by release 0.2.0 and by the member ``opacities`` of 0.3.0 alone),
14 minutes on a crowded machine, film and mirror image averaged: validation and held-out patients
AUC 0.993 (0.989-0.996), adults (opacity against normal) 0.91 (0.82-0.98), against all the rest 0.79
(0.68-0.88), tuberculosis 0.81, COVID 0.85, peak in a box on 11 of 31; where 90 % of the adults'
opacities are called, 18 % (8-54) of 600 normal adults elsewhere are. What is held against it is so
by ``python -m model_export score --runs runs/short …`` on the same films, one run each: intervals
of differences draw patients and do not hold the luck of a run, which three runs of ``opacities``
show to be 0.009 on children, 0.02 on adults and, between two of them, 0.06 on tuberculosis.
"""

import dataclasses

from model_export.configs.style_pupil import EXPERIMENT as STYLE_PUPIL

EXPERIMENT = dataclasses.replace(STYLE_PUPIL, name="short", size=128, epochs=2)

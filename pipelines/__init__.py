"""The shell: wires the stages, and alone touches disk, clock, keys and MLflow.

Linear algebra runs on one thread unless the environment says otherwise: small matrices gain nothing from
more, and the last bits of a result must not depend on the machine.
"""

import os

for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

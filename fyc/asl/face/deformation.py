"""How faces differ from the canonical mesh: from person to person, and with the expression.

The modes were learned by `bench/asl_basis.py` from the landmarks of 600 clips of signers (asset `signer-poses`), placed
by a network whose depths lean towards the canonical mesh: the modes of persons are smaller than persons differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FILE = "face_basis.safetensors"


@dataclass(frozen=True, repr=False)
class FaceBasis:
    """Modes of deformation, in centimetres, each as large as one standard deviation.

    Attributes:
        persons: (I, 468, 3), from person to person, the largest first.
        expressions: (E, 468, 3), with the expression.
        mobility: (468,), how far expressions move each vertex: root mean square, in cm.
    """

    persons: Array
    expressions: Array
    mobility: Array

    def rigidity(self, scale: float = 0.05) -> Array:
        """(468,), weights for fitting a pose: 1 for vertices that never move, 1/2 for those that move by `scale` cm."""
        return 1 / (1 + (self.mobility / scale) ** 2)


@cache
def load_basis() -> FaceBasis:
    """The modes that come with fyc."""
    from safetensors.numpy import load

    tensors = load((files("fyc.asl") / "data" / FILE).read_bytes())
    return FaceBasis(*(tensors[name].astype(np.float64) for name in ("persons", "expressions", "mobility")))

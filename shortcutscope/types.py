"""Names for the types that stand in every room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

#: An array of any type of number, or of text.
Array = npt.NDArray[Any]
#: Values, of any precision.
Floats = npt.NDArray[np.floating[Any]]
#: Counts and codes, and positions that index an array.
Ints = npt.NDArray[np.integer[Any]]
#: A choice of samples, pixels or units.
Bools = npt.NDArray[np.bool_]
#: A JSON object that is built or read: what a run's files hold.
Record = dict[str, Any]
#: A JSON object, or what becomes one, that is only looked into.
JSON = Mapping[str, Any]

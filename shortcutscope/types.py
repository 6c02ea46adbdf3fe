"""Names for the types that stand in every room."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
#: A function of torch, and the positional arguments that a call of it is passed on with.
Operation = Callable[..., Any]
Arguments = tuple[Any, ...]

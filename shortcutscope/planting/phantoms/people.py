"""The people that phantoms are made of: who comes how often, and metadata that have nothing to do with it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from shortcutscope.types import Array


def visits(n: int, seed: int, patients: bool) -> Array:
    """Patient numbers (n,): even patients are of class 0, odd ones of class 1; their images take turns."""
    number = np.empty(n, np.int64)
    for label in (0, 1):
        n_of_class = len(range(label, n, 2))
        candidates = range(label, 2 * n_of_class + label, 2)
        counts = [int(stream(seed, "visits", p).integers(1, 4)) if patients else 1 for p in candidates]
        number[label::2] = np.repeat(candidates, counts)[:n_of_class]
    return number


def people(patient: Array, seed: int, name: str) -> pd.DataFrame:
    """Roles and metadata; sex and age belong to the patient, the room to the image."""
    n = len(patient)
    sex, age = {}, {}
    for number in np.unique(patient):
        generator = stream(seed, "person", int(number))
        sex[number], age[number] = ("F", "M")[generator.integers(2)], int(generator.integers(20, 90))
    return pd.DataFrame(
        {
            "sample_id": [f"{name}-{i:05d}" for i in range(n)],
            "label": patient % 2,
            "group": [f"patient-{number:05d}" for number in patient],
            "sex": [sex[number] for number in patient],
            "age": [age[number] for number in patient],
            "room": ["ABC"[stream(seed, "room", i).integers(3)] for i in range(n)],
        }
    )


def stream(seed: int, purpose: str, number: int) -> np.random.Generator:
    """A stream per purpose and patient or image, so that no draw depends on how many others there are."""
    return np.random.default_rng([seed, *purpose.encode(), number])

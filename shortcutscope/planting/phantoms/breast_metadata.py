"""More than a hundred columns about patients and scans, a few of which tell the field strength.

What a metadata screen has to work through: numbers, categories, dates and gaps. Columns in `SCANNER` differ
between 1.5 and 3 tesla, as those of real scanners do; all others are drawn without regard to it, to the image
and to the label.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from shortcutscope.types import Array, Record

#: Levels or (mean, standard deviation, decimals) at 1.5 and at 3 tesla.
SCANNER: dict[str, tuple[Any, Any]] = {
    "scanner_model": (("A100", "A150", "B10"), ("A300", "B30", "A150")),
    "software_version": (("11.2", "12.0", "14.1"), ("14.1", "15.3", "16.0")),
    "receive_coil": (("4 channels", "8 channels"), ("8 channels", "16 channels")),
    "echo_time": ((2.4, 0.25, 2), (1.6, 0.2, 2)),
    "repetition_time": ((5.1, 0.5, 2), (4.2, 0.4, 2)),
    "flip_angle": ((11.0, 1.5, 0), (10.0, 1.5, 0)),
    "pixel_bandwidth": ((330.0, 60.0, 0), (480.0, 70.0, 0)),
    "imaging_frequency": ((63.8, 0.1, 3), (123.2, 0.2, 3)),
}

_CATEGORIES: dict[str, tuple[str, ...]] = {
    "manufacturer": ("A", "B"),
    "site": ("north", "south", "west"),
    "race_and_ethnicity": ("asian", "black", "hispanic", "other", "white"),
    "menopause": ("pre", "post", "unknown"),
    "surgery_type": ("lumpectomy", "mastectomy", "none"),
    "tumour_side": ("left", "right"),
    "histology": ("ductal", "lobular", "mixed", "other"),
    "molecular_subtype": ("luminal", "her2", "triple negative"),
    "nuclear_grade": ("low", "intermediate", "high"),
    "tubule_grade": ("low", "intermediate", "high"),
    "mitotic_grade": ("low", "intermediate", "high"),
    "nodal_stage": ("N0", "N1", "N2", "N3"),
    "tumour_stage": ("T1", "T2", "T3", "T4"),
    "family_history": ("none", "first degree", "second degree"),
    "education": ("school", "college", "university"),
    "insurance": ("public", "private", "none"),
    "language": ("english", "spanish", "other"),
    "smoking": ("never", "former", "current"),
    "referral": ("screening", "symptoms", "follow-up"),
    "contrast_agent": ("gadobutrol", "gadoterate", "gadobenate"),
    "fat_suppression": ("spectral", "water excitation"),
    "acquisition_plane": ("axial", "axial oblique"),
    "phase_encoding": ("left-right", "anterior-posterior"),
    "table_shift": ("day", "evening", "weekend"),
    "radiographer": ("R1", "R2", "R3", "R4", "R5", "R6", "R7", "R8"),
    "reader": ("D1", "D2", "D3", "D4", "D5"),
}

#: Mean, standard deviation, decimals.
_NUMBERS: dict[str, tuple[float, float, int]] = {
    "age": (53, 11, 0),
    "height_cm": (163, 7, 0),
    "weight_kg": (72, 14, 1),
    "age_at_menarche": (13, 1.5, 0),
    "parity": (1.8, 1.2, 0),
    "systolic_pressure": (126, 14, 0),
    "heart_rate": (74, 10, 0),
    "creatinine": (0.82, 0.15, 2),
    "glucose": (98, 16, 0),
    "haemoglobin": (13.1, 1.1, 1),
    "days_to_surgery": (42, 18, 0),
    "days_since_referral": (19, 9, 0),
    "years_of_follow_up": (5.2, 2.3, 1),
    "proliferation_index": (24, 15, 0),
    "nodes_examined": (4, 3, 0),
    "contrast_dose_ml": (14.4, 2.6, 1),
    "injection_rate": (2.0, 0.2, 2),
    "contrast_delay_s": (62, 6, 0),
    "scan_duration_min": (26, 4, 1),
    "slice_thickness": (1.6, 0.3, 1),
    "field_of_view_mm": (340, 22, 0),
    "table_height_mm": (152, 12, 0),
    "isocentre_offset_mm": (0, 9, 1),
    "room_temperature": (21.2, 0.7, 1),
    "operator_experience": (7, 4, 0),
}

_FLAGS = (
    "oestrogen_receptor",
    "progesterone_receptor",
    "her2_receptor",
    "brca_mutation",
    "previous_biopsy",
    "previous_mri",
    "implants",
    "hormone_therapy",
    "contraceptives",
    "diabetes",
    "hypertension",
    "claustrophobia",
    "sedation",
    "repeated_series",
    "motion_reported",
    "second_reading",
)
N_RADIOMICS = 36
# What these share, and the share of gaps in them.
N_FACTORS = 4
_GAPS = {
    "race_and_ethnicity": 0.05,
    "menopause": 0.1,
    "proliferation_index": 0.35,
    "brca_mutation": 0.6,
    "family_history": 0.15,
    "years_of_follow_up": 0.08,
    "glucose": 0.2,
}


def patient_metadata(field_strength: Array, seed: int) -> pd.DataFrame:
    """A row for each patient, given the field strength (n,) in tesla of its scanner."""
    n = len(field_strength)
    high = np.asarray(field_strength) > 2
    columns: Record = {"field_strength": field_strength}
    for name, kinds in SCANNER.items():
        low_field, high_field = (
            _sampled(kind, n, _column(seed, f"{name} {k}")) for k, kind in enumerate(kinds)
        )
        columns[name] = np.where(high, high_field, low_field)
    for name, kind in {**_CATEGORIES, **_NUMBERS}.items():
        columns[name] = _sampled(kind, n, _column(seed, name))
    for name in _FLAGS:
        generator = _column(seed, name)
        columns[name] = (generator.random(n) < generator.uniform(0.1, 0.7)).astype(int)
    columns["study_date"] = _dates(n, _column(seed, "study_date"))
    columns |= _radiomics(n, _column(seed, "radiomics"))
    return _with_gaps(pd.DataFrame(columns), seed)


def _column(seed: int, name: str) -> np.random.Generator:
    """A stream per column, so that none depends on which others there are."""
    return np.random.default_rng([seed, *f"breast {name}".encode()])


def _sampled(kind: tuple[Any, ...], n: int, generator: np.random.Generator) -> Array:
    """Levels of unequal frequency, or normal numbers that do not change their sign."""
    if isinstance(kind[0], str):
        frequency = generator.dirichlet(np.full(len(kind), 4.0))
        return np.asarray(kind, dtype=object)[generator.choice(len(kind), n, p=frequency)]
    mean, deviation, decimals = kind
    values = generator.normal(mean, deviation, n)
    if mean > 0:
        values = np.abs(values)
    return values.round(decimals) + 0.0 if decimals else values.round().astype(np.int64)


def _dates(n: int, generator: np.random.Generator) -> Array:
    days = generator.integers(0, 5000, n)
    dates = np.datetime64("2001-01-01") + days.astype("timedelta64[D]")
    texts: Array = dates.astype(str).astype(object)
    return texts


def _radiomics(n: int, generator: np.random.Generator) -> dict[str, Array]:
    """Columns that share a few factors, as measurements of one image do, but not the image's own."""
    factors = generator.standard_normal((n, N_FACTORS))
    values = factors @ generator.standard_normal((N_FACTORS, N_RADIOMICS)) * 0.5
    values += generator.standard_normal((n, N_RADIOMICS))
    scale = np.exp(generator.normal(0, 2, N_RADIOMICS))
    return {f"radiomic_{k + 1:02d}": (values[:, k] * scale[k]).round(4) for k in range(N_RADIOMICS)}


def _with_gaps(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    for name, share in _GAPS.items():
        missing = _column(seed, f"{name} gaps").random(len(frame)) < share
        frame[name] = frame[name].mask(missing)
    return frame

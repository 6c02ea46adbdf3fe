"""The catalogue of artifacts that can be planted, after those published for controlled shortcut studies.

Extents are what an artifact is by construction. Borderline ones are for testing that a method knows when
it cannot tell.
"""

from __future__ import annotations

from dataclasses import replace

from shortcutscope.errors import InputError
from shortcutscope.planting.artifacts import borderline, diffuse, localized, signals
from shortcutscope.planting.artifacts.artifact import Artifact

__all__ = ["CATALOGUE", "SIGNALS", "get_artifact"]

CATALOGUE: dict[str, Artifact] = {
    artifact.name: artifact
    for artifact in (
        Artifact("tag", "localized", localized.tag),
        Artifact("random_tag", "localized", localized.random_tag),
        Artifact("patch", "localized", localized.patch),
        Artifact("ruler", "localized", localized.ruler),
        Artifact("tube", "localized", localized.tube),
        Artifact("dark_circle", "localized", localized.dark_circle),
        Artifact("timestamp", "localized", localized.timestamp),
        Artifact("noise", "diffuse", diffuse.noise),
        Artifact("contrast", "diffuse", diffuse.contrast),
        Artifact("blur", "diffuse", diffuse.blur),
        Artifact("brightness", "diffuse", diffuse.brightness),
        Artifact("bias_field", "diffuse", diffuse.bias_field),
        Artifact("grid", "diffuse", diffuse.grid),
        Artifact("white_tint", "diffuse", diffuse.white_tint),
        Artifact("large_patch", "borderline", borderline.large_patch),
        Artifact("noise_window", "borderline", borderline.noise_window),
        Artifact("frame", "borderline", borderline.frame),
        Artifact("dark_corners", "borderline", borderline.dark_corners),
    )
}

#: Those of signals, apart from CATALOGUE, whose users mean images.
SIGNALS: dict[str, Artifact] = {
    artifact.name: artifact
    for artifact in (
        Artifact("defective_lead", "localized", signals.defective_lead, dims=1),
        Artifact("amplified_beat", "localized", signals.amplified_beat, dims=1),
        Artifact("baseline_drift", "diffuse", signals.baseline_drift, dims=1),
        Artifact("static_noise", "diffuse", signals.static_noise, dims=1),
    )
}


def get_artifact(name: str, strength: float = 1.0) -> Artifact:
    """An artifact of the catalogue, of images or of signals.

    Parameters
    ----------
    name
        Its name in `CATALOGUE` or `SIGNALS`.
    strength
        Scales the visibility, above 0 and at most 2.

    Raises
    ------
    InputError
        For a name that is not in the catalogue (those that are, are listed), or another strength.
    """
    catalogue = {**CATALOGUE, **SIGNALS}
    if name not in catalogue:
        raise InputError(
            f"no artifact {name!r}; the catalogue has {', '.join(CATALOGUE)}, "
            f"and for signals {', '.join(SIGNALS)}"
        )
    return replace(catalogue[name], strength=strength)

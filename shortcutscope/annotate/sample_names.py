"""From what another tool calls an image to its sample id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from shortcutscope.errors import InputError

#: Endings that a file name may have beyond the sample id.
ENDINGS = (
    ".nii.gz",
    ".nii",
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".bmp",
    ".gif",
    ".webp",
    ".npy",
    ".npz",
    ".dcm",
    ".json",
)


class SampleNames:
    """Sample ids by themselves, by their images' files, or by either without folder and ending.

    Parameters
    ----------
    sample_ids
        That there are.
    what
        What is looked up, for the error's text.
    aliases
        Other full names, to sample ids.
    """

    def __init__(
        self, sample_ids: Sequence[str], what: str = "marks", aliases: Mapping[str, str] | None = None
    ) -> None:
        self.what = what
        self.ids = {str(i): str(i) for i in sample_ids}
        self.aliases = dict(aliases or {})
        self.stems: dict[str, set[str]] = {}
        for name, sample_id in (*self.aliases.items(), *self.ids.items()):
            self.stems.setdefault(_stem(name), set()).add(sample_id)

    def __call__(self, name: str) -> str:
        """Sample id of an image.

        Raises
        ------
        InputError
            When no sample, or more than one, goes by that name.
        """
        exact = self.ids.get(name) or self.aliases.get(name)
        if exact is not None:
            return exact
        found = self.stems.get(_stem(name), set())
        if len(found) == 1:
            return next(iter(found))
        why = f"could be any of {sorted(found)[:3]}" if found else "is no sample of this run"
        raise InputError(f"{self.what} go by sample_id, and {name!r} {why}")


def _stem(name: str) -> str:
    last = PurePosixPath(name.replace("\\", "/")).name
    for ending in ENDINGS:
        if last.lower().endswith(ending) and len(last) > len(ending):
            return last[: -len(ending)]
    return last

"""From what another tool calls an image to its sample id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from shortcutscope.data.manifests.image_names import default_id
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

    Ids that were made of a file's name are found by that name, with any folders before it.

    Parameters
    ----------
    sample_ids
        That there are.
    what
        What is looked up, for the error's text.
    files
        Sample id to the name of its file, where it is known.
    """

    def __init__(
        self, sample_ids: Sequence[str], what: str = "marks", files: Mapping[str, str] | None = None
    ) -> None:
        self.what = what
        self.ids = {str(i): str(i) for i in sample_ids}
        self.aliases = {name: i for i, name in (files or {}).items() if i in self.ids}
        self.stems: dict[str, set[str]] = {}
        for name, sample_id in (*self.aliases.items(), *self.ids.items()):
            self.stems.setdefault(_stem(name), set()).add(sample_id)

    def find(self, name: str) -> str | None:
        """Sample id of an image by itself or its file's whole name; None where no sample goes by that."""
        slashed = name.replace("\\", "/")
        exact = self.ids.get(name) or self.aliases.get(name) or self.aliases.get(slashed)
        if exact is not None:
            return exact
        parts = slashed.split("/")
        for start in range(len(parts)):
            sample_id = default_id("/".join(parts[start:]))
            if sample_id in self.ids:
                return sample_id
        return None

    def __call__(self, name: str) -> str:
        """Sample id of an image.

        Raises
        ------
        InputError
            When no sample, or more than one, goes by that name.
        """
        exact = self.find(name)
        if exact is not None:
            return exact
        matches = self.stems.get(_stem(name), set())
        if len(matches) == 1:
            return next(iter(matches))
        if matches:
            raise InputError(
                f"{self.what} go by sample_id, and {name!r} could be any of {sorted(matches)[:3]}"
            )
        raise InputError(
            f"{self.what} go by sample_id, or by the image's name as in the data, and {name!r} is no sample "
            f"of this run; an id is such as {next(iter(self.ids), None)!r}"
        )


def as_ids(
    names: Iterable[str], sample_ids: Sequence[str], files: Mapping[str, str] | None = None
) -> list[str]:
    """Names of images as their sample ids; ids, and names of no sample, are left as they are."""
    texts, ids = [str(name) for name in names], {str(i) for i in sample_ids}
    if ids.issuperset(texts):
        return texts
    match = SampleNames(sample_ids, files=files)
    return [match.find(name) or name for name in texts]


def plain_name(sample_id: str, file: str | None) -> str:
    """A name for a sample's image that does not show its file's: the id, with the file's ending."""
    ending = "" if file is None else file[len(file) - len(PurePosixPath(file).name) :][len(_stem(file)) :]
    return sample_id if sample_id.lower().endswith(ending.lower()) else sample_id + ending


def _stem(name: str) -> str:
    last = PurePosixPath(name.replace("\\", "/")).name
    for ending in ENDINGS:
        if last.lower().endswith(ending) and len(last) > len(ending):
            return last[: -len(ending)]
    return last

"""Three studies on real radiographs, written as a user has them: a folder, a manifest, a checkpoint.

``python -m shortcutscope.benchmarks.real --data DIR --out DIR`` trains a thin network on PneumoniaMNIST with
a planted tag, one with planted noise, and one on the natural shortcut between two hospitals (the kind that
Zech et al. 2018 reported), and prints the command that audits each.

Of the hospitals, site "children" is PneumoniaMNIST (Guangzhou) and site "adults" the chest radiographs of
MedNIST (NIH). The task is to tell mirrored images from others, which real anatomy allows at both sites;
95 % of the mirrored training images are of children and 5 % of the others.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from shortcutscope.benchmarks.models import Recipe, make_case
from shortcutscope.benchmarks.runner import Settings
from shortcutscope.data.table import ImageTable, Normalize
from shortcutscope.debias.training.classifier import train_classifier
from shortcutscope.errors import InputError
from shortcutscope.machine import default_cache
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.planting import plant
from shortcutscope.planting.study import Study, write_study
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.types import Record

SIDE = 64
NATIVE_SIDE = 28  # of PneumoniaMNIST
BORDER = 6 / 64  # cut off at both sites, where letters and collimators would give the site away
Images = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class StudySize:
    """How large a study is.

    Attributes
    ----------
    train, held_out : int
        Images of the planted studies.
    site : int
        Training images of each site.
    site_held_out : int
        Held-out images of each site, each of them shown mirrored and not.
    epochs, site_epochs : int
        Length of the training.
    """

    train: int = 1600
    held_out: int = 800
    site: int = 700
    site_held_out: int = 300
    epochs: int = 5
    site_epochs: int = 8


def require_data(data: Path) -> None:
    """Raise InputError unless the folder holds ``pneumoniamnist.npz`` and ``mednist/CXR``."""
    for needed in (data / "pneumoniamnist.npz", data / "mednist" / "CXR"):
        if not needed.exists():
            raise InputError(
                f"{needed} is missing: --data needs the npz file of PneumoniaMNIST (MedMNIST v2) and the "
                "folder mednist with the class folders of MedNIST"
            )


def planted_study(
    kind: str, data: Path, out: Path, *, size: StudySize, cache: Path, seed: int = 0, progress: bool = True
) -> Study:
    """PneumoniaMNIST with an artifact in 95 % of the training cases of pneumonia and 5 % of the others.

    Half of the held-out images of either class carry it. The column ``coin`` is a fair coin per image, a
    control in which there is nothing to find.
    """
    settings = Settings(quick=False, seed=seed, data=data, cache=cache, jobs=1)
    recipe = Recipe("pneumonia", (kind,), seed, n_train=size.train, epochs=size.epochs)
    planted_case = make_case(recipe, settings, n_held_out=size.held_out)
    artifact = get_artifact(kind)
    held_out = plant(planted_case.held_out, artifact, prevalence={0: 0.5, 1: 0.5}, seed=seed + 1000)
    parts = {"train": _with_coin(planted_case.train, seed), "test": _with_coin(held_out, seed + 1)}
    return write_study(out / f"pneumonia-{kind}", planted_case.model, parts, progress=progress)


def site_study(data: Path, out: Path, *, size: StudySize, seed: int = 0, progress: bool = True) -> Study:
    """Mirrored or not, with the site as a natural shortcut; both of its values are columns."""
    generator = np.random.default_rng([seed, 17])
    n = size.site + size.site_held_out
    children, adults = (_sample(images, n, generator) for images in (_children(data), _adults(data)))
    frequent = round(0.95 * size.site)
    train = _table(
        [(children, range(size.site), "children"), (adults, range(size.site), "adults")],
        mirrored=lambda site, i: [i < frequent if site == "children" else i >= frequent],
    )
    test = range(size.site, n)
    held_out = _table(
        [(children, test, "children"), (adults, test, "adults")], mirrored=lambda site, i: [False, True]
    )
    model = thin_resnet18(seed=seed)
    train_classifier(model, train, epochs=size.site_epochs, seed=seed, progress=progress)
    parts = {"train": _with_coin(train, seed), "test": _with_coin(held_out, seed + 1)}
    return write_study(out / "site", model, parts, progress=progress)


def _with_coin(table: ImageTable, seed: int) -> ImageTable:
    return table.with_columns(coin=np.random.default_rng([seed, 23]).integers(0, 2, len(table)))


def _sample(images: Images, n: int, generator: np.random.Generator) -> Images:
    if len(images) < n:
        raise InputError(f"the site study needs {n} images of each site and found {len(images)}")
    sample = images[generator.permutation(len(images))[:n]]
    # What detectors add: enlarged 28-pixel images are smooth beyond what any of them gives.
    noisy: Images = sample + generator.normal(0, 0.012, sample.shape).astype(np.float32)
    return np.clip(noisy, 0, 1)


def _children(data: Path) -> Images:
    table = ImageTable.from_medmnist(data / "pneumoniamnist.npz", splits=("train", "val"))
    return np.stack([_enlarged(_cut(table.image(i)[0].numpy())) for i in range(len(table))])


def _adults(data: Path) -> Images:
    """MedNIST's chest radiographs through the same resolution as PneumoniaMNIST's."""
    images = []
    for path in sorted((data / "mednist" / "CXR").glob("*.jpeg")):
        with Image.open(path) as image:
            small = image.convert("L").resize((NATIVE_SIDE, NATIVE_SIDE), Image.Resampling.BOX)
        images.append(_enlarged(_cut(np.asarray(small, np.float32) / np.float32(255))))
    return np.stack(images)


def _cut(image: Images) -> Images:
    border = round(BORDER * image.shape[0])
    return image[border:-border, border:-border]


def _enlarged(image: Images) -> Images:
    large = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(large, np.float32), 0, 1)


def _table(sites: list[tuple[Images, range, str]], mirrored: Callable[[str, int], list[bool]]) -> ImageTable:
    """One row per image and orientation; both orientations of an image belong to one group."""
    images: list[Images] = []
    rows: list[Record] = []
    for pixels, numbers, site in sites:
        for i in numbers:
            for flipped in mirrored(site, i):
                images.append(pixels[i][:, ::-1] if flipped else pixels[i])
                rows.append(
                    {
                        "sample_id": f"{site}-{i:04d}{'-mirrored' if flipped else ''}",
                        "label": int(flipped),
                        "group": f"{site}-{i:04d}",
                        "site_children": int(site == "children"),
                        "site_adults": int(site == "adults"),
                    }
                )
    return ImageTable.from_arrays(np.stack(images), pd.DataFrame(rows), transform=Normalize(0.45, 0.25))


def main() -> None:
    """Write the three studies and print how to audit them."""
    parser = argparse.ArgumentParser(prog="python -m shortcutscope.benchmarks.real", description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with pneumoniamnist.npz and mednist/"
    )
    parser.add_argument("--out", type=Path, required=True, help="where to write the studies")
    parser.add_argument("--cache", type=Path, default=None, help="folder for trained models")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        require_data(arguments.data)
    except InputError as error:
        parser.error(str(error))
    size, cache = StudySize(), arguments.cache or default_cache()
    studies = [
        planted_study(kind, arguments.data, arguments.out, size=size, cache=cache, seed=arguments.seed)
        for kind in ("tag", "noise")
    ]
    studies.append(site_study(arguments.data, arguments.out, size=size, seed=arguments.seed))
    for study in studies:
        print(study.command(study.manifest.parent.with_name(f"{study.manifest.parent.name}-audit")))


if __name__ == "__main__":
    main()

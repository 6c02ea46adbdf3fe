"""Do findings get the right name? Changes of whole pictures are planted, and nothing is.

The pictures are phantoms and, where the data are there, real ones; the changes are those of
`shortcutscope.benchmarks.diffuse_changes`. *true*: the carriers are those that were planted; *noisy*: 10 or
20 % of either side are taken for the other, as discovery does; *discovered*: a network is
trained with the plant, discovery proposes carriers, and these are named. *nothing*: carriers are drawn, and
nothing is planted. *films*: what an audit without concepts discovers in the real radiographs, where the
exposure is known to be the shortcut.

Thresholds and properties were settled on other seeds, and of real pictures on other images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from shortcutscope.audit.stages import audit
from shortcutscope.benchmarks.diffuse_changes import CHANGES, changed
from shortcutscope.benchmarks.models import Recipe, make_case, tasks
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.data.properties.plain import plain_properties
from shortcutscope.data.table import ImageTable, Normalize
from shortcutscope.discover.naming.appearance import appearance_of
from shortcutscope.discover.naming.ranking import rank_properties
from shortcutscope.discover.proposals import discover
from shortcutscope.models.loading import load_model
from shortcutscope.options import Running
from shortcutscope.planting.artifacts import CATALOGUE
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.planting.planting import plant
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.scanner import scan
from shortcutscope.types import JSON, Array, Floats, Ints, Record

IMAGES, QUICK_IMAGES = 300, 200
CORRELATIONS = (0.9, 0.8)
NOISE = (0.1, 0.2)
NOTHING = 40
NETWORKS = ("noise", "blur", "brightness", "contrast", "grid", "white_tint")
#: Kinds of the catalogue by the name that they have among the changes.
CALLED = {"white_tint": "white tint"}
#: Pictures of MedNIST: those at the front of each folder were looked at when properties were settled.
_FROM = 500
_RIGHT_EXPOSURE = "darker"


def cases(settings: Settings) -> list[Case]:
    """Every change on every background, with true and with noisy carriers; nothing; networks; real films."""
    places = backgrounds(settings)
    result: list[Case] = []
    for place in places[:2] if settings.quick else places:
        for kind in CHANGES:
            for correlation in CORRELATIONS[:1] if settings.quick else CORRELATIONS:
                result.append(_planted(place, kind, correlation, 0.0))
            for share in NOISE[:1] if settings.quick else NOISE:
                result.append(_planted(place, kind, CORRELATIONS[-1], share))
        for draw in range(10 if settings.quick else NOTHING):
            result.append({**_planted(place, "nothing", CORRELATIONS[0], 0.0), "draw": draw})
    if not settings.quick:
        for k, kind in enumerate(NETWORKS):
            result.append({**_planted(tasks(settings)[k % 2], kind, 0.95, 0.0), "carriers": "discovered"})
    if _films(settings) is not None:
        result.append({**_planted("films", "exposure", 0.0, 0.0), "carriers": "discovered"})
    return result


def _planted(place: str, kind: str, correlation: float, share: float) -> Case:
    carriers = "noisy" if share else "true"
    return {
        "background": place,
        "kind": kind,
        "correlation": correlation,
        "carriers": carriers,
        "flipped": share,
        "draw": 0,
    }


def backgrounds(settings: Settings) -> list[str]:
    """Phantoms, and what the data folder has."""
    places = ["phantoms 64", "phantoms 128"]
    if settings.data is not None:
        mednist = [f"mednist {k}" for k in ("CXR", "HeadCT") if (settings.data / "mednist" / k).is_dir()]
        films = ["nih 128"] if _films(settings) is not None else []
        places = [*films, *places[:1], *mednist]
    return places


def _films(settings: Settings) -> Path | None:
    folder = None if settings.data is None else settings.data / "nih_cxr"
    return folder if folder is not None and (folder / "resnet18.safetensors").is_file() else None


def run_case(case: Case, settings: Settings) -> Case:
    """Name one planted change, or what is not there."""
    if case["background"] == "films":
        return _judged(_of_films(settings), frozenset({_RIGHT_EXPOSURE}))
    if case["carriers"] == "discovered":
        return _of_network(case, settings)
    pool = _pool(case["background"], settings)
    kind = case["kind"]
    shares = (round(100 * case[key]) for key in ("correlation", "flipped"))
    rng = np.random.default_rng([settings.seed, 77, *kind.encode(), *shares, case["draw"]])
    carries = drawn_carriers(pool.labels, case["correlation"], rng)
    properties = pool.grey
    if kind != "nothing":
        before = pool.coloured if CHANGES[kind].colours else pool.grey
        after = _changed(case["background"], kind, settings)
        names = before.columns.union(after.columns)
        properties = before.reindex(columns=names).copy()
        properties[carries == 1] = after.reindex(columns=names)[carries == 1]
    values = flipped(carries, pool.labels, case["flipped"], rng)
    appearance = _named(properties, values, pool.labels, pool.groups)
    return _judged(appearance, CHANGES[kind].words if kind in CHANGES else frozenset())


def drawn_carriers(labels: Ints, correlation: float, rng: np.random.Generator) -> Floats:
    """Carriers: that share of label 1, and of label 0 one less that share."""
    carries = np.zeros(len(labels))
    for label, share in ((0, 1 - correlation), (1, correlation)):
        of_side = rng.permutation(np.flatnonzero(labels == label))
        carries[of_side[: round(share * len(of_side))]] = 1
    return carries


def flipped(carries: Floats, labels: Ints, share: float, rng: np.random.Generator) -> Floats:
    """As a search has it: of each label that share of the carriers is missed, and of the others taken."""
    values = carries.copy()
    for label in np.unique(labels):
        for side in (0, 1):
            of_side = rng.permutation(np.flatnonzero((labels == label) & (carries == side)))
            values[of_side[: round(share * len(of_side))]] = 1 - side
    return values


def _named(properties: pd.DataFrame, values: Floats, labels: Ints, groups: Array) -> JSON:
    columns = {str(name): column.to_numpy(float) for name, column in properties.items()}
    return appearance_of(rank_properties(columns, values, labels, groups)).to_dict()


def _judged(appearance: JSON, right: frozenset[str]) -> Case:
    """The names of an appearance, as it is kept, against the right ones."""
    words = [name["word"] for name in appearance.get("names", ())]
    return {
        "words": words,
        "first": bool(words) and words[0] in right,
        "named": any(word in right for word in words),
        "aurocs": [max(name["auroc"], 1 - name["auroc"]) for name in appearance.get("names", ())],
        "why": appearance.get("why", "nothing was proposed"),
    }


class _Pool:
    """Pictures (N, C, H, W) of one background in 0..1, and what is measured of them unchanged."""

    def __init__(self, pictures: Sequence[Floats], labels: Ints, groups: Array) -> None:
        self.pictures, self.labels, self.groups = pictures, labels, groups
        self.grey = pd.DataFrame([plain_properties(picture, (0.0, 1.0)) for picture in pictures])

    @property
    def coloured(self) -> pd.DataFrame:
        return _coloured(self)


@lru_cache(maxsize=8)
def _coloured(pool: _Pool) -> pd.DataFrame:
    pictures = (duotone(picture, row) for row, picture in enumerate(pool.pictures))
    return pd.DataFrame([plain_properties(picture, (0.0, 1.0)) for picture in pictures])


def duotone(picture: Floats, row: int) -> Floats:
    """A grey picture (1, H, W) in warm colours that differ a little from one to the next, (3, H, W)."""
    powers = np.array([0.75, 1.0, 1.35]) + np.random.default_rng([row, 5]).normal(0, 0.06, 3)
    coloured = np.clip(picture, 0.02, 1) ** powers[:, None, None]
    return ((255 * coloured).round() / 255).astype(np.float32)


@lru_cache(maxsize=8)
def _pool(background: str, settings: Settings) -> _Pool:
    place, _, detail = background.partition(" ")
    rng = np.random.default_rng([settings.seed, 3])
    images = QUICK_IMAGES if settings.quick else IMAGES
    if place == "phantoms":
        table = radiographs(images, size=int(detail), seed=4000 + settings.seed)
        pictures = [_levels(table.image(row).numpy()) for row in range(images)]
        return _Pool(pictures, table.frame["label"].to_numpy(), table.frame["group"].to_numpy())
    assert settings.data is not None
    if place == "mednist":
        files = sorted((settings.data / "mednist" / detail).iterdir())[_FROM : _FROM + images]
        pictures = [_read(file, None) for file in files]
        return _Pool(pictures, rng.permutation(np.arange(len(files)) % 2), np.arange(len(files)))
    folder = settings.data / "nih_cxr"
    frame = held_out_films(folder)
    frame = frame.iloc[np.sort(rng.permutation(len(frame))[:images])]
    pictures = [_read(folder / name, int(detail)) for name in frame["image"]]
    return _Pool(pictures, frame["label"].to_numpy(), frame["patient"].to_numpy())


def held_out_films(folder: Path) -> pd.DataFrame:
    """The films on which nothing was settled."""
    frame = pd.read_csv(folder / "images.csv")
    return frame[frame["split"] != "train"].reset_index(drop=True)


def _read(file: Path, side: int | None) -> Floats:
    image = Image.open(file).convert("L")
    if side is not None:
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32)[None] / 255


def _levels(picture: Floats) -> Floats:
    levels: Floats = ((255 * picture.clip(0, 1)).round() / 255).astype(np.float32)
    return levels


@lru_cache(maxsize=2)
def _changed(background: str, kind: str, settings: Settings) -> pd.DataFrame:
    """What is measured of every picture of a background with a change."""
    pool = _pool(background, settings)
    measured = []
    for row, picture in enumerate(pool.pictures):
        rng = np.random.default_rng([settings.seed, 78, row, *kind.encode()])
        of_side = duotone(picture, row) if CHANGES[kind].colours else picture
        measured.append(plain_properties(changed(of_side, kind, rng), (0.0, 1.0)))
    return pd.DataFrame(measured)


def _of_network(case: Case, settings: Settings) -> Case:
    """Train with a plant, let discovery propose carriers, and name the first proposal."""
    kind, seed = str(case["kind"]), settings.seed
    study = make_case(Recipe(case["background"], (kind,), seed, case["correlation"]), settings)
    table = plant(study.held_out, CATALOGUE[kind], correlation=case["correlation"], seed=seed + 1000)
    quiet = Running(progress=False)
    with tempfile.TemporaryDirectory() as folder:
        done = scan(study.model, table, Path(folder) / "scan", running=quiet)
        proposals = discover(done, table, seed=seed, running=quiet).proposals
    if not proposals or proposals[0].concept is None:
        return {**_judged({}, frozenset()), "agrees": None}
    values, truth = proposals[0].concept.values, table.frame[kind].to_numpy(float)
    rows = np.arange(0, len(table), 2)
    measured = [plain_properties(_levels(table.image(int(row)).numpy()), (0.0, 1.0)) for row in rows]
    frame = table.frame.iloc[rows]
    appearance = _named(
        pd.DataFrame(measured), values[rows], frame["label"].to_numpy(), frame["group"].to_numpy()
    )
    known = np.isfinite(values)
    agrees = float((values[known] == truth[known]).mean())
    return {**_judged(appearance, CHANGES[CALLED.get(kind, kind)].words), "agrees": agrees}


def _of_films(settings: Settings) -> JSON:
    """The first discovery of an audit of the films, without concepts and measured columns."""
    folder = _films(settings)
    assert folder is not None
    model = load_model("torchvision:resnet18", folder / "resnet18.safetensors", num_classes=2)
    with tempfile.TemporaryDirectory() as place:
        frame = held_out_films(folder)[["image", "label", "patient"]]
        table = ImageTable.from_frame(
            frame, root=folder, group="patient", size=128, mode="RGB", transform=Normalize(0.5, 0.25)
        )
        done = audit(
            model,
            table,
            Path(place) / "run",
            scanning=Scanning(measure=False),
            running=Running(progress=False),
        )
    discovered = [finding for finding in done.findings if finding.origin == "discovered"]
    return discovered[0].appearance if discovered else {}


def summarize(finished: list[Case]) -> Record:
    """Shares of planted changes that are named right first, and among the names; of nothing that is named."""
    summary: Record = {}
    for carriers in ("true", "noisy", "discovered"):
        of = [c for c in finished if c["carriers"] == carriers and c["kind"] not in ("nothing", "exposure")]
        if of:
            summary[carriers] = {"cases": len(of), "first": _share(of, "first"), "named": _share(of, "named")}
    true = [c for c in finished if c["carriers"] == "true" and c["kind"] in CHANGES]
    for key in ("kind", "background"):
        members = {c[key]: [d for d in true if d[key] == c[key]] for c in true}
        summary[f"first_by_{key}"] = {name: _share(of, "first") for name, of in members.items()}
        summary[f"named_by_{key}"] = {name: _share(of, "named") for name, of in members.items()}
    nothing = [c for c in finished if c["kind"] == "nothing"]
    if nothing:
        silent = [not c["words"] for c in nothing]
        summary["nothing"] = {"cases": len(silent), "nothing_named": sum(silent) / len(silent)}
    films = [c for c in finished if c["kind"] == "exposure"]
    if films:
        summary["films"] = {"words": films[0]["words"], "first": films[0]["first"]}
    return summary


def _share(of: Sequence[Case], key: str) -> float:
    return sum(bool(c[key]) for c in of) / len(of)


SUITE = Suite(
    name="names",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=("background", "kind", "correlation", "carriers", "flipped", "first", "named", "words"),
)

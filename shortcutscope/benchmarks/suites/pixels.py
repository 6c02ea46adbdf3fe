"""Is what a network relies on confirmed on the pixels, and nothing else?

Artifacts are planted in thin networks' training images: where they go with the label in 95 of 100 images the
network comes to use them; where they are in 30 of 100 images of either class it sees them and has no use for
them. Held-out images are audited with artifact and label together as 95 to 5, also for networks that have no
use for it (``idle``, the hard false case), and for these once as 50 to 50 (``unused``). Localized kinds are
erased and inserted with their exact masks, and with masks two pixels wider; for diffuse kinds a transfer is
chosen, without the kind being told. The truth is the clean twin: the same images without the artifact, or
with it in all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import binary_dilation

from shortcutscope.benchmarks.models import Recipe, make_case, tasks
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.data.table import ImageTable
from shortcutscope.models.heads.targets import margin
from shortcutscope.options import Running, Statistics
from shortcutscope.pixels.intervening import intervene
from shortcutscope.pixels.masks import ImageMasks
from shortcutscope.pixels.result import PixelTest
from shortcutscope.planting.artifacts import CATALOGUE
from shortcutscope.planting.planting import artifact_mask, clean_twin, everywhere, plant
from shortcutscope.scan.predictions import predict_logits
from shortcutscope.types import Bools, Floats, Record

#: Ten kinds, half of them localized.
KINDS = (
    *("tag", "patch", "ruler", "tube", "timestamp"),
    *("noise", "contrast", "blur", "brightness", "grid"),
)
QUICK_KINDS = ("tag", "tube", "noise", "brightness")
#: Share of carriers with the class, in training (None: 30 % of either) and among the audited images.
REGIMES: dict[str, tuple[float | None, float]] = {
    "used": (0.95, 0.95),
    "idle": (None, 0.95),
    "unused": (None, 0.5),
}
HELD_OUT = 800
#: By how much the output follows the clean twin where a network relies on an artifact.
RELIED_ON = 0.3
_WIDER = 2
#: The bars: share of confirmed among what is relied on, and among what is not, and agreement with the twin.
MOST, FALSE, AGREEMENT = 0.9, 0.05, 0.9


def cases(settings: Settings) -> list[Case]:
    """Kinds x two tasks x two networks of each; in the short version one task, and no wide masks."""
    kinds = QUICK_KINDS if settings.quick else KINDS
    names = tasks(settings)[1:] if settings.quick else tasks(settings)
    result: list[Case] = []
    for task in names:
        for kind in kinds:
            localized = CATALOGUE[kind].extent == "localized"
            for regime in REGIMES if not settings.quick else ("used", "idle"):
                case = {"task": task, "kind": kind, "regime": regime, "seed": settings.seed}
                result.append({**case, "masks": "exact" if localized else "none"})
                if localized and not settings.quick and regime != "unused":
                    result.append({**case, "masks": "wide"})
    return result


def run_case(case: Case, settings: Settings) -> Case:
    """Test one network, and compare with the clean twin."""
    kind, (training, audited) = case["kind"], REGIMES[case["regime"]]
    study = make_case(Recipe(case["task"], (kind,), case["seed"], training), settings)
    table = plant(
        study.held_out.take(np.arange(HELD_OUT)),
        CATALOGUE[kind],
        correlation=audited,
        seed=case["seed"] + 1000,
    )
    masks = None if case["masks"] == "none" else _masks(table, kind, wider=case["masks"] == "wide")
    test = intervene(
        study.model,
        table,
        kind,
        masks=masks,
        running=Running(progress=False),
        statistics=Statistics(seed=case["seed"]),
    )
    twins = {"without": clean_twin(table, kind), "with": everywhere(table, kind)}
    margins = {d: _margins(study.model, twin) for d, twin in twins.items()}
    return {
        "word": test.word,
        "how": test.how,
        "reason": test.reason,
        "directions": {r.direction: _beside_twin(test, r.direction, table, margins) for r in test.responses},
        "relied_on": _relied_on(table, kind, _margins(study.model, table), margins),
    }


def _masks(table: ImageTable, kind: str, *, wider: bool) -> ImageMasks:
    def mask(row: int) -> Bools:
        exact = artifact_mask(table, row, kind).numpy()
        return binary_dilation(exact, iterations=_WIDER) if wider and exact.any() else exact

    return mask


def _margins(model: object, table: ImageTable) -> Floats:
    return margin(predict_logits(model, table)).double().numpy()  # type: ignore[arg-type]


def _beside_twin(test: PixelTest, direction: str, table: ImageTable, twins: dict[str, Floats]) -> Record:
    """What was measured of a direction, and what the twins of the same images say."""
    response = next(r for r in test.responses if r.direction == direction)
    rows = test.samples[test.samples["direction"] == direction]
    place = {name: k for k, name in enumerate(table.frame["sample_id"])}
    truth = twins[direction][[place[name] for name in rows["sample_id"]]]
    before, after = rows["before"].to_numpy(), rows["after"].to_numpy()
    moved = after - before
    unit = float((rows["change"].to_numpy() * moved).sum() / (moved**2).sum()) if moved.any() else 0.0
    change = unit * (truth - before)
    alike = np.corrcoef(change, rows["change"])[0, 1] if change.std() > 1e-9 else np.nan
    return {
        "effect": response.effect,
        "null": response.null,
        "excess": response.excess,
        "z": response.z,
        "flips": response.flips,
        "true_effect": float(change.mean()),
        "true_flips": float(((truth > 0) != (before > 0)).mean()),
        "measured_effect": float(rows["change"].mean()),
        "measured_flips": float(rows["flips"].mean()),
        "per_image": float(alike),
    }


def _relied_on(table: ImageTable, kind: str, before: Floats, twins: dict[str, Floats]) -> float:
    """Mean of both directions' true effects, in standard deviations within a label."""
    labels, carries = table.frame["label"].to_numpy(), table.frame[kind].to_numpy() == 1
    spread = np.sqrt(np.mean([before[labels == k].var() for k in np.unique(labels)]))
    removed = (before - twins["without"])[carries].mean()
    added = (twins["with"] - before)[~carries].mean()
    return float((removed + added) / 2 / spread)


def summarize(finished: list[Case]) -> Record:
    """Shares confirmed by what the network relies on, and agreement with the clean twin."""
    exact_masks = [c for c in finished if c["masks"] != "wide"]
    relied = [c for c in exact_masks if c["regime"] == "used" and c["relied_on"] >= RELIED_ON]
    idle = [c for c in exact_masks if c["regime"] != "used" and abs(c["relied_on"]) < RELIED_ON]
    rows = [d for c in exact_masks for d in c["directions"].values()]
    wide = [c for c in finished if c["masks"] == "wide"]
    effects, flips = (_correlation(rows, f"measured_{x}", f"true_{x}") for x in ("effect", "flips"))
    summary: Record = {
        "relied_on": _words(relied),
        "not_relied_on": _words(idle),
        "by_regime": {name: _words([c for c in exact_masks if c["regime"] == name]) for name in REGIMES},
        "directions": len(rows),
        "effects_correlate": effects,
        "flips_correlate": flips,
        "wide_masks": {name: _words([c for c in wide if c["regime"] == name]) for name in ("used", "idle")},
        "bars_met": _share(relied) >= MOST
        and _share(idle) <= FALSE
        and min(effects or 0.0, flips or 0.0) >= AGREEMENT,
    }
    return summary


def _share(finished: Sequence[Case]) -> float:
    """Of cases that are confirmed; of none, none."""
    words = [c["word"] for c in finished]
    return words.count("confirmed") / max(len(words), 1)


def _words(finished: Sequence[Case]) -> Record:
    words = [c["word"] for c in finished]
    return {"networks": len(words), **{word: words.count(word) for word in sorted(set(words))}}


def _correlation(rows: Sequence[Record], one: str, other: str) -> float | None:
    values = np.array([[row[one], row[other]] for row in rows], float)
    return float(np.corrcoef(values.T)[0, 1]) if len(values) > 2 and values.std(0).min() > 0 else None


SUITE = Suite(
    name="pixels",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=("task", "kind", "regime", "masks", "seed", "relied_on", "how", "word"),
)

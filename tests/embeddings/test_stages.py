"""The audit of embeddings from front to back: what is found, what is not, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import shortcutscope as ss
from shortcutscope.embeddings.encoder import class_pattern
from shortcutscope.errors import InputError
from shortcutscope.types import Array

QUICK = ss.Statistics(n_permutations=60, n_bootstrap=20)
PLAIN = ss.Correcting(methods=())
N, D = 320, 12


def made(seed: int = 0, n: int = N, d: int = D) -> tuple[Array, pd.DataFrame]:
    """Feature 0 is the task's, 1 the site's, and ``dud`` is no feature's."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    site = np.where(rng.random(n) < 0.8, label, 1 - label)
    features = rng.normal(size=(n, d))
    features[:, 0] += 1.5 * label
    features[:, 1] += 3 * site
    frame = pd.DataFrame(
        {
            "sample_id": [f"s{k}" for k in range(n)],
            "label": label,
            "site": np.where(site == 1, "Vienna", "Graz"),
            "dud": rng.integers(0, 2, n),
            "patient": rng.integers(0, n // 2, n),
        }
    )
    return features, frame


X, FRAME = made()
SITE = {"concepts": ["site", "dud"], "present": {"site": "Vienna"}, "group": "patient"}


def head(*features: int) -> tuple[Array, list[float]]:
    return np.eye(D)[list(features)].sum(axis=0)[None], [-1.0]


@pytest.fixture(scope="module")
def audited() -> ss.EmbeddingsAudit:
    """Two encoders: one whose given head reads the site, and one whose head does not."""
    return ss.audit_embeddings(
        {"leans": X, "stands": X},
        FRAME,
        head={"leans": head(0, 1), "stands": head(0)},
        statistics=QUICK,
        **SITE,
    )


def verdicts(audit: ss.EmbeddingsAudit, encoder: str) -> dict[str, str]:
    return {f.name: f.verdict for f in audit[encoder].findings}


def test_a_shortcut_is_one_of_the_head_that_uses_it(audited: ss.EmbeddingsAudit) -> None:
    assert verdicts(audited, "leans") == {"site=Vienna": "shortcut", "dud": "not encoded"}
    assert verdicts(audited, "stands") == {"site=Vienna": "encoded, not used", "dud": "not encoded"}
    finding = audited["leans"].shortcuts[0]
    assert finding.encoded["auroc"] > 0.9
    assert finding.effect["aligned_auroc"]["value"] > finding.effect["robust_auroc"]["value"] + 0.2
    assert "features" in audited["stands"].findings[1].reason
    assert "layer" not in audited["stands"].findings[1].reason
    assert audited.conclusion.exit_code == 2


def test_the_effect_is_the_gap_of_the_margins_inside_the_classes(audited: ss.EmbeddingsAudit) -> None:
    margins = X[:, 0] + X[:, 1]
    label, site = FRAME["label"].to_numpy(), (FRAME["site"] == "Vienna").to_numpy()
    gaps = [margins[(label == c) & site].mean() - margins[(label == c) & ~site].mean() for c in (0, 1)]
    spread = np.sqrt(np.mean([margins[label == c].var() for c in (0, 1)]))
    effect = audited["leans"].shortcuts[0].used["effect"]
    assert effect == pytest.approx(np.mean(gaps) / spread)
    pattern = class_pattern(X, site.astype(float), label)
    assert (pattern[0] + pattern[1]) / spread == pytest.approx(effect)


def test_a_head_is_fitted_where_none_is_given() -> None:
    audit = ss.audit_embeddings(X, FRAME, statistics=QUICK, correcting=PLAIN, **SITE)
    assert verdicts(audit, "encoder")["site=Vienna"] == "shortcut"
    assert "a linear head fitted here, in 4 folds by patient" in repr(audit)


def test_verdicts_do_not_depend_on_what_stands_beside_or_on_the_order_of_rows(
    audited: ss.EmbeddingsAudit,
) -> None:
    alone = ss.audit_embeddings(
        {"leans": X}, FRAME, head=head(0, 1), statistics=QUICK, correcting=PLAIN, **SITE
    )
    assert alone["leans"].findings == audited["leans"].findings
    order = np.random.default_rng(1).permutation(N)
    shuffled = pd.DataFrame(X[order], columns=[f"f{k}" for k in range(D)]).assign(
        sample_id=FRAME["sample_id"].to_numpy()[order]
    )
    again = ss.audit_embeddings(
        {"leans": shuffled}, FRAME, head=head(0, 1), statistics=QUICK, correcting=PLAIN, **SITE
    )
    assert again["leans"].findings == alone["leans"].findings


def test_which_value_is_called_present_changes_no_verdict(audited: ss.EmbeddingsAudit) -> None:
    other = ss.audit_embeddings(
        {"leans": X},
        FRAME,
        head=head(0, 1),
        statistics=QUICK,
        correcting=PLAIN,
        concepts="site",
        present={"site": "Graz"},
        group="patient",
    )
    swapped, kept = other["leans"].findings[0], audited["leans"].findings[0]
    assert swapped.verdict == kept.verdict
    assert swapped.used["effect"] == pytest.approx(-kept.used["effect"])
    assert swapped.effect["robust_auroc"]["value"] == kept.effect["robust_auroc"]["value"]


def test_a_concept_that_is_the_label_is_not_testable() -> None:
    frame = FRAME.assign(ward=FRAME["label"])
    audit = ss.audit_embeddings(X, frame, concepts="ward", statistics=QUICK)
    finding = audit["encoder"].findings[0]
    assert finding.verdict == "not testable"
    assert "cannot be told from the label" in finding.reason
    assert audit.conclusion.exit_code == 3
    assert audit.corrections.empty


def test_a_bystander_is_explained_by_what_the_head_uses() -> None:
    x, frame = made(5, 2500)
    site = frame["site"] == "Vienna"
    near = np.where(np.random.default_rng(0).random(2500) < 0.85, site, ~site)
    audit = ss.audit_embeddings(
        x,
        frame.assign(near=near),
        concepts=["site", "near"],
        present={"site": "Vienna"},
        head=head(0, 1),
        statistics=QUICK,
        correcting=PLAIN,
    )
    assert verdicts(audit, "encoder") == {"site=Vienna": "shortcut", "near": "explained by another concept"}
    bystander = audit["encoder"].findings[1]
    assert bystander.used["value"]
    assert bystander.beside["with"] == ["site=Vienna"]
    assert abs(bystander.beside["effect"]) < 0.2


def test_corrections_take_a_concept_out(audited: ss.EmbeddingsAudit) -> None:
    table = audited.corrections.set_index(["encoder", "concept", "method", "metric"])["value"]
    leans = table["leans"]["site=Vienna"]
    assert leans["none"]["encoded_auroc"] > 0.9
    assert set(table["leans"]["dud"].index.get_level_values("method")) == {"none"}
    for method in ("leace", "mean shift", "location and scale"):
        assert leans[method]["encoded_auroc"] < 0.65
        assert leans[method]["robust_auroc"] > leans["none"]["robust_auroc"] + 0.2
        assert leans[method]["robustness_index"] > leans["none"]["robustness_index"]
    assert leans["none"]["label_auroc"] == pytest.approx(audited["leans"].performance["auroc"])


def test_the_head_is_fitted_on_the_training_rows_where_there_are_some() -> None:
    split = np.where(FRAME["patient"] < N // 4, "train", "test")
    audit = ss.audit_embeddings(X, FRAME.assign(split=split), statistics=QUICK, correcting=PLAIN, **SITE)
    assert audit.run["data"]["n_samples"] == (split == "test").sum()
    assert "on the training samples" in audit["encoder"].head
    finding = audit["encoder"].findings[0]
    assert finding.association["source"] == "training split"
    assert finding.verdict == "shortcut"


def test_training_samples_without_features_are_refused_unless_the_head_is_given() -> None:
    _, other = made(1)
    train = other.assign(sample_id=[f"t{k}" for k in range(N)], patient=other["patient"] + 10_000)
    with pytest.raises(InputError, match=r"'encoder' has no features of the training samples.*Give the head"):
        ss.audit_embeddings(X, FRAME, train=train, statistics=QUICK, **SITE)
    audit = ss.audit_embeddings(
        X, FRAME, train=train, head=head(0, 1), statistics=QUICK, correcting=PLAIN, **SITE
    )
    assert audit["encoder"].findings[0].association["source"] == "training split"


def test_more_features_than_samples_are_no_hindrance() -> None:
    rng = np.random.default_rng(0)
    wide = np.c_[X[:120], rng.normal(size=(120, 300))]
    audit = ss.audit_embeddings(
        wide, FRAME[:120], statistics=QUICK, correcting=ss.Correcting(["leace"]), **SITE
    )
    assert verdicts(audit, "encoder")["dud"] == "not encoded"
    assert np.isfinite(audit.corrections["value"].dropna()).all()


def test_classes_may_be_several() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 360)
    site = (rng.random(360) < np.array([0.2, 0.2, 0.8])[label]).astype(int)
    features = rng.normal(size=(360, 8))
    features[np.arange(360), label] += 2
    features[:, 5] += 3 * site
    frame = pd.DataFrame({"label": np.array(["a", "b", "c"])[label], "site": site})
    audit = ss.audit_embeddings(features, frame, statistics=QUICK, correcting=ss.Correcting(["leace"]))
    finding = audit["encoder"].findings[0]
    assert finding.association["positive"] == 2
    assert finding.verdict == "shortcut"


def test_a_head_below_chance_is_doubted() -> None:
    weight, bias = head(0)
    audit = ss.audit_embeddings(X, FRAME, head=(-weight, bias), statistics=QUICK, correcting=PLAIN, **SITE)
    assert "worse than chance" in audit["encoder"].notes[-1]


def test_the_order_of_named_classes_is_said_beside_a_given_head() -> None:
    named = FRAME.assign(label=np.array(["sick", "healthy"])[FRAME["label"]])
    audit = ss.audit_embeddings(X, named, head=head(0), statistics=QUICK, correcting=PLAIN, **SITE)
    assert any("taken for healthy, sick, in this order" in note for note in audit["encoder"].notes)
    assert "worse than chance" in audit["encoder"].notes[-1]


def test_copies_of_other_patients_are_counted() -> None:
    twice = np.r_[X[: N // 2], X[: N // 2]]
    audit = ss.audit_embeddings(twice, FRAME, statistics=QUICK, correcting=PLAIN, **SITE)
    assert any("exactly the features of another patient's sample" in note for note in audit["encoder"].notes)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"features": X[:9]}, "9 rows and the table 320"),
        ({"features": {}}, "features is empty"),
        ({"frame": None}, "no labels are given"),
        ({"frame": FRAME.assign(label=1)}, "all audited samples have label 1"),
        ({"label": "diagnosis"}, "no column 'diagnosis'"),
        ({"concepts": ["scanner"], "present": None}, "no column 'scanner'"),
        ({"concepts": ["patient"], "present": None}, "no column 'patient'"),
        ({"frame": FRAME[["label", "patient"]], "concepts": None, "present": None}, "no concept to test"),
        ({"head": (np.ones((1, 3)), [0.0])}, r"12 features and its head weights \(1, 3\)"),
        ({"features": {"a": X, "b": X}, "head": head(0)}, "say whose head it is"),
        ({"statistics": ss.Statistics(positive=7)}, "positive=7"),
    ],
)
def test_what_cannot_be_audited_is_refused(changes: dict[str, object], match: str) -> None:
    given = {"features": X, "frame": FRAME, "statistics": QUICK, **SITE, **changes}
    with pytest.raises(InputError, match=match):
        ss.audit_embeddings(given.pop("features"), given.pop("frame"), **given)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"methods": ["combat"]}, "no correction 'combat'"),
        ({"methods": "leace"}, "one word"),
        ({"k": 0}, "k=0"),
    ],
)
def test_corrections_that_there_are_not_are_refused(options: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        ss.Correcting(**options)


def test_a_result_is_a_container_and_comes_back_from_disk(
    audited: ss.EmbeddingsAudit, tmp_path: Path
) -> None:
    audited.save(tmp_path)
    again = ss.EmbeddingsAudit.open(tmp_path)
    assert repr(again) == repr(audited)
    pd.testing.assert_frame_equal(again.to_frame(), audited.to_frame())
    pd.testing.assert_frame_equal(again.corrections, audited.corrections, check_dtype=False)
    assert len(again) == 2
    assert "leans" in again
    assert [encoder.name for encoder in again] == ["leans", "stands"]
    assert set(again.to_frame()["encoder"]) == {"leans", "stands"}
    with pytest.raises(InputError, match=r"no encoder 'uni'; there are leans, stands"):
        again["uni"]
    (tmp_path / "embeddings.json").write_text('{"format": 99}')
    with pytest.raises(InputError, match="not an audit of embeddings of format"):
        ss.EmbeddingsAudit.open(tmp_path)


def test_the_same_seed_gives_the_same_result() -> None:
    x, frame = made(3, 160)
    first, again = (
        ss.audit_embeddings(x, frame, statistics=QUICK, correcting=ss.Correcting(["leace"]), **SITE).to_dict()
        for _ in range(2)
    )
    assert repr(first) == repr(again)


def test_a_file_may_hold_all(tmp_path: Path) -> None:
    columns = {name: FRAME[name].to_numpy() for name in ("label", "dud")}
    np.savez(tmp_path / "uni.npz", features=X, site=FRAME["site"].to_numpy(str), **columns)
    audit = ss.audit_embeddings(
        tmp_path / "uni.npz", concepts="site", present={"site": "Vienna"}, statistics=QUICK, correcting=PLAIN
    )
    assert verdicts(audit, "uni") == {"site=Vienna": "shortcut"}

"""The audit end to end on a thin network with a planted shortcut, and everything it must refuse."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import shortcutscope as ss
from shortcutscope.debias.training.classifier import train_classifier
from shortcutscope.errors import InputError, ModelError, StaleRunError
from shortcutscope.planting.planting import clean_twin
from shortcutscope.planting.thin import thin_cnn1d, thin_cnn3d, thin_resnet18

OPTIONS = {"statistics": ss.Statistics(100, 60), "running": ss.Running(progress=False)}


@pytest.fixture(scope="module")
def planted():
    """A thin network that learned a tag, its training table, and held-out samples of both kinds."""
    phantoms = ss.phantoms.radiographs(1100, size=48, seed=5, difficulty=1.5)
    groups = phantoms.frame["group"]
    first = groups.isin(groups.unique()[: int(0.62 * groups.nunique())]).to_numpy()
    train = ss.phantoms.plant(
        phantoms.take(np.flatnonzero(first)), ss.phantoms.get_artifact("tag"), correlation=0.95
    )
    held_out = ss.phantoms.plant(
        phantoms.take(np.flatnonzero(~first)), ss.phantoms.get_artifact("tag"), prevalence={0: 0.5, 1: 0.5}
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = thin_resnet18(width=8)
    train_classifier(model, train, epochs=6, seed=0, progress=False)
    rng = np.random.default_rng(0)
    held_out = held_out.with_columns(coin=rng.integers(0, 2, len(held_out)))
    return model, train, held_out


@pytest.fixture(scope="module")
def audited(planted, tmp_path_factory):
    model, train, held_out = planted
    out = tmp_path_factory.mktemp("audit") / "run"
    return ss.audit(
        model, held_out, out, concepts=["tag", "coin", "sex"], present={"sex": "M"}, train=train, **OPTIONS
    )


def test_the_planted_shortcut_is_found_and_is_localized(audited):
    tag = audited["tag"]
    assert tag.verdict == "shortcut"
    assert tag.extent == "localized"
    assert tag.encoded["auroc"] > 0.9
    assert tag.used["effect"] > tag.used["threshold"]
    assert tag.effect["auroc_gap"]["value"] > 0.05
    assert tag.association["source"] == "training split"
    assert sum(tag.layers.values()) == pytest.approx(1)
    assert audited.findings[0].name == "tag"


def test_what_was_not_planted_is_not_accused(audited):
    for name in ("coin", "sex=M", "sex"):
        for finding in audited.findings:
            if finding.name.startswith(name):
                assert finding.verdict != "shortcut"
    assert [f.name for f in audited.shortcuts] == ["tag"]


def test_the_run_directory_keeps_its_contract(audited):
    path = audited.path
    run = json.loads((path / "run.json").read_text())
    assert {s["state"] for s in run["stages"].values()} == {"done"}
    assert {"verify", "scan", "probe", "usage", "extent", "gallery"} <= set(run["stages"])
    for key in ("version", "environment", "model", "data", "layers", "performance", "settings"):
        assert run[key], key
    profile = pd.read_parquet(path / "profile.parquet")
    assert {"concept", "layer", "auroc", "null_high", "p", "q", "use", "use_low", "extent", "weight"} <= set(
        profile
    )
    assert len(profile) == len(audited.findings) * len(run["layers"])
    concepts = pd.read_parquet(path / "concepts.parquet")
    assert concepts["tag.score"].notna().all()
    findings = json.loads((path / "findings.json").read_text())
    contract = {
        "name", "origin", "verdict", "extent", "extent_statistic", "extent_interval",
        "layers", "encoded", "used", "effect", "n_samples",
    }  # fmt: skip
    assert all(contract <= set(f) for f in findings)
    with np.load(path / "gallery" / "tag.npz", allow_pickle=False) as gallery:
        assert gallery["images"].shape == gallery["maps"].shape
        assert np.abs(gallery["maps"].astype(float)).max() == pytest.approx(1, abs=1e-3)


def test_opening_a_run_gives_the_same_audit(audited):
    again = ss.Audit.open(audited.path)
    assert again.findings == audited.findings
    assert list(again.to_frame()["finding"]) == [f.name for f in audited.findings]
    with pytest.raises(ss.InputError, match=r"no finding 'no such finding'.*tag"):
        again["no such finding"]


def test_naming_the_other_value_present_gives_the_same_verdict(planted, audited, tmp_path):
    model, train, held_out = planted
    swapped = ss.Concept.from_column(pd.concat([held_out.frame, train.frame], ignore_index=True), "tag")[
        0
    ].swapped()
    other = ss.audit(model, held_out, tmp_path / "run", concepts=[swapped], train=train, **OPTIONS).findings[
        0
    ]
    tag = audited["tag"]
    assert (other.verdict, other.extent) == (tag.verdict, tag.extent)
    assert other.association["phi"] == pytest.approx(-tag.association["phi"])
    assert other.used["effect"] == pytest.approx(-tag.used["effect"], abs=0.15)
    assert other.effect["auroc_gap"]["value"] == pytest.approx(tag.effect["auroc_gap"]["value"])


def test_an_interrupted_audit_goes_on_and_ends_the_same(planted, audited, tmp_path, monkeypatch):
    model, train, held_out = planted
    import shortcutscope.audit.interventions.use_and_extent as stage

    original = stage.measure_extent
    monkeypatch.setattr(stage, "measure_extent", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    options = {"concepts": ["tag", "coin", "sex"], "present": {"sex": "M"}, "train": train, **OPTIONS}
    with pytest.raises(KeyboardInterrupt):
        ss.audit(model, held_out, tmp_path / "run", **options)
    assert (
        json.loads((tmp_path / "run" / "run.json").read_text())["stages"]["extent"]["state"] == "interrupted"
    )
    monkeypatch.setattr(stage, "measure_extent", original)
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "stages" / "usage-last").iterdir()}
    assert ss.audit(model, held_out, tmp_path / "run", **options).findings == audited.findings
    assert kept
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "stages" / "usage-last").iterdir()} == kept


def test_a_run_of_another_model_is_refused_before_work(planted, audited):
    _, train, held_out = planted
    with pytest.raises(StaleRunError, match="model"):
        ss.audit(thin_resnet18(width=8), held_out, audited.path, concepts=["tag"], train=train, **OPTIONS)


def test_the_training_images_are_warned_about_and_get_the_higher_threshold(planted, tmp_path):
    model, train, _ = planted
    against = (train.frame["tag"] != train.frame["label"]).to_numpy()
    train = train.take(np.flatnonzero(against | (np.arange(len(train)) < 150)))
    result = ss.audit(
        model, train, tmp_path / "run", concepts=["tag"], train=ss.TrainingData(trained_on=True), **OPTIONS
    )
    assert any("trained on" in text for text in result.run["warnings"])
    assert result["tag"].used["threshold"] == 0.4


def test_training_rows_of_the_table_serve_the_association_only(planted, tmp_path):
    model, train, held_out = planted
    frame = pd.concat(
        [train.frame.assign(split="train"), held_out.frame.assign(split="test")], ignore_index=True
    )
    images = np.stack([t.image(i)[0].numpy() for t in (train, held_out) for i in range(len(t))])
    table = ss.ImageTable.from_arrays(images, frame.drop(columns=["coin"]), transform=train.transform)
    result = ss.audit(model, table, tmp_path / "run", concepts=["tag"], **OPTIONS)
    assert result.run["data"]["n_samples"] == len(held_out)
    assert result["tag"].association["source"] == "training split"
    assert result["tag"].association["phi"] > 0.8


def test_full_correlation_is_not_testable_and_says_what_is_missing(planted, tmp_path):
    model, _, held_out = planted
    held_out = held_out.take(np.arange(150))
    table = held_out.with_columns(same_as_label=held_out.frame["label"].to_numpy())
    result = ss.audit(model, table, tmp_path / "run", concepts=["same_as_label"], **OPTIONS)
    finding = result.findings[0]
    assert finding.verdict == "not testable"
    assert "no conflicting samples" in finding.reason
    assert finding.association["phi"] == pytest.approx(1)
    assert result.conclusion.exit_code == 3
    assert result.undecided[0].startswith("the label is determined by same_as_label")
    assert repr(result).splitlines()[1].startswith("  not decided: the label is determined by same_as_label")


def test_a_concept_known_in_one_class_alone_is_not_testable(planted, tmp_path):
    model, _, held_out = planted
    held_out = held_out.take(np.arange(200))
    values = held_out.frame["tag"].where(held_out.frame["label"] == 1)
    result = ss.audit(
        model, held_out.with_columns(half=values), tmp_path / "run", concepts=["half"], **OPTIONS
    )
    assert result["half"].verdict == "not testable"
    assert "association with the label cannot be measured" in result["half"].reason
    assert result["half"].association == {}
    assert result.conclusion.exit_code == 3


def test_u16_a_balanced_table_without_training_samples_decides_nothing(planted, tmp_path):
    model, _, held_out = planted
    result = ss.audit(model, held_out, tmp_path / "run", concepts=["tag"], **OPTIONS)
    assert result["tag"].verdict == "encoded and used, not associated"
    assert result.conclusion.exit_code == 3
    assert "depends on tag" in result.undecided[0]
    assert "measured in the audited samples" in repr(result)
    page = result.report().read_text()
    assert "What could not be decided" in page
    assert "depends on tag" in page


def test_lrp_changes_the_pictures_and_no_verdict(planted, audited, tmp_path):
    model, train, held_out = planted
    named = {"concepts": ["tag", "coin", "sex"], "present": {"sex": "M"}}
    options = {**named, "train": train, "scanning": ss.Scanning(attribution="lrp"), **OPTIONS}
    result = ss.audit(model, held_out, tmp_path / "run", **options)
    assert result.findings == audited.findings
    assert result.run["attribution"]["used"] == "lrp:epsilon_plus"
    assert result.run["attribution"]["checks"]["passed"]
    assert audited.run["attribution"] == {
        "requested": "gradient", "used": "gradient", "reason": None, "checks": None,
    }  # fmt: skip
    derivatives = ["derivative", "derivative_p"]
    assert result.profile[derivatives].isna().all(axis=None)
    assert audited.profile[derivatives].notna().all(axis=None)
    rest = [column for column in audited.profile if column not in derivatives]
    pd.testing.assert_frame_equal(result.profile[rest], audited.profile[rest])
    assert all("gives no gradient" in result.run["not_measured"][name] for name in derivatives)
    assert audited.run["not_measured"] == {}
    pictures = []
    for run in (result, audited):
        with np.load(run.path / "gallery" / "tag.npz", allow_pickle=False) as gallery:
            pictures.append(gallery["maps"].astype(float))
    assert not np.allclose(*pictures, atol=0.05)
    page = result.report().read_text()
    assert "Relevance (LRP, epsilon_plus)" in page
    assert "derivative, derivative_p: not measured" in page
    with pytest.raises(StaleRunError, match="attribution"):
        ss.audit(model, held_out, result.path, concepts=["tag"], train=train, **OPTIONS)


class _Squares(torch.autograd.Function):
    """An operation that LRP's rules do not reach, and whose gradient is not LRP-0."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


class _Energy(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(_Squares.apply(self.conv(x)).mean((2, 3)))


def test_where_lrp_does_not_hold_the_audit_says_so_everywhere(planted, tmp_path):
    held_out = planted[2].take(np.arange(150))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = _Energy().eval()
    options = {"concepts": ["tag"], **OPTIONS}
    lrp = ss.Scanning(attribution="lrp")
    with pytest.raises(ModelError, match="does not hold on this model"):
        ss.audit(model, held_out, tmp_path / "run", scanning=replace(lrp, strict=True), **options)
    assert not (tmp_path / "run").exists()
    with pytest.warns(UserWarning, match="although attribution='lrp' was asked for"):
        result = ss.audit(model, held_out, tmp_path / "run", scanning=lrp, **options)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["attribution"]["requested"], record["attribution"]["used"]) == ("lrp", "gradient")
    reason = record["attribution"]["reason"]
    assert reason
    assert any(reason in text for text in record["warnings"])
    assert result.attribution == result.scan.attribution
    assert reason in repr(result)
    assert result.profile["derivative"].notna().all()
    page = result.report().read_text()
    first, figures = page.index('data-test="warnings"'), page.index('data-test="fallback-figures"')
    assert first < figures < page.index('data-test="verdicts"')
    assert "Relevance (gradient × activation)" in page or "gallery" not in record["stages"]


class TestRefusals:
    """Each kind of bad input has its own error, before anything is written."""

    @pytest.mark.parametrize(
        ("concepts", "message"),
        [(["rulr"], "rulr"), (["sample_id"], "sample_id"), (["constant"], "constant"), ([], "no concept")],
    )
    def test_concepts(self, planted, tmp_path, concepts, message):
        model, _, held_out = planted
        table = held_out.with_columns(constant=np.ones(len(held_out), int))
        with pytest.raises(InputError, match=message):
            ss.audit(model, table, tmp_path / "run", concepts=concepts, **OPTIONS)
        assert not (tmp_path / "run").exists()

    def test_samples_on_both_sides(self, planted, tmp_path):
        model, _, held_out = planted
        with pytest.raises(InputError, match="both to audit and as training"):
            ss.audit(model, held_out, tmp_path / "run", concepts=["tag"], train=held_out, **OPTIONS)

    def test_an_unusable_image_leaves_no_run_behind(self, planted, tmp_path):
        model, _, held_out = planted
        images = np.stack([held_out.image(i)[0].numpy() for i in range(len(held_out))])
        images[-1, 3, 3] = 7
        table = ss.ImageTable.from_arrays(images, held_out.frame, transform=held_out.transform)
        with pytest.raises(InputError, match=str(held_out.frame["sample_id"].iloc[-1])):
            ss.audit(model, table, tmp_path / "run", concepts=["tag"], **OPTIONS)
        assert not (tmp_path / "run").exists()

    def test_a_patient_in_two_splits(self, planted, tmp_path):
        model, _, held_out = planted
        frame = held_out.frame.copy()
        frame["group"] = "the same"
        frame["split"] = np.where(np.arange(len(frame)) % 2, "test", "train")
        images = np.stack([held_out.image(i)[0].numpy() for i in range(len(held_out))])
        table = ss.ImageTable.from_arrays(images, frame, transform=held_out.transform)
        with pytest.raises(InputError, match="the same"):
            ss.audit(model, table, tmp_path / "run", concepts=["tag"], **OPTIONS)

    def test_too_few_permutations_to_find_anything(self, planted, tmp_path):
        model, _, held_out = planted
        with pytest.raises(InputError, match="n_permutations=20"):
            ss.audit(
                model,
                held_out,
                tmp_path / "run",
                concepts=["tag"],
                statistics=ss.Statistics(n_permutations=20),
            )

    def test_a_label_that_the_model_does_not_have(self, planted, tmp_path):
        model, _, held_out = planted
        frame = held_out.frame.copy()
        frame.loc[0, "label"] = 7
        images = np.stack([held_out.image(i)[0].numpy() for i in range(len(held_out))])
        table = ss.ImageTable.from_arrays(images, frame, transform=held_out.transform)
        with pytest.raises(InputError, match="7"):
            ss.audit(model, table, tmp_path / "run", concepts=["tag"], **OPTIONS)

    def test_a_model_that_returns_nan(self, planted, tmp_path):
        _, _, held_out = planted
        model = thin_resnet18(width=8)
        with torch.no_grad():
            next(p for p in model.parameters()).fill_(float("nan"))
        with pytest.raises(ModelError, match="NaN"):
            ss.audit(model, held_out, tmp_path / "run", concepts=["tag"], **OPTIONS)

    def test_a_model_for_colour_images(self, planted, tmp_path):
        _, _, held_out = planted
        with pytest.raises((InputError, ModelError), match="channel"):
            ss.audit(
                thin_resnet18(in_channels=3, width=8), held_out, tmp_path / "run", concepts=["tag"], **OPTIONS
            )


def test_the_model_comes_back_as_it_was_also_after_an_error(planted, tmp_path):
    from model_states import model_state

    _, _, held_out = planted
    model = thin_resnet18(width=8).train()
    before = model_state(model)

    def fail(module: nn.Module, *_: object) -> None:
        raise RuntimeError("the user's own hook fails")

    handle = model.blocks[3].register_forward_hook(fail)
    armed = model_state(model)
    with pytest.raises(RuntimeError, match="own hook"):
        ss.audit(model, held_out, tmp_path / "run", concepts=["tag"], **OPTIONS)
    assert model_state(model) == armed
    handle.remove()
    assert model_state(model) == before


def _transformer() -> nn.Module:
    timm = pytest.importorskip("timm")
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=3, in_chans=1, num_classes=2
    ).eval()


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (_transformer, (1, 32, 32)),
        (lambda: thin_cnn1d(in_channels=2), (2, 128)),
        (thin_cnn3d, (1, 16, 16, 16)),
    ],
    ids=["transformer", "signal", "volume"],
)
def test_other_networks_are_audited_all_the_way(make, shape, tmp_path):
    n = 120
    rng = np.random.default_rng(0)
    labels, carrier = np.arange(n) % 2, np.arange(n) // 2 % 2
    x = rng.random((n, *shape)).astype(np.float32) * 0.5
    x += 0.4 * carrier.reshape(-1, *[1] * len(shape))
    frame = pd.DataFrame({"sample_id": [f"s{i}" for i in range(n)], "label": labels, "bright": carrier})
    table = ss.ImageTable.from_arrays(x, frame, dims=len(shape) - 1)
    options = {**OPTIONS, "statistics": ss.Statistics(50, 30)}
    result = ss.audit(make(), table, tmp_path / "run", concepts=["bright"], **options)
    finding = result.findings[0]
    assert finding.encoded["value"]
    assert finding.extent == "diffuse"
    assert np.isfinite(finding.used["effect"])
    assert "bright" in result.report().read_text()


@pytest.fixture(scope="module")
def correlated(planted):
    """Held-out samples of the kind that the network was trained on."""
    twin = clean_twin(planted[2])
    kept = twin.frame.drop(columns=[c for c in twin.frame if c in ("tag", "split")])
    images = np.stack([twin.image(i).numpy() for i in range(len(twin))])
    clean = ss.ImageTable.from_arrays(images, kept, transform=twin.transform)
    return ss.phantoms.plant(clean, ss.phantoms.get_artifact("tag"), correlation=0.95, seed=7)


@pytest.fixture(scope="module")
def searched(planted, correlated, tmp_path_factory):
    """An audit that was told of the coin alone, and to look for what nobody named."""
    out = tmp_path_factory.mktemp("searched") / "run"
    return ss.audit(planted[0], correlated, out, concepts=["coin"], discover=True, **OPTIONS)


def test_a_shortcut_that_nobody_named_is_found_and_tested_as_any_other(searched, correlated):
    first = searched.findings[0]
    assert (first.origin, first.verdict, first.extent) == ("discovered", "shortcut", "localized")
    values = pd.read_parquet(searched.path / "concepts.parquet").set_index("sample_id")[first.name]
    truth = correlated.frame.set_index("sample_id")["tag"].reindex(values.index)
    assert (values == truth)[values.notna()].mean() > 0.95
    assert searched["coin"].verdict != "shortcut"
    assert "found by" in first.description
    assert searched.run["stages"]["discover"]["state"] == "done"


def test_the_report_says_what_was_looked_for_and_what_was_dropped(searched):
    text = searched.report().read_text()
    assert "What nobody named" in text
    assert 'data-test="proposals"' in text
    dropped = [row["dropped"] for row in searched.run["discovery"]["dropped"]]
    assert dropped
    assert dropped[0][:40] in text


def test_its_samples_can_be_retrieved(searched, correlated):
    hits = searched.findings[0].retrieve(k=20)
    truth = correlated.frame.set_index("sample_id")["tag"]
    assert truth.loc[hits.frame["sample_id"]].mean() > 0.9


def test_without_concepts_the_columns_are_screened_and_a_proposal_that_is_a_column_is_left_out(
    planted, correlated, tmp_path
):
    done = ss.audit(planted[0], correlated, tmp_path / "run", **OPTIONS)
    assert done.run["metadata"]["columns"][0]["column"] == "tag"
    assert [f.name for f in done.shortcuts if f.origin != "picture"] == ["tag"]
    (left, why), *_ = done.run["discovery"]["same"].items()
    assert "same samples as tag" in why
    with pytest.raises(ss.InputError, match=f"no finding '{left}'.*{left} names the same samples as tag"):
        done[left]
    assert "Metadata that go with the label" in done.report().read_text()


def test_a_network_that_looks_at_nothing_but_the_anatomy_gets_no_proposal_and_an_empty_report(tmp_path):
    table = ss.phantoms.radiographs(160, size=32, seed=3)
    table = ss.ImageTable.from_arrays(
        np.stack([table.image(i).numpy() for i in range(len(table))]), table.frame[["sample_id", "label"]]
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = thin_resnet18(width=4)
    done = ss.audit(model, table, tmp_path / "run", **OPTIONS)
    assert done.findings == ()
    assert done.shortcuts == ()
    text = done.report().read_text()
    assert "Nothing was proposed" in text


@pytest.mark.parametrize(
    ("n", "patients", "classes"), [(12, 3, 2), (60, 4, 2), (60, 60, 3), (130, 40, 2)], ids=str
)
def test_searching_small_data_says_what_is_missing_and_breaks_nothing(n, patients, classes, tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(n)],
            "label": np.arange(n) % classes,
            "group": [f"p{i % patients}" for i in range(n)],
            "age": rng.normal(size=n),
        }
    )
    table = ss.ImageTable.from_arrays(rng.random((n, 24, 24)).astype(np.float32), frame)
    model = thin_resnet18(width=4, num_classes=classes, seed=0)
    done = ss.audit(model, table, tmp_path / "run", **OPTIONS)
    notes = done.run["discovery"]["notes"]
    assert any("nothing was looked for" in note for note in notes) == (n < 40 or patients < 8)
    assert not done.shortcuts
    assert done.report().exists()


@pytest.mark.parametrize(("make", "shape"), [(thin_cnn1d, (96,)), (thin_cnn3d, (8, 8, 8))], ids=["1d", "3d"])
def test_signals_and_volumes_are_searched_without_the_filter_bank(make, shape, tmp_path):
    rng = np.random.default_rng(0)
    values = rng.random((90, 1, *shape)).astype(np.float32)
    table = ss.ImageTable.from_arrays(values, np.arange(90) % 2, dims=len(shape), channels_last=False)
    done = ss.audit(make(in_channels=1), table, tmp_path / "run", **OPTIONS)
    assert any("filter bank reads images" in note for note in done.run["discovery"]["notes"])

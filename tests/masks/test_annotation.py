"""Masks of a planted artifact: right, resumable, in the image's own geometry; refusals before any work."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError, StaleRunError
from shortcutscope.facade import Finding
from shortcutscope.masks import annotation
from shortcutscope.masks.annotation import annotate, annotate_finding
from shortcutscope.masks.drawing import WHERE, WHETHER
from shortcutscope.masks.heat import heat_map
from shortcutscope.masks.learning import Drawing, balanced, early_layers, fit_predictors
from shortcutscope.masks.writer import MaskWriter
from shortcutscope.options import Running
from shortcutscope.planting.artifacts import CATALOGUE, get_artifact
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.planting.planting import artifact_mask, plant
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.probes.concept import Concept
from shortcutscope.review.order import review_order
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.scanner import scan


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    table = plant(radiographs(160, seed=3), CATALOGUE["tag"], prevalence={0: 0.5, 1: 0.5}, seed=5)
    model = thin_resnet18(width=4, seed=1).eval()
    scanned = scan(
        model,
        table,
        tmp_path_factory.mktemp("scan") / "scan",
        scanning=Scanning(relevance=False),
        running=Running(progress=False),
    )
    ids = table.frame["sample_id"].to_numpy(np.str_)
    concept = Concept("tag", table.frame["tag"].to_numpy(float), "planted", ids)
    return model, scanned, table, concept


@pytest.fixture(scope="module")
def learnt_and_drawn(problem, quickly_taught, tmp_path_factory):
    model, scanned, table, concept = problem
    before = {name: value.clone() for name, value in model.state_dict().items()}
    out = tmp_path_factory.mktemp("masks") / "tag"
    learnt = []

    def keeping(*given, **options):
        learnt.append(fit_predictors(*given, **options))
        return learnt[0]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(annotation, "fit_predictors", keeping)
        masks = annotate(model, scanned, table, concept, out=out, heat=True, running=Running(progress=False))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    return learnt[0], masks


@pytest.fixture(scope="module")
def drawn(learnt_and_drawn):
    return learnt_and_drawn[1]


@pytest.fixture
def already_learnt(learnt_and_drawn, monkeypatch):
    """What was learnt of the tag, for what is done with it afterwards: it is the same each time."""
    monkeypatch.setattr(annotation, "fit_predictors", lambda *given, **options: learnt_and_drawn[0])


def test_masks_are_the_visible_pixels_of_carriers(problem, drawn):
    _, _, table, concept = problem
    overlaps, false = [], []
    for row, sample_id in enumerate(concept.sample_ids.tolist()):
        mask, truth = drawn.mask(sample_id), artifact_mask(table, row).numpy()
        if concept.values[row] == 1:
            overlaps.append((mask & truth).sum() / (mask | truth).sum())
        else:
            false.append(mask.any())
    assert np.mean(overlaps) > 0.7
    assert np.mean(false) <= 0.05


def test_heat_maps_and_provenance_are_kept(problem, drawn):
    _, scanned, _, concept = problem
    carrier = str(concept.sample_ids[concept.values == 1][0])
    heat = heat_map(drawn, carrier)
    assert heat.shape == (64, 64)
    assert 0 <= heat.min() < heat.max() <= 1
    assert drawn.provenance["method"] == "fusion"
    assert drawn.provenance["layers"] == [layer.name for layer in early_layers(scanned)]
    assert drawn.provenance["concept"] == concept.fingerprint()


def test_what_contradicts_the_concept_is_flagged(problem, tmp_path):
    model, scanned, table, concept = problem
    values = concept.values.copy()
    liar = int(np.flatnonzero(values == 1)[0])
    values[liar] = 0
    told = Concept("tag", values, "planted", concept.sample_ids)
    some = [str(name) for name in concept.sample_ids[liar : liar + 24]]
    masks = annotate(model, scanned, table, told, some, out=tmp_path / "m", running=Running(progress=False))
    entry = masks.entry(str(concept.sample_ids[liar]))
    assert not entry.empty
    assert entry.flagged
    order = review_order(masks)
    sure = [(masks.entry(name).empty, masks.entry(name).confidence) for name in order]
    assert entry.sample_id in order
    assert sure == sorted(sure)
    accepted = masks.reviewed({entry.sample_id: True})
    assert entry.sample_id not in review_order(accepted)


@pytest.mark.usefixtures("already_learnt")
def test_an_interrupted_run_goes_on(problem, drawn, tmp_path, monkeypatch):
    model, scanned, table, concept = problem
    some = [str(name) for name in concept.sample_ids[:12]]
    options = {"out": tmp_path / "m", "running": Running(progress=False)}
    first = annotate(model, scanned, table, concept, some[:5], **options)
    assert sorted(first.sample_ids) == sorted(some[:5])
    monkeypatch.setattr(annotation, "fit_predictors", fit_predictors)  # learns the same again
    both = annotate(model, scanned, table, concept, some, **options)
    assert sorted(both.sample_ids) == sorted(some)
    for name in some:
        assert (both.mask(name) == drawn.mask(name)).all()
    with pytest.raises(StaleRunError):
        annotate(model, scanned, table, concept, some, drawing=Drawing(threshold=0.5), **options)


@pytest.mark.slow
def test_an_interrupted_run_ends_as_one_that_was_not(problem, tmp_path, monkeypatch):
    model, scanned, table, concept = problem
    some = [str(name) for name in concept.sample_ids[::4]]
    options = {"heat": True, "running": Running(batch_size=4, progress=False)}
    annotate(model, scanned, table, concept, some, out=tmp_path / "whole", **options)
    append, written = MaskWriter.append, []

    def killed(writer, *given, **told):
        if len(written) == 18:  # within a batch of the second fold
            raise KeyboardInterrupt
        written.append(append(writer, *given, **told).file)

    folder = tmp_path / "broken"
    monkeypatch.setattr(MaskWriter, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        annotate(model, scanned, table, concept, some, out=folder, **options)
    monkeypatch.undo()
    before = {name: (folder / name).stat().st_mtime_ns for name in written}
    masks = annotate(model, scanned, table, concept, some, out=folder, **options)
    assert masks.complete
    assert before == {name: (folder / name).stat().st_mtime_ns for name in written}
    files = {path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.*")}
    assert files == {path.relative_to(folder) for path in folder.rglob("*.*")}
    assert len(files) == 2 * len(some) + 1
    for name in files:
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.usefixtures("already_learnt")
def test_a_rerun_leaves_what_a_person_accepted(problem, tmp_path):
    model, scanned, table, concept = problem
    some = [str(name) for name in concept.sample_ids[:8]]
    options = {"out": tmp_path / "m", "running": Running(progress=False)}
    masks = annotate(model, scanned, table, concept, some[:4], **options)
    masks.reviewed({some[0]: True, some[1]: False})
    again = annotate(model, scanned, table, concept, some, **options)
    assert [again.entry(name).accepted for name in some[:3]] == [True, False, None]
    assert len(again) == 8
    assert again.provenance["area_prior"] is None


@pytest.mark.usefixtures("already_learnt")
def test_accepted_areas_are_a_prior_of_what_is_drawn_next(problem, tmp_path):
    model, scanned, table, concept = problem
    carriers = [str(name) for name in concept.sample_ids[concept.values == 1]]
    options = {"out": tmp_path / "m", "running": Running(progress=False)}
    first = annotate(model, scanned, table, concept, carriers[:8], **options)
    first.reviewed({name: True for name in carriers[:8] if not first.entry(name).empty})
    again = annotate(model, scanned, table, concept, carriers[:12], **options)
    prior = again.provenance["area_prior"]
    shares = [entry.share for entry in again.entries if entry.accepted]
    assert prior["masks"] == len(shares) >= 5
    assert prior["low"] == pytest.approx(np.quantile(shares, 0.1))
    for name in carriers[:8]:
        assert (again.mask(name) == first.mask(name)).all()
    assert len(again) == 12


def test_the_plain_recipe_draws_too(problem, tmp_path):
    model, scanned, table, concept = problem
    some = [str(name) for name in concept.sample_ids[:8]]
    masks = annotate(
        model,
        scanned,
        table,
        concept,
        some,
        out=tmp_path / "m",
        drawing=Drawing(method="clarc"),
        running=Running(progress=False),
    )
    assert masks.provenance["method"] == "clarc"
    assert len(masks) == 8


def test_masks_have_the_size_of_the_file(problem, tmp_path):
    _, _, table, concept = problem
    rows, values = [], concept.values[:80]
    for i in range(len(values)):
        picture = Image.fromarray((table.image(i).numpy()[0] * 255).astype(np.uint8))
        name = f"{i:03d}.png"
        picture.resize((96, 128), Image.Resampling.NEAREST).save(tmp_path / name)
        rows.append({"image": name, "label": int(table.frame["label"][i])})
    files = ImageTable.from_frame(pd.DataFrame(rows), root=tmp_path, size=64)
    model = thin_resnet18(width=4, seed=1).eval()
    scanned = scan(
        model, files, tmp_path / "scan", scanning=Scanning(relevance=False), running=Running(progress=False)
    )
    ids = files.frame["sample_id"].to_numpy(np.str_)
    told = Concept("tag", values, "planted", ids)
    carriers = [str(name) for name in ids[values == 1]][:4]
    masks = annotate(
        model, scanned, files, told, carriers, out=tmp_path / "m", running=Running(progress=False)
    )
    for name in carriers:
        mask = masks.mask(name)
        assert mask.shape == (128, 96)
        inside = np.argwhere(mask)
        assert (inside[:, 0] < 40).mean() > 0.9  # the tag lies in the upper left corner
        assert (inside[:, 1] < 48).mean() > 0.9


def test_refusals(problem, tmp_path):
    model, scanned, table, concept = problem
    options = {"out": tmp_path / "m", "running": Running(progress=False)}
    with pytest.raises(InputError, match=r"'tag' is diffuse.*box it on about ten of them.*--marks"):
        annotate(model, scanned, table, concept, extent="diffuse", **options)
    with pytest.raises(InputError, match="allowed are fusion, clarc"):
        annotate(model, scanned, table, concept, drawing=Drawing(method="magic"), **options)
    with pytest.raises(InputError, match="were not scanned"):
        annotate(model, scanned, table, concept, ["nobody"], **options)
    with pytest.raises(InputError, match="lacks"):
        annotate(model, scanned, table.take(np.arange(20)), concept, **options)
    assert not (tmp_path / "m").exists()
    few = Concept("tag", np.where(np.arange(160) < 4, 1.0, 0.0), "planted", concept.sample_ids)
    with pytest.raises(InputError, match="4 samples with and 156 without"):
        annotate(model, scanned, table, few, **options)


@pytest.mark.usefixtures("already_learnt")
def test_heat_maps_that_were_not_kept_are_missed(problem, tmp_path):
    model, scanned, table, concept = problem
    name = str(concept.sample_ids[0])
    masks = annotate(
        model, scanned, table, concept, [name], out=tmp_path / "m", running=Running(progress=False)
    )
    with pytest.raises(InputError, match="no heat map"):
        heat_map(masks, name)


def test_a_finding_without_a_run_is_refused(problem):
    model, _, table, _ = problem
    found = Finding("tag", "planted", "", "shortcut", "")
    with pytest.raises(InputError, match="belongs to no run"):
        annotate_finding(found, model, table)


def test_samples_are_drawn_evenly():
    values = np.r_[np.ones(90), np.zeros(10), np.ones(5), np.zeros(95)]
    labels = np.repeat([1, 0], 100)
    rows = balanced(values, labels, np.arange(200), 40, np.random.default_rng(0))
    cells = [((values[rows] == v) & (labels[rows] == y)).sum() for y in (0, 1) for v in (0, 1)]
    assert cells == [10, 5, 10, 10]


@pytest.fixture(scope="module")
def faint(problem, tmp_path_factory):
    """Scan and table of a tube that hardly shows."""
    table = radiographs(200, size=40, seed=4)
    table = plant(table, get_artifact("tube", 0.5), prevalence={0: 0.5, 1: 0.5}, seed=5)
    out = tmp_path_factory.mktemp("weak") / "scan"
    scanning = Scanning(relevance=False)
    return scan(problem[0], table, out, scanning=scanning, running=Running(progress=False)), table


@pytest.fixture(scope="module")
def weak(problem, faint, quickly_taught, tmp_path_factory):
    """Masks of it, of a column of it, and what of it there is."""
    scanned, table = faint
    concept = Concept("tube", table.frame["tube"].to_numpy(float), "planted", scanned.samples["sample_id"])
    out = tmp_path_factory.mktemp("weak") / "m"
    masks = annotate(problem[0], scanned, table, concept, out=out, running=Running(progress=False))
    return table, concept, masks


def test_s7_a_weak_artifact_gets_few_masks_and_not_wrong_ones(weak):
    table, concept, masks = weak
    entries = [masks.entry(str(name)) for name in concept.sample_ids]
    drawn = np.array([not entry.empty for entry in entries])
    flagged = np.array([entry.flagged for entry in entries])
    carries = concept.values == 1
    assert drawn[~carries].mean() <= 0.05
    assert flagged[~carries & drawn].all()
    assert flagged[carries & ~drawn].all()
    doubts = {entry.doubt for entry in entries} - {None}
    assert doubts <= {WHETHER, WHERE}
    assert WHETHER in doubts
    assert all(entry.flagged for entry in entries if entry.doubt)
    for row in np.flatnonzero(carries & drawn & ~flagged):
        mask, truth = masks.mask(entries[row].sample_id), artifact_mask(table, int(row)).numpy()
        assert (mask & truth).any()


@pytest.mark.usefixtures("hardly_taught")
def test_s7_what_does_not_show_gets_no_masks(problem, faint, tmp_path):
    scanned, table = faint
    drawn = np.random.default_rng(0).permutation(table.frame["tube"].to_numpy(float))
    other = Concept("ward", drawn, "metadata", scanned.samples["sample_id"])
    with pytest.raises(InputError, match=r"'ward' cannot be seen.*no better than chance"):
        annotate(problem[0], scanned, table, other, out=tmp_path / "m", running=Running(progress=False))


def test_s7_a_finding_that_is_not_encoded_is_refused(problem, tmp_path):
    model, _, table, _ = problem
    found = Finding("ward", "metadata", "", "not encoded", "AUROC .52, q = .7", encoded={"value": False})
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match=r"'ward' is not encoded in the network \(AUROC .52, q = .7\)"):
        annotate_finding(replace(found, run=tmp_path), model, table)

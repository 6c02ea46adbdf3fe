"""`shortcutscope.debias` and `distill`: from tables to a student, and what is refused before any work."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from grouped import grouped
from tagged_images import OPTIONS
from torch import nn

import shortcutscope as ss
from shortcutscope.data.table import ImageTable
from shortcutscope.debias import teacher
from shortcutscope.debias.carriers import concept_over, values_of
from shortcutscope.debias.clarc.projection import Projected
from shortcutscope.debias.needs import NEEDS, lacking, require
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.recipes import RECIPES
from shortcutscope.debias.recommendation import recommend
from shortcutscope.debias.student import Student
from shortcutscope.debias.teacher import teacher_training
from shortcutscope.debias.training.settings import RATES, RATES_OF_LAYER_NORM, Training, default_rate
from shortcutscope.errors import InputError
from shortcutscope.facade import Finding
from shortcutscope.files import write_json
from shortcutscope.models.fingerprint import model_fingerprint
from shortcutscope.planting.thin import ThinResNet
from shortcutscope.probes.concept import Concept

QUICK = Training(steps=2, batch_size=16, augmentation="none", precision="fp32")


@pytest.fixture
def finding() -> Finding:
    return Finding(
        "tag", "planted", "", "shortcut", "", extent="localized", layers={"blocks.0": 0.25, "blocks.1": 0.75}
    )


def run(tables, small_network, **changes):
    options = {"training": QUICK, "initial": small_network, "progress": False, **changes}
    given = grouped(options, shortcut=ss.Shortcut, training=ss.Retraining, running=ss.Running)
    return ss.debias(small_network(7).eval(), tables["train"], **given)


def test_the_record_names_what_the_user_brought(tables, small_network, tmp_path) -> None:
    own = QUICK.but(optimizer=torch.optim.RAdam, loss=torch.nn.CrossEntropyLoss(reduction="none"))
    student = run(tables, small_network, recipe="erm", training=own, out=tmp_path)
    assert student.record["training"]["optimizer"] == "torch.optim.radam.RAdam"
    assert any("what you gave: optimizer=torch.optim.radam.RAdam, loss=torch." in n for n in student.notes)
    assert Student.open(tmp_path / "erm", small_network(1)).record["training"] == student.record["training"]
    with pytest.raises(InputError, match="cannot use loss="):
        run(tables, small_network, recipe="logit-distillation", clean=tables["clean"], training=own)


def test_s8_an_audit_of_another_network_is_refused(tables, small_network, finding, tmp_path) -> None:
    write_json(tmp_path / "run.json", {"model": {"fingerprint": model_fingerprint(small_network(8))}})
    of_another = replace(finding, run=tmp_path)
    with pytest.raises(InputError, match="not the model that was audited"):
        run(tables, small_network, audit=of_another, clean=tables["clean"], recipe="audited-distillation")
    assert not (tmp_path / "students").exists()


def test_a_student_is_kept_and_read_again(tables, small_network, finding, tmp_path) -> None:
    model = small_network(7).eval()
    before = model_fingerprint(model)
    student = ss.distill(
        model,
        tables["train"],
        clean=tables["clean"],
        audit=finding,
        training=ss.Retraining(QUICK, initial=small_network),
        out=tmp_path,
        running=ss.Running(progress=False),
    )
    assert model_fingerprint(model) == before
    assert student.details["layers"] == pytest.approx({"blocks.0": 0.25, "blocks.1": 0.75})
    assert student.path == tmp_path / "audited-distillation"
    again = Student.open(student.path, small_network(0))
    assert model_fingerprint(again.model) == model_fingerprint(student.model)
    assert again.notes == student.notes
    assert dict(again.record) == dict(student.record)
    assert "audited-distillation" in repr(again)
    assert "clean samples" in again._repr_html_()


def test_a_wrapper_is_kept_as_its_edits(tables, small_network, tmp_path) -> None:
    model = small_network(7).eval()
    student = ss.debias(
        model,
        tables["train"],
        recipe="p-clarc",
        shortcut=ss.Shortcut(concept="tag"),
        out=tmp_path,
        training=QUICK,
        running=ss.Running(progress=False),
    )
    assert isinstance(student.model, Projected)
    assert student.model.remove is not None
    again = Student.open(student.path, model)
    x = torch.stack([tables["held_out"][i][0] for i in range(4)])
    with torch.no_grad():
        torch.testing.assert_close(again.model(x), student.model(x))
    with pytest.raises(InputError, match="another network"):
        Student.open(student.path, small_network(8))


def test_clean_samples_are_taken_out_of_the_biased_ones(tables, small_network) -> None:
    train = tables["train"]
    clean = train.take(
        np.r_[np.flatnonzero(train.frame["label"] == 0)[:9], np.flatnonzero(train.frame["label"] == 1)[:9]]
    )
    student = run(tables, small_network, recipe="erm", clean=clean)
    assert student.record["n_train"] == len(train) - 18
    assert any("18 clean samples were taken out" in note for note in student.notes)
    with pytest.raises(InputError, match="nothing biased is left"):
        run(tables, small_network, recipe="erm", clean=train)


@pytest.mark.parametrize("role", ["test", "held_out", "validation"])
@pytest.mark.parametrize("trained", ["train", "clean"])
def test_what_is_judged_on_is_not_trained_on(tables, small_network, role, trained) -> None:
    with pytest.raises(
        InputError,
        match=f"samples are in the {'training' if trained == 'train' else 'clean'} samples and in {role}",
    ):
        run(tables, small_network, recipe="erm", clean=tables["clean"], **{role: tables[trained]})


def test_no_patient_is_on_both_sides(small_network) -> None:
    pool = ss.phantoms.radiographs(60, size=32, seed=50)
    groups = pool.frame["group"].to_numpy()
    twice = next(g for g in np.unique(groups) if (groups == g).sum() > 1)
    own = np.flatnonzero(groups == twice)
    rest = np.flatnonzero(groups != twice)
    train, test = pool.take(np.r_[own[:1], rest[:30]]), pool.take(np.r_[own[1:], rest[30:]])
    with pytest.raises(InputError, match="patients are in the training samples and in test"):
        ss.debias(
            small_network(0),
            train,
            recipe="erm",
            test=test,
            training=QUICK,
            running=ss.Running(progress=False),
        )


@pytest.mark.parametrize(
    ("recipe", "need"),
    [(name, need) for name, recipe in RECIPES.items() for need in sorted(recipe.needs - {"conflicting"})],
)
def test_what_a_recipe_needs_is_asked_for_before_any_work(tables, small_network, recipe, need) -> None:
    bare = DebiasProblem(model=small_network(0), train=tables["train"].replaced(masks=None), progress=False)
    with pytest.raises(InputError, match=f"recipe '{recipe}' needs") as refused:
        require(RECIPES[recipe], bare)
    assert NEEDS[need] in str(refused.value)


def test_the_documentation_lists_every_recipe_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "debiasing.md").read_text()
    for name, recipe in RECIPES.items():
        row = f"| `{name}` | {recipe.summary} | {recipe.source} | {', '.join(sorted(recipe.needs))} |"
        assert row in page


def test_recipes_by_group_are_refused_at_full_correlation(tables, small_network) -> None:
    labels = tables["train"].frame["label"].to_numpy().astype(float)
    concept = Concept("tag", labels, "planted", tables["train"].frame["sample_id"].to_numpy(np.str_))
    by_group = [name for name, recipe in RECIPES.items() if "conflicting" in recipe.needs]
    assert {"reweighing", "group-dro", "lisa", "balanced-distillation"} <= set(by_group)
    for name in by_group:
        with pytest.raises(InputError, match="against the correlation"):
            run(tables, small_network, recipe=name, clean=tables["clean"], concept=concept)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recipe": "magic"}, "no recipe 'magic'"),
        ({"recipe": "erm", "concept": "ruler"}, "no column 'ruler'"),
        ({"recipe": "erm", "audit": "nowhere"}, "nowhere"),
    ],
)
def test_what_does_not_exist_is_named(tables, small_network, changes, said) -> None:
    with pytest.raises(InputError, match=said):
        run(tables, small_network, **changes)


def test_a_concept_of_other_samples_is_refused(tables, small_network) -> None:
    ids = tables["held_out"].frame["sample_id"].to_numpy(np.str_)
    other = Concept("tag", np.r_[np.ones(46), np.zeros(46)], "planted", ids)
    with pytest.raises(InputError, match="its ids are others"):
        run(tables, small_network, recipe="erm", concept=other)


def test_which_value_is_the_carriers_does_not_depend_on_one_table(tables, small_network) -> None:
    def worded(table: ImageTable, rows=slice(None)) -> ImageTable:
        part = table.take(np.arange(len(table))[rows])
        words = np.where(part.frame["tag"] == 1, "marked", "plain")
        return part.with_columns(mark=words)

    # Of few clean samples, most carry the tag; of the biased ones half do.
    clean = tables["clean"].take(np.argsort(1 - tables["clean"].frame["tag"].to_numpy(), kind="stable")[:22])
    train, held_out = worded(tables["train"]), worded(tables["held_out"])
    with pytest.raises(InputError, match="say which of 'marked' and 'plain'"):
        concept_over("mark", None, [train, worded(clean), held_out])
    concept = concept_over("mark", None, [train, worded(clean), held_out], present={"mark": "marked"})
    assert concept is not None
    for table in (train, worded(clean), held_out):
        agrees = values_of(concept, table) == table.frame["tag"].to_numpy()
        assert agrees.all() or not agrees.any()
    same = {bool((values_of(concept, t) == t.frame["tag"]).all()) for t in (train, worded(clean), held_out)}
    assert len(same) == 1


def test_a_finding_of_one_level_of_a_column_is_found_in_it(tables) -> None:
    train = tables["train"].with_columns(ward=np.array(["A", "B", "C"])[np.arange(96) % 3])
    concept = concept_over("ward=B", None, [train])
    assert concept is not None
    np.testing.assert_array_equal(values_of(concept, train), (train.frame["ward"] == "B").to_numpy(float))
    with pytest.raises(InputError, match="several concepts"):
        concept_over("ward", None, [train])


def test_m19_the_model_is_fine_tuned_unless_a_fresh_start_is_asked_for(tables, small_network) -> None:
    model = small_network(7).eval()
    tiny = Training(steps=1, batch_size=16, augmentation="none", precision="fp32", lr=1e-9)
    given = {"recipe": "erm", "running": ss.Running(progress=False)}
    student = ss.debias(model, tables["train"], training=tiny, **given)
    assert student.record["start"] == "model"
    assert not any("new weights" in note for note in student.notes)
    fresh = ss.debias(model, tables["train"], training=ss.Retraining(tiny, "fresh"), **given)
    assert fresh.record["start"] == "fresh"
    assert any("new weights (start='fresh')" in note for note in fresh.notes)
    for name, value in model.named_parameters():
        if value.dim() > 1:
            assert torch.allclose(dict(student.model.named_parameters())[name], value, atol=1e-6)
            assert not torch.allclose(dict(fresh.model.named_parameters())[name], value, atol=1e-2)


def test_m19_no_recipe_throws_the_model_away_without_a_word(tables, small_network, monkeypatch) -> None:
    """What every recipe makes of a network whose step is of no size is that network."""
    monkeypatch.setattr(teacher, "MIN_STEPS", 2)
    corner = torch.zeros(32, 32, dtype=torch.bool)
    corner[:6, :6] = True
    for name, recipe in RECIPES.items():
        if not recipe.trains or name in ("dfr", "afr", "self", "evals", "segmentation"):
            continue
        seen: list[str] = []
        given = DebiasProblem(
            model=small_network(7).eval(), train=tables["train"], clean=tables["clean"],
            carries=tables["train"].frame["tag"].to_numpy(float),
            clean_carries=tables["clean"].frame["tag"].to_numpy(float),
            masks=lambda row: corner,
            layers={"blocks.0": 1.0},
            initial=lambda seed, seen=seen, name=name: seen.append(name) or small_network(seed),
            training=QUICK.but(lr=1e-9), progress=False,
        )  # fmt: skip
        outcome = recipe(given, **OPTIONS.get(name, {}))
        own = dict(outcome.model.named_parameters())
        kept = [torch.allclose(own[n], v, atol=1e-5) for n, v in given.model.named_parameters()]
        assert not seen, name
        assert all(kept), name


def test_m19_the_learning_rate_is_that_of_where_a_training_begins(tables, small_network) -> None:
    assert (
        Training().beginning("model").lr
        == RATES["model"]
        < RATES["fresh"]
        == Training().beginning("fresh").lr
    )
    assert Training(lr=0.01).beginning("model").lr == 0.01
    free = QUICK.but(lr=None)
    rates = {start: run(tables, small_network, recipe="erm", training=free, start=start) for start in RATES}
    assert {start: student.record["lr"] for start, student in rates.items()} == RATES
    for start, student in rates.items():
        assert max(row["lr"] for row in student.history) == pytest.approx(RATES[start])
    assert teacher_training(32, Training(lr=1e-5)).lr == 1e-5
    assert teacher_training(32, Training(), "fresh").lr == 1e-3


def test_new_weights_of_a_transformer_are_trained_by_smaller_steps() -> None:
    convolutions = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.LazyLinear(2))
    transformer = nn.Sequential(nn.Linear(4, 4), nn.TransformerEncoderLayer(4, 2), nn.Linear(4, 2))
    mixed = nn.Sequential(convolutions, nn.LayerNorm(2))
    assert default_rate("fresh", transformer) == RATES_OF_LAYER_NORM["fresh"] < RATES["fresh"]
    assert default_rate("model", transformer) == RATES["model"]
    for network in (convolutions, mixed, nn.Linear(2, 2), None):
        assert default_rate("fresh", network) == RATES["fresh"]
    assert Training(lr=0.01).peak("fresh", transformer) == 0.01


def test_the_rate_is_that_of_the_network_that_is_trained(tables, small_network) -> None:
    small = DebiasProblem(model=small_network(0), train=tables["train"])
    other = replace(
        small, initial=lambda seed: nn.Sequential(nn.Flatten(), nn.LazyLinear(2), nn.LayerNorm(2))
    )
    assert small.schedule("fresh").lr == RATES["fresh"]
    assert other.schedule("fresh").lr == RATES_OF_LAYER_NORM["fresh"]
    assert other.schedule("model").lr == RATES["model"]


@pytest.mark.parametrize("start", ["modle", "teacher", "", None])
def test_m19_an_unknown_start_is_refused(tables, small_network, start) -> None:
    with pytest.raises(InputError, match=r"start=.*; allowed are model, fresh"):
        run(tables, small_network, recipe="erm", start=start)


@pytest.mark.parametrize("recipe", ["finetune", "dfr", "p-clarc", "leace"])
def test_m19_recipes_that_change_the_model_itself_take_no_fresh_start(tables, small_network, recipe) -> None:
    with pytest.raises(InputError, match="changes the biased network itself"):
        run(tables, small_network, recipe=recipe, concept="tag", clean=tables["clean"], start="fresh")


@pytest.mark.parametrize("recipe", ["balanced-finetune", "clean-distillation", "rrr"])
def test_m19_a_fresh_start_reaches_recipes_with_a_start_of_their_own(tables, small_network, recipe) -> None:
    made: list[int] = []
    student = run(
        tables, small_network, recipe=recipe, concept="tag", clean=tables["clean"], start="fresh",
        masks=lambda row: torch.ones(32, 32, dtype=torch.bool),
        initial=lambda seed: made.append(seed) or small_network(seed),
    )  # fmt: skip
    assert made
    assert student.record["start"] == "fresh"


def test_m19_another_architecture_asks_for_a_fresh_start(tables, small_network) -> None:
    def other(seed: int) -> torch.nn.Module:
        return ThinResNet(width=8, blocks=(1, 1, 1))

    with pytest.raises(InputError, match=r"another architecture.*start='fresh'"):
        run(tables, small_network, recipe="erm", initial=other)
    student = run(tables, small_network, recipe="erm", initial=other, start="fresh")
    assert type(student.model) is type(other(0))


def test_m19_a_teacher_begins_from_a_model_that_cannot_be_drawn_anew(tables, small_network) -> None:
    class Scaled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.scale = small_network(7), torch.nn.Parameter(torch.tensor([1.0, 0.9]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x) * self.scale

    labels = tables["train"].frame["label"].to_numpy().astype(float)
    concept = Concept("tag", labels, "planted", tables["train"].frame["sample_id"].to_numpy(np.str_))
    student = ss.debias(
        Scaled().eval(),
        tables["train"],
        clean=tables["clean"],
        recipe="clean-distillation",
        shortcut=ss.Shortcut(concept=concept),
        training=QUICK,
        running=ss.Running(progress=False),
    )
    assert any("no new weights can be drawn" in note for note in student.notes)
    with pytest.raises(InputError, match="reset_parameters"):
        ss.debias(
            Scaled().eval(),
            tables["train"],
            recipe="erm",
            training=ss.Retraining(QUICK, start="fresh"),
            running=ss.Running(progress=False),
        )


def test_m13_a_network_with_the_old_weight_norm_is_debiased(tables) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        normed = torch.nn.utils.weight_norm(torch.nn.Linear(1024, 2))
    model = torch.nn.Sequential(torch.nn.Flatten(), normed)
    model(torch.rand(2, 1, 32, 32))  # its weight is now what this pass computed
    student = ss.debias(
        model, tables["train"], recipe="erm", training=QUICK, running=ss.Running(progress=False)
    )
    assert not torch.equal(student.model[1].weight_v, model[1].weight_v)
    with pytest.raises(InputError, match="reset_parameters that draws them"):
        ss.debias(
            model,
            tables["train"],
            recipe="erm",
            training=ss.Retraining(QUICK, start="fresh"),
            running=ss.Running(progress=False),
        )


def advice(problem: DebiasProblem, finding: Finding | None = None) -> str:
    return recommend(problem, finding).recipe


def test_the_recommendation_follows_what_is_at_hand(problem, finding) -> None:
    from dataclasses import replace

    labels = problem.train.frame["label"].to_numpy().astype(float)
    assert advice(problem, finding) == "balanced-finetune"
    assert advice(replace(problem, carries=None), finding) == "clean-distillation"
    full = recommend(replace(problem, carries=labels), finding)
    assert full.recipe == "clean-distillation"
    assert "goes against" in full.why
    assert "group-dro" in full.undefined
    assert advice(replace(problem, clean=None), finding) == "group-balanced"
    with_masks = replace(problem, clean=None, carries=None, masks=lambda row: None)
    assert advice(with_masks, finding) == "artifact-augmentation"
    seen = {"way": "transfer", "word": "confirmed", "how": "exposure"}
    on_pixels = replace(finding, verdict="used on the pixels, a picture property", pixels=seen)
    by_pixels = recommend(replace(problem, clean=None), on_pixels)
    assert (by_pixels.recipe, by_pixels.options) == ("counterfactual-augmentation", {})
    unknown = recommend(replace(problem, clean=None, carries=None), on_pixels)
    assert unknown.options == {"transfer": "exposure"}
    with pytest.raises(InputError, match="nothing can be recommended"):
        advice(replace(problem, clean=None, carries=None))
    unused = replace(finding, verdict="encoded, not used", reason="effect .03")
    with pytest.raises(InputError, match="no shortcut"):
        advice(problem, unused)


def test_for_several_findings_a_recipe_is_recommended_that_takes_them(problem, finding) -> None:
    half = np.arange(len(problem.train)) // 2 % 2 * 1.0
    two = replace(problem, concept="tag", carries=half, beside={"wire": np.arange(len(half)) // 4 % 2 * 1.0})
    wire = replace(finding, name="wire")
    assert recommend(two, finding, wire).recipe == "group-balanced"
    seen = replace(wire, pixels={"way": "transfer", "word": "confirmed", "how": "exposure"})
    assert recommend(two, finding, seen).recipe == "counterfactual-augmentation"
    with pytest.raises(InputError, match="'wire' is no shortcut"):
        recommend(two, finding, replace(wire, verdict="encoded, not used"))
    with pytest.raises(InputError, match="nothing can be recommended for 2 findings together"):
        recommend(replace(two, beside={"wire": half}), finding, wire)


def test_several_findings_are_of_one_audit(tables, small_network, finding) -> None:
    with pytest.raises(InputError, match="several findings are of one audit"):
        run(tables, small_network, audit=finding, finding=["tag", "wire"], recipe="reweighing")


def test_a_recommended_recipe_can_be_run(problem) -> None:
    for given in (problem, problem.with_out(None)):
        chosen = recommend(given)
        assert not lacking(RECIPES[chosen.recipe], given)


def test_the_recommended_recipe_says_why(tables, small_network, finding) -> None:
    student = run(tables, small_network, clean=tables["clean"], audit=finding)
    assert student.recipe == "balanced-finetune"
    assert any(note.startswith("Why for this data: 32 clean samples") for note in student.notes)
    (rests_on,) = [note for note in student.notes if "measured on other data and not on yours" in note]
    assert "clean samples beside 1,440" in rests_on
    advice = student.record["recommendation"]
    assert advice["recipe"] == student.recipe
    assert advice["why_for_this_data"].startswith("32 clean samples")
    assert "benchmark" in advice["rests_on"]
    assert "benchmark" not in advice["why_for_this_data"]
    page = student._repr_html_()
    assert "why for this data" in page
    assert "measured on other data" in page

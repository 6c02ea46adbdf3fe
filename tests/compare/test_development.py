"""Samples that guided a correction are called development data where the correction is judged."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import shortcutscope as ss
from shortcutscope.debias.guided import guided_by
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.student import Student
from shortcutscope.debias.training.settings import Training
from shortcutscope.errors import InputError
from shortcutscope.facade import Comparison, compare
from shortcutscope.planting.thin import thin_resnet18

QUICK = {
    "comparing": ss.Comparing(refit=False, others=False),
    "statistics": ss.Statistics(50, 40),
    "running": ss.Running(progress=False),
}


@pytest.fixture(scope="module")
def table():
    pool = ss.phantoms.radiographs(200, size=32, seed=8)
    return ss.phantoms.plant(pool, ss.phantoms.get_artifact("tag"), prevalence={0: 0.5, 1: 0.5})


def student(table, rows, role="held_out", seed=1) -> Student:
    frame = table.frame.iloc[rows]
    guided = pd.DataFrame({"role": role, "sample_id": frame["sample_id"], "group": frame["group"]})
    return Student("erm", thin_resnet18(width=4, seed=seed).eval(), guided=guided)


def first_patients(table, share: float) -> np.ndarray:
    names = table.frame["group"].unique()
    return np.flatnonzero(table.frame["group"].isin(names[: int(share * len(names))]).to_numpy())


def test_what_remains_without_them_is_a_table_of_its_own_and_the_main_one(table, tmp_path):
    rows = first_patients(table, 0.4)
    model = thin_resnet18(width=4, seed=0).eval()
    result = compare(model, student(table, rows), table, concept="tag", out=tmp_path, **QUICK)
    (one,) = result.development
    assert (one["n"], one["of"], one["students"]) == (len(rows), len(table), {"erm": ["held_out"]})
    rest = "data without development data"
    assert result.settings["main"] == rest
    assert [t["n_samples"] for t in result.tables] == [len(table), len(table) - len(rows)]
    alone = compare(
        model,
        student(table, []),
        table.take(np.setdiff1d(np.arange(len(table)), rows)),
        concept="tag",
        **QUICK,
    )
    left, same = (
        frame[(frame.network == "erm") & (frame.metric == "robust_auroc")].set_index("table")["value"]
        for frame in (result.frame, alone.frame)
    )
    assert left[rest] == pytest.approx(same["data"])
    assert "development data: " in repr(result)
    assert Comparison.open(tmp_path).development == result.development
    assert 'data-test="development"' in result.report(tmp_path / "a.html").read_text(encoding="utf-8")


def test_another_sample_of_a_patient_is_development_data_too(table):
    repeated = table.frame["group"].value_counts().idxmax()
    rows = np.flatnonzero((table.frame["group"] == repeated).to_numpy())
    assert len(rows) > 1
    result = compare(
        thin_resnet18(width=4, seed=0).eval(), student(table, rows[:1]), table, concept="tag", **QUICK
    )
    assert result.development[0]["n"] == len(rows)


def test_where_all_are_nothing_remains_and_that_is_said(table):
    everything = student(table, np.arange(len(table)), role="validation")
    result = compare(thin_resnet18(width=4, seed=0).eval(), everything, table, concept="tag", **QUICK)
    assert result.development[0]["rest"] is None
    assert "its weights were chosen by them" in result.development[0]["text"]
    assert "give other samples" in result.development[0]["text"]
    assert result.settings["main"] == "data"


@pytest.mark.parametrize("role", ["train", "clean"])
def test_what_was_trained_on_is_refused(role, table):
    with pytest.raises(InputError, match=rf"'erm' was trained on, or of their patients \({role} samples\)"):
        compare(
            thin_resnet18(width=4).eval(), student(table, [0, 1], role=role), table, concept="tag", **QUICK
        )


def test_a_student_that_does_not_say_is_noted(table):
    bare = Student("erm", thin_resnet18(width=4, seed=1).eval())
    result = compare(thin_resnet18(width=4, seed=0).eval(), bare, table, concept="tag", **QUICK)
    assert not result.development
    assert any("of erm is not recorded which samples guided it" in note for note in result.notes)


def test_roles_are_those_that_the_samples_had(table):
    parts = [table.take(np.arange(k, k + 20)) for k in (0, 20, 40, 60)]
    problem = DebiasProblem(
        thin_resnet18(width=4), parts[0], clean=parts[1], validation=parts[2], judged_on=parts[3]
    )

    def roles(**options):
        return guided_by(problem, **options)["role"].value_counts().to_dict()

    assert roles(teacher=False, fits_validation=False) == {"train": 20, "clean": 20}
    assert roles(teacher=True, fits_validation=True) == {"train": 40, "clean": 20, "held_out": 20}
    chosen = Training(select="loss")
    selecting = guided_by(
        DebiasProblem(problem.model, parts[0], validation=parts[2], training=chosen),
        teacher=False,
        fits_validation=False,
    )
    assert set(selecting["role"]) == {"train", "validation"}


def test_the_samples_lie_beside_the_weights(table, tmp_path):
    one = student(table, [0, 1])
    again = Student.open(one.save(tmp_path), thin_resnet18(width=4))
    pd.testing.assert_frame_equal(
        again.guided.reset_index(drop=True), one.guided.reset_index(drop=True), check_dtype=False
    )
    (tmp_path / "guided.parquet").write_bytes(b"other")
    with pytest.raises(InputError, match="missing or damaged"):
        Student.open(tmp_path, thin_resnet18(width=4))

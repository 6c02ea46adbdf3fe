"""The name of a concept, in tables that no audit has seen: as the audit read it, or refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from shortcutscope.audit.finding import untested
from shortcutscope.audit.naming import finding_named, read_anew
from shortcutscope.compare.setup import comparison_setup
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.carriers import concept_over
from shortcutscope.errors import InputError
from shortcutscope.facade import Finding
from shortcutscope.probes.concept import Concept

N = 60


def table(name, **columns):
    columns = {key: np.asarray(values) for key, values in columns.items()}
    n = len(next(iter(columns.values())))
    frame = pd.DataFrame(
        {"sample_id": [f"{name}{k}" for k in range(n)], "label": np.arange(n) % 2, **columns}
    )
    return ImageTable.from_arrays(np.zeros((n, 8, 8), np.float32), frame)


def ring(share, n=N):
    return np.where((np.arange(n) // 2 * 7) % 10 < 10 * share, "present", "absent")


def finding_of(audited, column, **options):
    (concept,) = Concept.from_column(audited.frame, column, **options)
    return Finding.from_dict(untested(concept, "not looked at").to_dict())


@pytest.fixture
def audited():
    return table("a", ring=ring(0.6), age=np.linspace(20, 80, N), tag=np.arange(N) // 2 % 2)


def test_c2_debias_takes_the_concept_as_the_audit_read_it(audited):
    found = finding_of(audited, "ring")
    assert found.name == "ring=present"
    train = table("t", ring=ring(0.2))
    for asked in (None, "ring=present", "ring"):
        concept = concept_over(asked, found, [train], [found])
        assert concept.name == "ring=present"
        np.testing.assert_array_equal(concept.values, (train.frame["ring"] == "present").to_numpy(float))


def test_c2_debias_refuses_what_the_audit_did_not_know(audited):
    found = finding_of(audited, "ring")
    with pytest.raises(
        InputError, match=r"holds 'circle' in \d+ of 60 rows, which the concept does not know"
    ):
        concept_over(None, found, [table("t", ring=np.where(np.arange(N) < 9, "circle", "absent"))], [found])
    with pytest.raises(InputError, match="holds numbers here"):
        concept_over(None, found, [table("t", ring=np.arange(N) % 2)], [found])
    with pytest.raises(InputError, match="none of the 60 samples carries 'ring=present'"):
        concept_over(None, found, [table("t", ring=["absent"] * N)], [found])
    assert concept_over(None, found, [table("t", tag=np.arange(N) % 2)], [found]) is None
    with pytest.raises(InputError, match=r"have no column 'ring', from which 'ring=present' was read"):
        concept_over("ring", found, [table("t", tag=np.arange(N) % 2)], [found])


def test_c3_debias_takes_no_column_for_another(audited):
    train = table("t", tag=np.arange(N) // 2 % 2, ring=ring(0.3))
    with pytest.raises(InputError, match=r"no column 'tag_of_the_left_hand'.*Did you mean 'tag'"):
        concept_over("tag_of_the_left_hand", None, [train])
    with pytest.raises(InputError, match="no column 'tagg'"):
        read_anew("tagg", [train.frame], present={})
    assert concept_over("tag", None, [train]).name == "tag"
    assert concept_over("ring=absent", None, [train]).n_carriers == (train.frame["ring"] == "absent").sum()


def test_c3_debias_keeps_the_cuts_of_the_audit(audited):
    found = finding_of(audited, "age")
    train = table("t", age=np.linspace(50, 90, N))
    concept = concept_over("age high", found, [train], [found])
    age = train.frame["age"].to_numpy()
    low, high = found.reading.cuts
    assert (high, low) == pytest.approx((60, 40), abs=2)
    np.testing.assert_array_equal(concept.values == 1, age >= high)
    assert not (concept.values == 0).any()


def test_c2_another_finding_of_the_audit_may_be_named(audited):
    tag, found = finding_of(audited, "tag"), finding_of(audited, "age")
    assert finding_named("age", [tag, found]) is found
    assert finding_named("age high", [tag, found]) is found
    assert finding_named("ring", [tag, found]) is None
    concept = concept_over("age", tag, [table("t", age=np.linspace(50, 90, N))], [tag, found])
    assert concept.reading == found.reading


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_c2_compare_reads_fresh_tables_as_the_audit_did(audited, share, monkeypatch):
    found = replace(finding_of(audited, "ring"), association={"phi": 0.5, "positive": 1})
    (known,) = Concept.from_column(audited.frame, "ring")
    monkeypatch.setattr(Finding, "concept", known)
    tables = {"fresh": table("f", ring=ring(share)), "other": table("f", ring=ring(0.5))}
    asked = comparison_setup(
        tables, None, found, train=table("t", ring=ring(0.4)), positive=None, others=True
    )
    assert asked.name == "ring=present"
    for name, one in tables.items():  # the ids are the same, the values each table's own
        np.testing.assert_array_equal(
            asked.concept[name].values, (one.frame["ring"] == "present").to_numpy(float)
        )
    assert asked.train_concept.n_carriers == (ring(0.4) == "present").sum()
    assert asked.others == ()
    with pytest.raises(InputError, match="the table 'fresh' has no column 'ring'"):
        comparison_setup(
            {"fresh": table("f", tag=ring(0.5))}, None, found, train=None, positive=None, others=False
        )
    odd = table("f", ring=np.where(np.arange(N) < 9, "circle", "absent"))
    with pytest.raises(InputError, match="which the concept does not know"):
        comparison_setup(odd, None, found, train=None, positive=None, others=False)


def test_c1_compare_asks_which_word_is_present():
    left = np.where(np.arange(N) // 2 % 3 == 0, "left", "right")
    fresh = table("f", side=left)
    with pytest.raises(InputError, match="--present 'side=right'"):
        comparison_setup(fresh, "side", None, train=None, positive=1, others=False)
    asked = comparison_setup(
        fresh, "side", None, train=None, positive=1, others=False, present={"side": "left"}
    )
    assert (asked.name, asked.joint_concept.n_carriers) == ("side=left", (left == "left").sum())

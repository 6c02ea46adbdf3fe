"""Which training samples carry what is unlearnt: of one finding, and of several."""

from __future__ import annotations

import numpy as np
import pytest

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.carriers import carried
from shortcutscope.debias.options import Shortcut
from shortcutscope.errors import InputError
from shortcutscope.facade import Finding
from shortcutscope.probes.concept import Concept


def finding(name: str) -> Finding:
    return Finding(name, "metadata", "", "shortcut", "")


@pytest.fixture(scope="module")
def train() -> ImageTable:
    table = ImageTable.from_arrays(np.zeros((48, 1, 8, 8), np.float32), labels=np.arange(48) % 2)
    return table.with_columns(tag=np.arange(48) // 2 % 2, wire=np.arange(48) // 4 % 2)


def concept(table: ImageTable, values: np.ndarray) -> Concept:
    return Concept("discovered 1", values, "discovered", table.frame["sample_id"].to_numpy(np.str_))


def test_of_one_finding_nothing_is_beside_it(train) -> None:
    known, beside = carried(Shortcut(), [finding("tag")], [train])
    assert known.name == "tag"
    assert beside == {}
    assert carried(Shortcut(), [finding("absent")], [train]) == (None, {})
    assert carried(Shortcut(concept="wire"), [], [train])[0].name == "wire"


def test_each_of_several_is_read_from_its_own_column(train) -> None:
    known, beside = carried(Shortcut(), [finding("tag"), finding("wire")], [train])
    assert known.name == "tag"
    assert beside["wire"].tolist() == (np.arange(48) // 4 % 2).tolist()


def test_a_discovered_one_is_told_by_a_concept_of_its_own(train) -> None:
    both = [finding("tag"), finding("discovered 1")]
    with pytest.raises(InputError, match=r"carry 'discovered 1'.*finding.label\(model, train\).*--retrieved"):
        carried(Shortcut(), both, [train])
    labelled = concept(train, (np.arange(48) % 3 == 0) * 1.0)
    _, beside = carried(Shortcut(concept={"discovered 1": labelled}), both, [train])
    assert beside["discovered 1"].tolist() == labelled.values.tolist()


def test_a_concept_that_is_of_none_or_of_all_of_them_is_refused(train) -> None:
    both = [finding("tag"), finding("wire")]
    with pytest.raises(InputError, match="concept= is given for 'sex', which is not unlearnt"):
        carried(Shortcut(concept={"sex": "tag"}), both, [train])
    with pytest.raises(InputError, match="says who carries one finding, and 2 are to be unlearnt"):
        carried(Shortcut(concept="tag"), both, [train])

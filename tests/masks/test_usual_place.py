"""The usual place tells carriers whose highest evidence is no higher than that of others."""

import numpy as np

from shortcutscope.masks.usual_place import CONTRAST, EVIDENCE, UsualPlace


def evidence(n, seed, *, carry):
    """Something that stands out anywhere, and in carriers as much in one corner."""
    rng = np.random.default_rng(seed)
    maps = np.zeros((n, 12, 12), np.float32)
    maps[np.arange(n), rng.integers(4, 12, n), rng.integers(0, 12, n)] = 1
    maps[:, :2, :2] += 0.9 * carry
    return maps


def test_carriers_are_told_by_the_place_and_not_by_the_highest_evidence():
    place = UsualPlace.fit(evidence(60, 0, carry=True), evidence(60, 1, carry=False))
    assert np.isclose(place.weights.sum(), 1)
    assert place.weights[:2, :2].sum() > 0.7
    carriers, others = evidence(40, 2, carry=True), evidence(40, 3, carry=False)
    assert carriers.max((1, 2)).min() == others.max((1, 2)).max()
    own, theirs = (place.features(maps, -maps) for maps in (carriers, others))
    assert own[EVIDENCE].min() > theirs[EVIDENCE].max()
    assert (own[CONTRAST] == 0).all()  # features are logarithms later


def test_where_carriers_have_no_more_there_is_no_place():
    place = UsualPlace.fit(evidence(20, 0, carry=False), 2 + evidence(20, 0, carry=False))
    assert not place.weights.any()
    assert not place.features(evidence(3, 0, carry=True), evidence(3, 1, carry=True))[EVIDENCE].any()

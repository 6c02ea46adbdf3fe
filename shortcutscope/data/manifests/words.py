"""Words that say by themselves whether something is there, or that nobody knows."""

from __future__ import annotations

from collections.abc import Sequence

_PRESENT = {"yes", "present", "true", "positive", "with", "visible", "1", "detected"}
_ABSENT = {"no", "none", "absent", "false", "negative", "without", "nothing", "nil", "not", "0", "undetected"}
#: Too short or too vague to say anything alone.
_PAIRS = (
    ("y", "n"),
    ("t", "f"),
    ("pos", "neg"),
    ("+", "-"),
    ("on", "off"),
    ("in", "out"),
    ("abnormal", "normal"),
)
_DENIALS = ("no ", "not ", "non ", "without ", "absence of ", "free of ")
_UNKNOWN = {
    "unknown", "unk", "unclear", "uncertain", "undetermined", "indeterminate", "maybe", "missing", "na",
    "n/a", "nan", "null", "not available", "not applicable", "not known", "not stated", "not recorded",
    "unspecified", "unsure", "?", "-", "--", ".", "<na>", "#n/a", "nd",
}  # fmt: skip


def key(word: str) -> str:
    """What makes a word the same: neither case nor blanks."""
    return " ".join(word.casefold().split())


def says_unknown(word: str) -> bool:
    """Whether a word says that nobody knows; whether it does here, only the user can tell."""
    return key(word) in _UNKNOWN


def says_present(word: str, column: str) -> bool:
    """Whether a word says that something is there: yes, present, ..., or the column's own name."""
    return key(word) in _PRESENT or _loose(word) == _loose(column)


def says_absent(word: str) -> bool:
    """Whether a word says that something is not there: no, none, absent, "no tag", ..."""
    return key(word) in _ABSENT or (_loose(word).startswith(_DENIALS) and not says_unknown(word))


def tell_presence(words: Sequence[str], column: str) -> bool:
    """Whether any of some words says that something is there, or is not."""
    keys = {key(word) for word in words}
    return any(says_present(w, column) or says_absent(w) for w in words) or any(
        keys.issuperset(pair) for pair in _PAIRS
    )


def which_is_present(words: Sequence[str], column: str) -> str | None:
    """Of two words the one that means present, or None where the words do not tell.

    Examples
    --------
    >>> which_is_present(["absent", "present"], "ring")
    'present'
    >>> which_is_present(["frame", "none"], "collimation")
    'frame'
    >>> which_is_present(["F", "M"], "sex") is None
    True
    """
    first, second = words
    for one, other in ((first, second), (second, first)):
        if (key(one), key(other)) in _PAIRS:
            return one
    if any(says_unknown(word) for word in words):
        return None
    points = [says_present(word, column) - says_absent(word) for word in words]
    return None if points[0] == points[1] else words[points.index(max(points))]


def _loose(word: str) -> str:
    return key(word.replace("_", " ").replace("-", " "))

"""What an audit as a whole concludes: shortcuts were found, nothing was found, or it could not be decided.

Nothing found is a statement only where something could have been found. It is none where the association of
a used concept with the label in the training data is not known, where what goes with the label most could not
be tested, where the data are too few to tell what a used concept costs, where a used concept may be
what the label should say, or where the network responds to a property of the pictures that may be the
acquisition's or the disease's. What was seen on the pixels counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

from shortcutscope.data.properties.names import Source
from shortcutscope.types import JSON

Outcome = Literal["shortcuts found", "nothing found", "not decided"]

#: Exit codes of the command line.
EXIT_CODES: Mapping[Outcome, int] = {"nothing found": 0, "shortcuts found": 2, "not decided": 3}
#: Difference of a column's distribution between two classes (total variation, 1 where it tells them without
#: error) from which an untested column leaves nothing to conclude: more of it is told by the label than not.
STRONG = 0.5
#: Cost in AUROC that an interval which holds 0 has to exclude, for the cost to be called none.
SMALLEST_COST = 0.05
#: Test level of an untested column's association.
LEVEL = 0.05


@dataclass(frozen=True)
class Conclusion:
    """The conclusion of an audit.

    Attributes
    ----------
    outcome : str
        ``"shortcuts found"``, ``"nothing found"`` or ``"not decided"``.
    undecided : tuple of str
        What could not be decided, and what would decide it, the gravest first; also beside shortcuts.
    assumption : str
        Where the association of the concepts with the label comes from.
    """

    outcome: Outcome
    undecided: tuple[str, ...]
    assumption: str

    @property
    def exit_code(self) -> int:
        """Of the command line: 0 nothing found, 2 shortcuts found, 3 not decided."""
        return EXIT_CODES[self.outcome]


def conclude_audit(findings: Sequence[JSON], run: JSON) -> Conclusion:
    """Draw the conclusion from the findings of an audit.

    Parameters
    ----------
    findings : sequence of mapping
        The records of ``findings.json``.
    run : mapping
        ``run.json``; its screen of metadata columns names those that are no concept.
    """
    undecided = [
        *_confounded(findings, run),
        *_used_on_pixels(findings),
        *_label_itself(findings),
        *_unknown_association(findings),
        *_open_cost(findings),
        *_picture_properties(findings),
        *_unconfirmed(findings),
        *_nothing_tested(findings),
    ]
    any_shortcut = any(f.get("verdict") == "shortcut" for f in findings)
    outcome: Outcome = "shortcuts found" if any_shortcut else "not decided" if undecided else "nothing found"
    return Conclusion(outcome, tuple(undecided), _assumption(findings))


def conclude_outputs(outputs: Mapping[str, Conclusion], not_audited: Mapping[str, str]) -> Conclusion:
    """Draw the conclusion of several outputs: a shortcut of one is one, and what one leaves open is open.

    Parameters
    ----------
    outputs
        Label to the conclusion of its output.
    not_audited
        Labels whose output could not be audited, and why.
    """
    undecided = [f"{name}: {text}" for name, one in outputs.items() for text in one.undecided]
    undecided += [f"the output of {name} was not audited: {reason}" for name, reason in not_audited.items()]
    outcomes = {one.outcome for one in outputs.values()}
    outcome: Outcome = "nothing found"
    if "shortcuts found" in outcomes:
        outcome = "shortcuts found"
    elif undecided or "not decided" in outcomes:
        outcome = "not decided"
    assumptions = list(dict.fromkeys(one.assumption for one in outputs.values()))
    return Conclusion(outcome, tuple(undecided), "; ".join(assumptions))


def _assumption(findings: Sequence[JSON]) -> str:
    sources = dict.fromkeys(
        str(f["association"]["source"]) for f in findings if (f.get("association") or {}).get("source")
    )
    if sources and set(sources) <= {"training split", "earlier audit"}:
        where = " and ".join("the training samples" if s == "training split" else f"an {s}" for s in sources)
        return f"whether a concept goes with the label was measured in {where}"
    if "training split" in sources:
        names = [f["name"] for f in findings if (f.get("association") or {}).get("source") == "audited data"]
        return (
            f"whether {_listed(names)} goes with the label was measured in the audited samples, since the "
            "training samples do not say, and is assumed to be the same in training"
        )
    return (
        "whether a concept goes with the label was measured in the audited samples, and is assumed to be the "
        "same in the training samples, which were not given"
    )


def _confounded(findings: Sequence[JSON], run: JSON) -> list[str]:
    """Columns that nearly tell the label and could not be tested."""
    strength = _untested_columns(findings)
    tested = {name for f in findings for name in (_column(f["name"]), *(f.get("same") or ()))}
    for row in (run.get("metadata") or {}).get("columns", []):
        v, q = row.get("cramers_v"), row.get("q")
        if row["column"] not in tested and v is not None and q is not None and q <= LEVEL:
            strength[row["column"]] = max(strength.get(row["column"], 0.0), float(v))
    strong = {name: s for name, s in strength.items() if s >= STRONG}
    if not strong:
        return []
    ranked = sorted(strong, key=lambda name: -strong[name])
    texts = [f"{name} ({strong[name]:.2f} of 1)" for name in ranked[:6]]
    more = f" and {len(ranked) - 6} more" if len(ranked) > 6 else ""
    word = "is determined" if strong[ranked[0]] >= 0.9 else "is told in large part"
    return [
        f"the label {word} by {_listed(texts)}{more}, which could not be tested: in these data a model that "
        "reads where an image comes from cannot be told from one that reads the disease, and nothing can be "
        "concluded. Audit samples in which they do not go together"
    ]


def _untested_columns(findings: Sequence[JSON]) -> dict[str, float]:
    """Total variation between the classes they differ in most, of columns of which values were not tested."""
    levels: dict[str, list[Mapping[str, float]]] = {}
    p: dict[str, list[float]] = {}
    for finding in findings:
        shares, chance = ((finding.get("association") or {}).get(key) for key in ("carriers_by_class", "p"))
        if finding.get("verdict") == "not testable" and shares and chance is not None:
            levels.setdefault(_column(finding["name"]), []).append(shares)
            p.setdefault(_column(finding["name"]), []).append(float(chance))
    strength = {}
    for column, level_shares in levels.items():
        if min(p[column]) * len(level_shares) > LEVEL:
            continue
        classes = sorted(set.intersection(*(set(shares) for shares in level_shares)))
        differences = [
            0.5 * sum(abs(shares[c] - shares[d]) for shares in level_shares)
            + 0.5 * abs(sum(shares[c] - shares[d] for shares in level_shares))
            for c, d in combinations(classes, 2)
        ]
        strength[column] = max(differences, default=0.0)
    return strength


def _column(name: str) -> str:
    """The column of a concept that is named ``column=level``."""
    return name.partition("=")[0]


def _unknown_association(findings: Sequence[JSON]) -> list[str]:
    unknown = [
        f
        for f in findings
        if f.get("verdict") == "encoded and used, not associated"
        and (f.get("association") or {}).get("source") == "audited data"
    ]
    measured = [f["name"] for f in unknown if f.get("origin") in get_args(Source)]
    told = [f["name"] for f in unknown if f["name"] not in measured]
    needed = [
        (told, "Give the training samples; their columns are enough"),
        (measured, "Give the training samples with their images, of which it is measured"),
    ]
    return [
        f"the output depends on {_listed(names)}; whether that goes with the label in the training samples "
        f"is not known, since none were given that say so, and in the audited ones it does not. {mend}"
        for names, mend in needed
        if names
    ]


def _open_cost(findings: Sequence[JSON]) -> list[str]:
    wide = [
        f["name"]
        for f in findings
        if f.get("verdict") == "encoded and used, no cost measured"
        and (((f.get("effect") or {}).get("auroc_gap") or {}).get("interval") or (0.0, 0.0))[1]
        > SMALLEST_COST
    ]
    if not wide:
        return []
    return [
        f"the output depends on {_listed(wide)}, which goes with the label, but whether that costs anything "
        f"is open: the interval of the cost holds 0 and more than {SMALLEST_COST:.2f}. Audit more samples in "
        "which the two disagree"
    ]


def _used_on_pixels(findings: Sequence[JSON]) -> list[str]:
    properties, others = (
        [_with_flips(f) for f in findings if f.get("verdict") == verdict]
        for verdict in ("used on the pixels, a picture property", "used on the pixels")
    )
    undecided = []
    if properties:
        undecided.append(
            f"the network uses {_listed(properties)}, of the pictures themselves, confirmed on the pixels, "
            "and that goes with the label: what remains to be judged is whether it comes from the "
            "acquisition or from the disease. Judge it by what is known of scanner and exposure"
        )
    if others:
        undecided.append(
            f"the network uses {_listed(others)}, which goes with the label, confirmed on the pixels, though "
            "in its layers that did not show: what it costs remains to be judged"
        )
    return undecided


def _with_flips(finding: JSON) -> str:
    """A name with the share of predictions that flip on the pixels, the larger of both directions."""
    directions = ((finding.get("pixels") or {}).get("directions") or {}).values()
    flips = max((d["flips"] for d in directions if d.get("flips") is not None), default=None)
    return finding["name"] if flips is None else f"{finding['name']} ({flips:.0%} of the predictions flip)"


def _label_itself(findings: Sequence[JSON]) -> list[str]:
    names = [f["name"] for f in findings if f.get("verdict") == "encoded and used, may be the label"]
    if not names:
        return []
    samples = {s for f in findings if f["name"] in names for s in f["samples"].get("doubtful_label", ())}
    return [
        f"check these labels first: {_listed(names)} may be what the label should say, or where images come "
        f"from, and no shortcut. Read the labels of the {len(samples)} samples that go against it "
        "(doubtful_label in findings.json), and audit again: with right labels, or, if they are right, with "
        "a column that says where images come from, or what else it is, which is then judged as any other"
    ]


def _unconfirmed(findings: Sequence[JSON]) -> list[str]:
    names = [
        f["name"]
        for f in findings
        if f.get("verdict") in ("shortcut", "encoded and used, a picture property")
        and (f.get("pixels") or {}).get("word") == "not confirmed"
    ]
    if not names:
        return []
    return [
        f"by its layers the network uses {_listed(names)}, which was not confirmed on the pixels: it may "
        "follow something that occurs with it, or the change did not reach what it follows. Look at the "
        "pictures of before and after"
    ]


def _picture_properties(findings: Sequence[JSON]) -> list[str]:
    names = [f["name"] for f in findings if f.get("verdict") == "encoded and used, a picture property"]
    if not names:
        return []
    return [
        f"the output responds to {_listed(names)}, of the pictures themselves, and that goes with the label: "
        "acquisition or disease cannot be told from these data. Audit what is known of the acquisition, such "
        "as scanner and exposure, or samples in which it does not go with the disease"
    ]


def _nothing_tested(findings: Sequence[JSON]) -> list[str]:
    if findings and all(f.get("verdict") == "not testable" for f in findings):
        return ["none of the concepts could be tested; each says why"]
    return []


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)

"""What a report shows first: a card for each column that matters, the rest in a line, and what to do."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence

from shortcutscope.audit.appearance.sheet import part_of
from shortcutscope.report import wording
from shortcutscope.report.run_files import mapping, number
from shortcutscope.types import JSON, Record

#: Cards shown at once; more of them are folded away, shortcuts never.
MAX_CARDS = 12
#: Kinds that are told in a line, since there is nothing to look at.
IN_A_LINE = ("absent", "untestable")


def arrange(findings: Sequence[Record]) -> Record:
    """Findings by columns: cards, those folded away, and lines on what is not encoded or could not be tested.

    Parameters
    ----------
    findings
        As `summarize_finding` gives them; those of a column with one verdict share a card.

    Returns
    -------
    dict
        ``cards``, ``folded`` and ``folded_text``, ``lines`` (``kind``, ``label``, ``text``), and ``rest``,
        the findings of the lines.
    """
    cards: dict[tuple[str, str], Record] = {}
    for finding in findings:
        if finding["kind"] in IN_A_LINE:
            continue
        key = (finding["column"] or finding["name"], finding["verdict"])
        card = cards.setdefault(key, {**finding, "also": []})
        if card["id"] != finding["id"]:
            card["also"].append(_level(finding))
    arranged = list(cards.values())
    n_cards = max(MAX_CARDS, sum(card["kind"] == "shortcut" for card in arranged))
    folded = arranged[n_cards:]
    kinds = dict.fromkeys(card["label"] for card in folded)
    rest = wording.listed([f"{sum(f['label'] == k for f in folded)} {k.lower()}" for k in kinds])
    return {
        "cards": arranged[:n_cards],
        "folded": folded,
        "folded_text": f"{len(folded)} more: {rest}",
        "lines": _lines(findings),
        "rest": [f for f in findings if f["kind"] in IN_A_LINE],
    }


def column_of(finding: JSON) -> str:
    """The column that a concept was read from; empty where it comes from none."""
    return str(mapping(finding.get("reading")).get("column") or "")


def _level(finding: JSON) -> str:
    name, column = str(finding["name"]), str(finding["column"])
    return name.removeprefix(f"{column}=") if name.startswith(f"{column}=") else name


def _lines(findings: Sequence[JSON]) -> list[Record]:
    """One line for each kind, columns in the order of their first finding, with their values in brackets."""
    lines = []
    for kind in IN_A_LINE:
        of_kind = [f for f in findings if f["kind"] == kind]
        columns: dict[str, list[JSON]] = {}
        for finding in of_kind:
            columns.setdefault(finding["column"] or finding["name"], []).append(finding)
        names = [
            f"{name} ({', '.join(map(_level, group))})" if len(group) > 1 else str(group[0]["name"])
            for name, group in columns.items()
        ]
        if names:
            label = {"absent": "Not encoded, so not used", "untestable": "Could not be tested"}[kind]
            lines.append({"kind": kind, "label": label, "text": f"{wording.listed(names)}."})
    return lines


def place_of(finding: JSON) -> dict[str, str] | None:
    """Where a localized finding is read best, as a box in percent of the picture; None for others."""
    part = part_of(mapping(finding.get("evidence"))) if finding.get("extent") == "localized" else None
    if part is None:
        return None
    top, bottom, left, right = (100 * share for share in part)
    sides = {"top": top, "left": left, "height": bottom - top, "width": right - left}
    return {side: f"{value:.1f}%" for side, value in sides.items()}


def advice(findings: Sequence[JSON], undecided: Sequence[str]) -> list[str]:
    """What the audit means for the use of the model, for a reader who does not know the methods."""
    shortcuts = [f for f in findings if f.get("verdict") == "shortcut"]
    if not shortcuts:
        if undecided:
            return ["Whether this model may be relied on cannot be said from these images alone."]
        return ["This is no general clearance: it holds for what was tested, at this number of images."]
    worst = shortcuts[0]
    effect = mapping(worst.get("effect"))
    robust, aligned = (mapping(effect.get(key)) for key in ("robust_auroc", "aligned_auroc"))
    low, high, n = number(robust.get("value")), number(aligned.get("value")), number(robust.get("n"))
    name = wording.title(worst)
    sentences = []
    if low is not None and high is not None:
        size = f" ({wording.count(n)} images in the smallest group)" if n is not None else ""
        sentences.append(
            f"Where {name} contradicts the label, the model ranks a positive case above a negative one in "
            f"{wording.percent(low)} of pairs; where it agrees, in {wording.percent(high)}{size}."
        )
    others = wording.listed([wording.title(f) for f in shortcuts[:4]])
    sentences.append(
        f"Do not rely on it where {others} may occur otherwise than in its training images, such as at "
        "another site, until it was retrained and audited again."
    )
    return sentences


#: Verdicts of what somebody should go on with.
WORTH_STEPS = (
    "shortcut",
    "used on the pixels, a picture property",
    "used on the pixels",
    "encoded and used, a picture property",
)


def next_steps(
    findings: Sequence[JSON],
    undecided: Sequence[str],
    masked: Collection[str] = (),
    compared: Collection[str] = (),
) -> list[dict[str, str]]:
    """What to do now, with the command to copy; ``RUN`` is the folder of the report.

    Parameters
    ----------
    findings
        Of ``findings.json``.
    undecided
        What could not be decided.
    masked, compared
        Findings that the run has masks of, and a comparison by.
    """
    steps = []
    for finding in [f for f in findings if f.get("verdict") in WORTH_STEPS][:2]:
        name = shlex.quote(str(finding["name"]))
        title = wording.title(finding)
        steps.append(
            _step(
                f"Look at the images that carry {title}",
                f"retrieve RUN {name} --csv hits.csv --page hits.html",
            )
        )
        if finding.get("extent") == "localized" and finding["name"] not in masked:
            steps.append(_step(f"Draw masks of {title}", f"annotate RUN {name}"))
        if not finding.get("pixels"):
            steps.append(_step(f"Take {title} out of the images and see", f"pixels RUN {name}"))
        if finding["name"] not in compared:
            clean = "" if _has_twins(finding) else " --clean CLEAN.csv"
            retrain = f"debias RUN --finding {name} --data TRAIN.csv{clean}"
            steps.append(_step(f"Retrain without {title}", retrain))
            steps.append(_step("Compare before and after", f"compare RUN --finding {name} --data TEST.csv"))
    if not steps:  # what could not be decided stands above
        steps += [{"text": text[:1].upper() + text[1:], "command": ""} for text in undecided]
    if not findings or not steps:
        steps.append(_step("Look for what nobody named", "audit MODEL DATA --discover --out RUN2"))
    return steps


def _has_twins(finding: JSON) -> bool:
    """Whether images can be given what others have of it, so that no clean samples are needed."""
    pixels = mapping(finding.get("pixels"))
    return pixels.get("way") == "transfer" and pixels.get("word") in ("confirmed", "supported")


def _step(text: str, command: str) -> dict[str, str]:
    return {"text": text, "command": f"shortcutscope {command}"}

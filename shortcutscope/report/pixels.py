"""What an intervention on the pixels said of a finding, as plain data, and its pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shortcutscope.disk import intact
from shortcutscope.report import wording
from shortcutscope.report.gallery import MAX_SIDE, MAX_WIDTH_OF_TRACES, data_uri, fit
from shortcutscope.report.run_files import interval, mapping, number, texts
from shortcutscope.types import JSON, Record

#: Word to (key for colour and icon, words on the card).
WORDS = {
    "confirmed": ("yes", "Confirmed on the pixels"),
    "supported": ("yes", "Supported on the pixels, in one direction"),
    "not confirmed": ("no", "Not confirmed on the pixels"),
    "could not be tested": ("untestable", "Could not be tested on the pixels"),
}
_STATES = {"dark": "when all are dark", "bright": "when all are bright", "one value": "at one value"}
_DIRECTIONS = {"without": "Taken out of images that carry it", "with": "Put into images that do not"}


def summarize_pixels(finding: JSON, pictures: Path | None) -> Record | None:
    """The words and figures of a finding's intervention, or None where there was none.

    Parameters
    ----------
    finding
        An entry of ``findings.json``.
    pictures
        Where its pictures lie.
    """
    record = mapping(finding.get("pixels"))
    word = str(record.get("word") or "")
    if word not in WORDS:
        return None
    kind, label = WORDS[word]
    directions = [
        _direction(name, mapping(mapping(record.get("directions")).get(key)))
        for key, name in _DIRECTIONS.items()
        if mapping(record.get("directions")).get(key)
    ]
    done = "filling its masks" if record.get("way") == "erase" else "moving whole images"
    return {
        "word": word,
        "kind": kind,
        "label": label,
        "how": f"by {done} ({record.get('how')})",
        "reason": str(record.get("reason") or ""),
        "short": "; ".join(row["short"] for row in directions),
        "directions": directions,
        "levelled": [_levelled(mapping(x)) for x in record.get("levelled") or []],
        "pictures": None if pictures is None else str(pictures),
    }


def _direction(name: str, values: JSON) -> Record:
    doubt = str(values.get("doubt") or "")
    excess, z = number(values.get("excess")), number(values.get("z"))
    flips, null_flips = number(values.get("flips")), number(values.get("null_flips"))
    ends = wording.between(interval(values.get("excess_interval")))
    return {
        "name": name,
        "effect": wording.decimal(number(values.get("effect"))),
        "null": wording.decimal(number(values.get("null"))),
        "excess": wording.decimal(excess),
        "interval": ends,
        "z": wording.decimal(z, 1),
        "flips": wording.percent(flips),
        "null_flips": wording.percent(null_flips),
        "n": wording.count(values.get("n")),
        "doubt": doubt,
        "short": f"{name[0].lower()}{name[1:]}: {wording.decimal(excess)} standard deviations beyond the null"
        + (f" ({ends})" if ends else "")
        + f", {wording.percent(flips)} flip (null {wording.percent(null_flips)})"
        + (", in doubt" if doubt else ""),
    }


def _levelled(values: JSON) -> Record:
    areas = [
        f"{wording.decimal(number(area))} {_STATES.get(state, state)} ({wording.between(interval(ends))})"
        for state, (area, ends) in mapping(values.get("auroc")).items()
    ]
    flips, ends = values["flips"]
    one, other = texts(values.get("between"))
    low, high = (wording.percent(x) for x in interval(ends) or (None, None))
    what, n = str(values.get("what")).capitalize(), wording.count(values.get("n"))
    differ = f"{wording.percent(number(flips))} ({low} to {high})"
    return {
        "text": f"{what} brought to one value in {n} images: AUROC {', '.join(areas)}; {differ} of the "
        f"predictions differ between {one} and {other}."
    }


def read_pairs(path: Path) -> list[Record]:
    """Pictures of before and after as data URIs, with the direction of each.

    Raises
    ------
    InputError
        When the file is damaged.
    """
    damaged = intact(path, "pictures of an intervention", "delete it and test on the pixels again")
    with damaged, np.load(path, allow_pickle=False) as stored:
        before, after = stored["before"], stored["after"]
        ids, directions = stored["sample_ids"].astype(str), stored["directions"].astype(str)
        of_signals = str(stored["kind"]) == "signal"
    side = MAX_WIDTH_OF_TRACES if of_signals else MAX_SIDE
    return [
        {
            "sample": str(ids[k]),
            "done": {"without": "taken out", "with": "put in"}.get(str(directions[k]), ""),
            "before": data_uri(fit(before[k], side), lossless=of_signals),
            "after": data_uri(fit(after[k], side), lossless=of_signals),
        }
        for k in range(len(ids))
    ]

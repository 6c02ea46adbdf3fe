"""How numbers and verdicts are put into words; nothing here knows of HTML.

The sentences are for a reader who decides whether a model may be used, and who need not know the
methods: each says what was measured and no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shortcutscope.discover.naming.texts import looks_of, words_of
from shortcutscope.probes.together.beside import describe
from shortcutscope.report.run_files import interval, mapping, number, texts
from shortcutscope.types import JSON, Record

MISSING = "–"

#: Verdict to (key for colour and icon, label on the card).
VERDICTS: Mapping[str, tuple[str, str]] = {
    "shortcut": ("shortcut", "Shortcut"),
    "used on the pixels, a picture property": ("used", "Used on the pixels, a picture property"),
    "used on the pixels": ("used", "Used on the pixels"),
    "encoded and used, may be the label": ("used", "Check these labels first"),
    "encoded and used, no cost measured": ("used", "Used, no cost measured"),
    "encoded and used, a picture property": ("used", "Used, a picture property"),
    "encoded and used, not associated": ("used", "Used, not associated"),
    "explained by another concept": ("encoded", "Explained by another"),
    "encoded, not used": ("encoded", "Encoded, not used"),
    "not encoded": ("absent", "Not encoded"),
    "not testable": ("untestable", "Not testable"),
}

EXTENTS: Mapping[str, str] = {
    "localized": "confined to a part of the {kind}",
    "diffuse": "spread over the {kind}",
    "undetermined": "extent undetermined",
}
#: Places of each image that were read together to what they are called.
PLACES: Mapping[str, str] = {
    "quiet": "the quiet places",
    "moving": "those at the ends of the cells that do not tell it",
    "loud": "the loudest, brightest and darkest places of all",
}

#: Origin of a concept to what is said of it; others stand for themselves.
ORIGINS: Mapping[str, str] = {"file": "measured from the file", "picture": "measured from the picture"}


def origin(name: str) -> str:
    """Where a concept comes from.

    Examples
    --------
    >>> origin("picture"), origin("metadata")
    ('measured from the picture', 'metadata')
    """
    return ORIGINS.get(name, name)


def decimal(value: float | None, places: int = 2) -> str:
    """A number with a true minus sign; a dash where it is unknown.

    Examples
    --------
    >>> decimal(0.456), decimal(-0.3, 1), decimal(-0.0001), decimal(None)
    ('0.46', '−0.3', '0.00', '–')
    """
    if value is None:
        return MISSING
    text = f"{abs(value):.{places}f}"
    return f"−{text}" if value < 0 and float(text) != 0 else text


def between(ends: tuple[float, float] | None, places: int = 2, scale: float = 1.0) -> str:
    """An interval as ``low to high``; empty where it is unknown."""
    if ends is None:
        return ""
    return f"{decimal(ends[0] * scale, places)} to {decimal(ends[1] * scale, places)}"


def percent(value: float | None) -> str:
    r"""A share in percent, with one place below two percent so that rare is not read as never.

    Examples
    --------
    >>> percent(0.934), percent(0.004), percent(0.0), percent(None)
    ('93\xa0%', '0.4\xa0%', '0\xa0%', '–')
    """
    if value is None:
        return MISSING
    return f"{decimal(100 * value, 1 if 0 < abs(value) < 0.02 else 0)}\u00a0%"


def p_value(value: float | None) -> str:
    """A p or q value; never as zero.

    Examples
    --------
    >>> p_value(0.0312), p_value(0.4), p_value(0.0), p_value(None)
    ('0.031', '0.40', '< 0.001', '–')
    """
    if value is None:
        return MISSING
    if value < 0.001:
        return "< 0.001"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def count(value: object) -> str:
    r"""A whole number with thin spaces between thousands.

    Examples
    --------
    >>> count(11177538)
    '11\u202f177\u202f538'
    """
    parsed = number(value)
    return MISSING if parsed is None else f"{int(parsed):,}".replace(",", "\u202f")


def duration(seconds: float | None) -> str:
    """A time span in the unit that fits.

    Examples
    --------
    >>> duration(0.21), duration(41.7), duration(754.0)
    ('0.2 s', '42 s', '12 min 34 s')
    """
    if seconds is None:
        return MISSING
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def listed(items: Sequence[str]) -> str:
    """Join as a person would: ``a``, ``a and b``, ``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def plural(n: int, noun: str) -> str:
    """``1 finding``, ``2 findings``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def looks(finding: JSON) -> str:
    """What carriers look like, ``"darker: mean grey 0.45 against 0.63"``; empty where that is not known."""
    return looks_of(mapping(finding.get("appearance")))


def title(finding: JSON) -> str:
    """The name of a finding, and of one that nobody named what it looks like in a word or two."""
    words = listed(words_of(mapping(finding.get("appearance"))))
    return (
        f"{finding['name']} ({words})"
        if words and finding.get("origin") == "discovered"
        else str(finding["name"])
    )


def _with_word(finding: JSON) -> str:
    """The title of a finding with its word on the pixels."""
    word = on_pixels(finding)
    return f"{title(finding)} ({word})" if word else title(finding)


def verdict_label(finding: JSON) -> tuple[str, str]:
    """Key for colour and icon of a finding, and its verdict in words with what was seen on the pixels."""
    verdict, word = str(finding.get("verdict")), on_pixels(finding)
    kind, label = VERDICTS.get(verdict, ("untestable", verdict))
    return kind, f"{label}, {word}" if word and not verdict.startswith("used on the pixels") else label


def headline(findings: Sequence[JSON]) -> str:
    """What the audit found, in one or two sentences."""
    tested = [f for f in findings if f.get("verdict") != "not testable"]
    shortcuts = [_with_word(f) for f in tested if f.get("verdict") == "shortcut"]
    n_untested = len(findings) - len(tested)
    if not tested:
        text = "No concept could be tested on these data"
    elif not shortcuts:
        text = f"None of the {plural(len(tested), 'tested concept')} is a shortcut of this model"
        text = "The tested concept is no shortcut of this model" if len(tested) == 1 else text
        text = _judged(tested) or text
    else:
        verb, noun = ("is a", "shortcut") if len(shortcuts) == 1 else ("are", "shortcuts")
        names = listed(shortcuts) if len(shortcuts) <= 4 else f"{listed(shortcuts[:3])} and others"
        of = (
            "the only tested concept"
            if len(tested) == 1
            else f"{len(shortcuts)} of {len(tested)} tested concepts"
        )
        text = f"{of[0].upper()}{of[1:]} {verb} {noun}: {names}{_open(tested)}"
    return f"{text}." + (f" {n_untested} more could not be tested." if n_untested and tested else "")


def _judged(findings: Sequence[JSON]) -> str:
    """What a person must judge where nothing is called a shortcut; empty where there is nothing to judge."""
    used = [title(f) for f in findings if str(f.get("verdict")).startswith("used on the pixels")]
    labels = [title(f) for f in findings if f.get("verdict") == "encoded and used, may be the label"]
    texts = []
    if used:
        what = "that is a shortcut" if len(used) == 1 else "these are shortcuts"
        texts.append(
            f"The model uses {listed(used)}, confirmed on the pixels; whether {what} is for a person to judge"
        )
    if labels:
        them = "it" if len(labels) == 1 else "one of them"
        texts.append(
            f"Check the labels that go against {listed(labels)} first: {them} may be the right label"
        )
    return ". ".join(texts)


def _open(findings: Sequence[JSON]) -> str:
    """Which shortcuts these samples cannot tell from another concept, as the rest of a sentence."""
    names = [
        str(f["name"])
        for f in findings
        if f.get("verdict") == "shortcut"
        and mapping(f.get("beside")).get("statement") == "cannot be told apart from"
    ]
    if not names:
        return ""
    them = "it" if len(names) == 1 else "them"
    return f"; these samples cannot tell {listed(names)} from what goes with {them}"


def sentence(finding: JSON) -> str:
    """What the verdict on a concept means, in plain language."""
    name = title(finding)
    say = {
        "shortcut": _shortcut,
        "used on the pixels, a picture property": _property_on_pixels,
        "used on the pixels": _on_pixels,
        "encoded and used, may be the label": _label_itself,
        "encoded and used, no cost measured": _without_cost,
        "encoded and used, a picture property": _property,
        "encoded and used, not associated": _used,
        "explained by another concept": _explained,
        "encoded, not used": _encoded,
        "not encoded": _absent,
    }.get(str(finding.get("verdict")), _untestable)
    return say(name, finding)


def _shortcut(name: str, finding: JSON) -> str:
    effect = mapping(finding.get("effect"))
    robust, aligned = (number(mapping(effect.get(k)).get("value")) for k in ("robust_auroc", "aligned_auroc"))
    if robust is None or aligned is None:
        why = str(mapping(effect.get("auroc_gap")).get("why") or "")
        cost = f" What it costs is {why}." if why else ""
        return f"The model reads {name}, its output depends on it, and it goes with the label.{cost}"
    gap = interval(mapping(effect.get("auroc_gap")).get("interval"))
    if robust >= aligned or (gap is not None and gap[0] <= 0):
        return _without_cost(name, finding)
    return (
        f"The model leans on {name}: AUROC is {decimal(aligned)} where it agrees with the label and "
        f"{decimal(robust)} where it disagrees."
    )


def _without_cost(name: str, finding: JSON) -> str:
    effect = mapping(finding.get("effect"))
    robust, aligned = (number(mapping(effect.get(k)).get("value")) for k in ("robust_auroc", "aligned_auroc"))
    return (
        f"The model's output depends on {name}, which goes with the label, but on these data that costs "
        f"nothing measurable: AUROC is {decimal(aligned)} where it agrees with the label and "
        f"{decimal(robust)} where it disagrees, a difference that may be chance."
    )


def _used(name: str, finding: JSON) -> str:
    source = mapping(finding.get("association")).get("source") or "these data"
    return (
        f"The output responds to {name}, but not along with an association to the label in the {source}: "
        "no shortcut here, and a risk where the two go together."
    )


def _property(name: str, finding: JSON) -> str:
    return (
        f"The network responds to {name}, a picture property that is associated with the label; acquisition "
        "or disease cannot be told from these data."
    )


def _property_on_pixels(name: str, finding: JSON) -> str:
    return (
        f"The network uses {name}, a picture property that is associated with the label: with the pixels "
        f"changed, {_flips(finding)}. Whether it comes from how images were taken or from the disease is for "
        "a person to judge."
    )


def _on_pixels(name: str, finding: JSON) -> str:
    return (
        f"The network uses {name}, which goes with the label: with the pixels changed, {_flips(finding)}. In "
        "its layers that did not show; what it costs is for a person to judge."
    )


def _flips(finding: JSON) -> str:
    """How many predictions change on the pixels, at most of both directions, as the rest of a sentence."""
    directions = [mapping(x) for x in mapping(mapping(finding.get("pixels")).get("directions")).values()]
    pairs = [
        (flips, number(x.get("null_flips")))
        for x in directions
        if (flips := number(x.get("flips"))) is not None
    ]
    if not pairs:
        return "its output follows"
    flips, null = max(pairs, key=lambda pair: pair[0])
    return f"{percent(flips)} of its predictions flip ({percent(null)} in the null)"


def _label_itself(name: str, finding: JSON) -> str:
    against = texts(mapping(finding.get("samples")).get("doubtful_label"))
    which = f" of the {plural(len(against), 'sample')} that go against it" if against else ""
    return (
        f"Check the labels{which} first: {name} is another kind of image, in shape and in texture, and may "
        "be what the label should say, or where images come from. No shortcut is claimed."
    )


def on_pixels(finding: JSON) -> str:
    """The word of an intervention as a clause, ``"confirmed on the pixels"``; empty where there was none."""
    word = str(mapping(finding.get("pixels")).get("word") or "")
    return f"{word} on the pixels" if word else ""


def _explained(name: str, finding: JSON) -> str:
    beside = mapping(finding.get("beside"))
    others = listed(texts(beside.get("with"))) or "another concept"
    moved, limit = number(beside.get("effect")), number(mapping(finding.get("used")).get("threshold"))
    text = f"The output seems to depend on {name}, but what it depends on is {others}, which goes with it"
    if moved is None or limit is None:
        return f"{text}."
    return (
        f"{text}: with {others} held fixed, taking {name} out moves the output by {decimal(abs(moved))} "
        f"standard deviations only, below the threshold of {decimal(limit)}."
    )


def beside(finding: JSON) -> str:
    """What a used concept is beside those that it goes with; empty where the verdict says it already."""
    said = mapping(finding.get("beside"))
    clause = describe(said)
    if not clause or said.get("statement") == "explained by":
        return ""
    verb = "" if clause.startswith("cannot") else "is "
    return f"{finding['name']} {verb}{clause}."


def _encoded(name: str, finding: JSON) -> str:
    encoded, used = mapping(finding.get("encoded")), mapping(finding.get("used"))
    auroc, effect, limit = (
        number(encoded.get("auroc")),
        number(used.get("effect")),
        number(used.get("threshold")),
    )
    phrase = f"The network knows {name}" + (f" (AUROC {decimal(auroc)})" if auroc is not None else "")
    if effect is None or limit is None:
        return f"{phrase}, but the output was not found to depend on it."
    moved = f"taking it out moves the output by {decimal(abs(effect))} standard deviations"
    if abs(effect) >= limit:
        return f"{phrase}; {moved}, which cannot be told from no effect at this number of samples."
    return f"{phrase}, but {moved} only, below the threshold of {decimal(limit)}."


def _absent(name: str, finding: JSON) -> str:
    auroc = number(mapping(finding.get("encoded")).get("auroc"))
    best = f" (best AUROC {decimal(auroc)})" if auroc is not None else ""
    return f"No layer tells samples with {name} from the others better than chance{best}."


def _untestable(name: str, finding: JSON) -> str:
    reason = str(finding.get("reason") or "the audit gave no reason").rstrip(".")
    return f"Not tested: {reason}."


def where(finding: JSON, depths: Mapping[str, float]) -> str:
    """Where in the network a concept acts or, failing that, is best read."""
    weights = {
        k: w for k, v in mapping(finding.get("layers")).items() if (w := number(v)) is not None and w > 0
    }
    if weights:
        best = max(weights, key=lambda layer: weights[layer])
        return f"acts most at {best}{_depth(depths.get(best))}"
    layer = mapping(finding.get("encoded")).get("layer")
    if layer and finding.get("verdict") not in ("not encoded", "not testable"):
        return f"best read at {layer}{_depth(depths.get(layer))}"
    return ""


def _depth(depth: float | None) -> str:
    if depth is None:
        return ""
    return ", " + ("early" if depth < 1 / 3 else "middle" if depth < 2 / 3 else "late") + " in the network"


def cost(effect: JSON) -> Record | None:
    """AUROC points between samples that agree with the concept and those that do not.

    Returns
    -------
    dict or None
        ``points``, ``text``, ``interval_text``; None where robust or aligned AUROC is unknown.
    """
    gap = mapping(effect.get("auroc_gap"))
    value, ends = number(gap.get("value")), interval(gap.get("interval"))
    if value is None:
        robust, aligned = (
            number(mapping(effect.get(k)).get("value")) for k in ("robust_auroc", "aligned_auroc")
        )
        if robust is None or aligned is None:
            return None
        value = aligned - robust
    return {"points": 100 * value, "text": decimal(100 * value, 0), "interval_text": between(ends, 0, 100)}


def power_sentence(finding: JSON) -> str:
    """What the audit could have found of this concept, had it been there."""
    power, samples = mapping(finding.get("power")), mapping(finding.get("n_samples"))
    smallest = number(power.get("smallest_effect"))
    if smallest is None:
        return ""
    conflicting = number(samples.get("conflicting"))
    base = "" if conflicting is None else f" with {count(conflicting)} conflicting samples"
    return f"The smallest use that this audit finds in four of five cases{base} is {decimal(smallest)}."

"""Text for a methods section: how a run was made, in sentences with its own figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from shortcutscope.probes.crossfit import ProbeSettings
from shortcutscope.report import wording
from shortcutscope.report.run_files import mapping, number, texts
from shortcutscope.types import JSON

_BENJAMINI = (
    "Benjamini Y, Hochberg Y. Controlling the false discovery rate: a practical and powerful approach to "
    "multiple testing. J R Stat Soc B 1995; 57: 289-300."
)
_KNIJNENBURG = (
    "Knijnenburg TA, Wessels LFA, Reinders MJT, Shmulevich I. Fewer permutations, more accurate P-values. "
    "Bioinformatics 2009; 25: i161-i168."
)
_WINKLER = (
    "Winkler AM, Ridgway GR, Douaud G, Nichols TE, Smith SM. Faster permutation inference in brain imaging. "
    "NeuroImage 2016; 141: 502-516."
)
_KIM = (
    "Kim B, Wattenberg M, Gilmer J, et al. Interpretability beyond feature attribution: quantitative testing "
    "with concept activation vectors (TCAV). ICML 2018."
)
_HAUFE = (
    "Haufe S, Meinecke F, Goergen K, et al. On the interpretation of weight vectors of linear models in "
    "multivariate neuroimaging. NeuroImage 2014; 87: 96-110."
)
_BACH = (
    "Bach S, Binder A, Montavon G, et al. On pixel-wise explanations for non-linear classifier decisions by "
    "layer-wise relevance propagation. PLoS ONE 2015; 10(7): e0130140."
)
#: References to their numbers in the text.
Cite = Callable[..., str]
_KINDS = {2: "signals", 3: "images", 4: "volumes"}
#: Names of concepts, and of outputs, that a sentence holds.
_MOST_NAMED = 12


@dataclass(frozen=True)
class Methods:
    """Text for a methods section.

    Attributes
    ----------
    paragraphs
        Of complete sentences.
    references
        What is to be cited, in the order in which it is named.
    """

    paragraphs: tuple[str, ...]
    references: tuple[str, ...]

    def __str__(self) -> str:
        cited = "\n".join(f"{k}. {reference}" for k, reference in enumerate(self.references, 1))
        return "\n\n".join([*self.paragraphs, *(["References", cited] if cited else [])]) + "\n"


def methods_of(run: JSON, findings: Sequence[JSON], title: str) -> Methods:
    """What a run says of how it was made; what it does not hold, as those of earlier versions, is left out.

    Parameters
    ----------
    run
        ``run.json``.
    findings
        ``findings.json``.
    title
        What the report calls the model.
    """
    references: list[str] = []

    def cite(*several: str) -> str:
        for reference in several:
            if reference not in references:
                references.append(reference)
        return f"[{', '.join(str(1 + references.index(reference)) for reference in several)}]"

    written = (
        [*_material(run, title)],
        [*_network(run, cite)],
        [*_concepts(run, findings)],
        [*_encoding(run, cite)],
        [*_use(run, cite), *_cost(run, findings)],
        [*_software(run)],
    )
    return Methods(tuple(" ".join(sentences) for sentences in written if sentences), tuple(references))


def _noun(run: JSON) -> str:
    shape = mapping(run.get("identity")).get("image_shape") or ()
    return _KINDS.get(len(shape), "images")


def _material(run: JSON, title: str) -> Iterator[str]:
    """What was audited, on which samples."""
    model, data, noun = mapping(run.get("model")), mapping(run.get("data")), _noun(run)
    parameters = number(model.get("parameters"))
    described = [
        str(model.get("class") or ""),
        "" if parameters is None else f"{wording.count(parameters)} parameters",
    ]
    details = ", ".join(filter(None, described))
    version = f" (version {run['version']})" if run.get("version") else ""
    yield (
        f"The classifier {title}{f' ({details})' if details else ''} was audited for shortcut learning "
        f"with shortcutscope{version}."
    )
    patients, classes = number(data.get("n_groups")), texts(data.get("classes"))
    of = f" of {wording.count(patients)} patients" if patients is not None else ""
    labelled = f", labelled {wording.listed(classes)}" if 1 < len(classes) <= _MOST_NAMED else ""
    unseen = {
        "held-out": f" These {noun} had not been used to train it.",
        "training": f" It had been trained on these {noun}.",
    }.get(str(mapping(run.get("settings")).get("role")), "")
    yield f"The audit used {wording.count(data.get('n_samples'))} {noun}{of}{labelled}.{unseen}"
    if patients is None:
        yield f"Patients were not known, so that the {noun} were taken as independent of each other."
    skipped = len(data.get("skipped") or ())
    if skipped:
        yield f"{wording.plural(skipped, noun[:-1])} could not be read and {_was(skipped)} left out."
    outputs = [str(mapping(one).get("name")) for one in run.get("outputs") or ()]
    if outputs:
        named = f" ({wording.listed(outputs)})" if len(outputs) <= _MOST_NAMED + 2 else ""
        yield f"Each of the {len(outputs)} outputs{named} was audited with the label of its own."
    reached = {name: number(mapping(run.get("performance")).get(name)) for name in ("auroc", "accuracy")}
    if reached["auroc"] is not None and reached["accuracy"] is not None:
        yield (
            f"On the audited {noun} the classifier reached an AUROC of "
            f"{wording.decimal(reached['auroc'], 3)} and an accuracy of "
            f"{wording.decimal(reached['accuracy'], 3)}."
        )


def _network(run: JSON, cite: Cite) -> Iterator[str]:
    """How images went through it, and what was recorded."""
    layers = [str(mapping(layer).get("name")) for layer in run.get("layers") or ()]
    transform = mapping(run.get("data")).get("transform")
    if transform not in (None, "", "None"):
        yield f"Inputs were preprocessed by {transform}."
    if layers:
        ends = f" ({layers[0]} to {layers[-1]})" if len(layers) > 1 else f" ({layers[0]})"
        yield (
            f"Of {wording.plural(len(layers), 'layer')}{ends} the mean, maximum and standard deviation of "
            "each channel over the positions were recorded."
        )
    used = str(mapping(run.get("attribution")).get("used") or "")
    if used.startswith("lrp"):
        yield f"Relevance was computed by layer-wise relevance propagation {cite(_BACH)}."
    elif used == "gradient":
        yield "Relevance was computed as gradient times activation."


def _concepts(run: JSON, findings: Sequence[JSON]) -> Iterator[str]:
    """What was tested, and where it comes from."""
    if not findings:
        return
    names = list(dict.fromkeys(str(finding.get("name")) for finding in findings))
    listed = f": {wording.listed(names)}" if len(names) <= _MOST_NAMED else ""
    yield f"{wording.plural(len(names), 'concept').capitalize()} {_was(len(names))} examined{listed}."
    origins = {str(finding.get("name")): str(finding.get("origin")) for finding in findings}
    found = sum(origin == "discovered" for origin in origins.values())
    if found:
        yield (
            f"{found} of them {_was(found)} not named beforehand, but proposed by a search for groups of "
            "samples in activations, relevances and filters, which sees no metadata."
        )
    measured = sum(origin == "picture" for origin in origins.values())
    if measured:
        yield f"{measured} of them {_was(measured)} measured from the pixels."
    untested = sum(finding.get("verdict") == "not testable" for finding in findings)
    if untested:
        yield f"{untested} could not be tested on these samples."


def _was(n: int) -> str:
    return "was" if n == 1 else "were"


def _has_patients(run: JSON) -> bool:
    return number(mapping(run.get("data")).get("n_groups")) is not None


def _encoding(run: JSON, cite: Cite) -> Iterator[str]:
    """Probes and their null."""
    settings = mapping(run.get("settings"))
    permutations = number(settings.get("n_permutations"))
    level = number(mapping(settings.get("verdict")).get("level"))
    if permutations is None or level is None:
        return
    yield (
        "Whether a layer encodes a concept was tested by ridge probes on these statistics, centred within "
        f"the classes of the label and cross-fitted in {ProbeSettings.n_folds} folds by "
        f"{'patient' if _has_patients(run) else 'sample'}, and measured as the AUROC of the concept within "
        "classes."
    )
    yield (
        f"The null distribution came from {wording.count(permutations)} permutations of the concept within "
        "classes, with the maximum over the layers as the statistic and the tail extrapolated "
        f"{cite(_KNIJNENBURG, _WINKLER)}; a concept counted as encoded at q ≤ {level:g} by the procedure of "
        f"Benjamini and Hochberg over the concepts {cite(_BENJAMINI)}."
    )


def _use(run: JSON, cite: Cite) -> Iterator[str]:
    """How use is tested."""
    settings = mapping(run.get("settings"))
    level = number(mapping(settings.get("verdict")).get("level"))
    threshold = number(settings.get("use_threshold"))
    if threshold is None or level is None:
        return
    yield (
        "Whether the output depends on a concept was tested by projecting its direction out of the "
        f"activations, with a signal pattern {cite(_HAUFE)} and a filter fitted on the other half of the "
        "samples, and running the network on from there. The effect is the change of the logit in samples "
        "with the concept minus that in samples without, within classes, in standard deviations of the "
        f"logit; a concept counted as used at an absolute effect above {threshold:g} and p ≤ {level:g} at "
        f"the last recorded layer. Directional derivatives along concept activation vectors {cite(_KIM)} are "
        "reported beside it."
    )


def _cost(run: JSON, findings: Sequence[JSON]) -> Iterator[str]:
    """Association and cost, with the rule by which a concept is a shortcut."""
    settings = mapping(run.get("settings"))
    rule = mapping(settings.get("verdict"))
    level, phi = number(rule.get("level")), number(rule.get("smallest_phi"))
    if level is None or phi is None:
        return
    sources = {str(mapping(f.get("association")).get("source") or "") for f in findings} - {""}
    where = {"training split": "the training samples", "audited data": "the audited samples"}
    measured = wording.listed(sorted(where.get(source, f"an {source}") for source in sources))
    yield (
        f"Association with the label was measured as phi{f' in {measured}' if measured else ''}, and counted "
        f"at |phi| ≥ {phi:g} and q ≤ {level:g}. A concept that was encoded, used in the direction of its "
        "association, and associated was called a shortcut if its cost was not compatible with zero. Cost is "
        "the AUROC in samples whose concept agrees with the label minus that in samples whose concept "
        "contradicts it."
    )
    resamples, seed = number(settings.get("n_bootstrap")), number(settings.get("seed"))
    if resamples is not None:
        unit = "patients" if _has_patients(run) else "the samples"
        yield (
            f"Intervals are 95 % bootstrap intervals from {wording.count(resamples)} resamples of {unit}"
            + (f"; the random seed was {seed:.0f}." if seed is not None else ".")
        )


def _software(run: JSON) -> Iterator[str]:
    """Versions, device, and the fingerprint by which the network is known again."""
    named = {"python": "Python", "torch": "PyTorch", "numpy": "NumPy"}
    environment = mapping(run.get("environment"))
    left_out = ("interpreter", "platform")
    versions = [f"{named.get(str(k), k)} {v}" for k, v in environment.items() if v and k not in left_out]
    precision = {"fp32": "single precision", "bf16": "mixed precision (bfloat16)"}.get(
        str(mapping(run.get("inputs")).get("precision"))
    )
    if versions:
        yield f"Computations ran on {wording.listed(versions)}{f' in {precision}' if precision else ''}."
    fingerprint = mapping(run.get("model")).get("fingerprint")
    if fingerprint:
        yield (
            "The SHA-256 fingerprint of the network's architecture and weights begins with "
            f"{str(fingerprint)[:12]}."
        )

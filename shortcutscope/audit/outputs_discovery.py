"""Discovery as a stage of an audit of several labels: one search for all outputs, kept in the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shortcutscope.audit.context import Context
from shortcutscope.audit.discovery import (
    SAID,
    described,
    kept_search,
    named_already,
    search_depends,
    twin_under_test,
)
from shortcutscope.discover.outputs import OutputsDiscovery, discover_outputs
from shortcutscope.options import Running
from shortcutscope.probes.concept import Concept
from shortcutscope.types import JSON, Record


def discovered_at_outputs(
    whole: Context,
    outputs: Mapping[str, Context],
    concepts: Sequence[Concept],
    labels: Sequence[Concept],
    running: Running,
) -> dict[str, list[Concept]]:
    """Output to the concepts that nobody named and that its search proposed.

    A proposal is one concept at all outputs that it was found for. It is left to a concept that is tested
    anyway and names the same samples; to another output's label only if that is so at all of these outputs,
    since what goes with one label names much the same samples as that label at every other output.

    Parameters
    ----------
    whole
        What the outputs share; its run keeps the search, and each output's run what concerns it.
    outputs
        Label to its output's own.
    concepts, labels
        Tested at every output, and at every output but the label's own.
    running
        How images are read.
    """
    scan, seed = whole.scan, whole.settings.seed

    def searched() -> tuple[list[Concept], Record]:
        views = {name: context.scan for name, context in outputs.items()}
        search = discover_outputs(scan, whole.table, views, seed=seed, running=running)
        return [proposal.concept for proposal in search.proposals], _described(search)

    depends = {**search_depends(scan, seed), "outputs": list(outputs)}
    stored, proposed = kept_search(whole.run, scan, depends, searched)
    tested: dict[str, list[Concept]] = {name: [] for name in outputs}
    same: dict[str, dict[str, str]] = {name: {} for name in outputs}
    for proposal, concept in zip(stored["proposals"], proposed, strict=True):
        own = {name: outputs[name] for name in proposal["outputs"]}
        for name, other in _twins(concept, own, concepts, labels).items():
            if other is None:
                tested[name].append(concept)
            else:
                same[name][concept.name] = named_already(other)
    _note(whole, outputs, stored, same)
    return tested


def _twins(
    concept: Concept, own: Mapping[str, Context], concepts: Sequence[Concept], labels: Sequence[Concept]
) -> dict[str, Concept | None]:
    """Output to what is tested there in place of a proposal; None where it is tested itself."""
    named = [_twin(concept, concepts, context) for context in own.values()]
    first = next((other for other in named if other is not None), None)
    if first is not None:
        return dict.fromkeys(own, first)
    by_label = {
        name: _twin(concept, [other for other in labels if other.name != name], context)
        for name, context in own.items()
    }
    return by_label if all(by_label.values()) else dict.fromkeys(own)


def _twin(concept: Concept, others: Sequence[Concept], context: Context) -> Concept | None:
    """What is tested at an output anyway and names the samples of a proposal."""
    aligned = [context.aligned(other) for other in others]
    return twin_under_test(context.aligned(concept), aligned, context.labels, context.groups)


def _described(search: OutputsDiscovery) -> Record:
    proposals = [
        {
            **shared.strongest.to_dict(),
            "name": shared.name,
            "outputs": list(shared.outputs),
            "description": shared.concept.description,
        }
        for shared in search.proposals
    ]
    by_output = {name: described(one) for name, one in search.by_output.items()}
    notes = list(dict.fromkeys(note for one in search.by_output.values() for note in one.notes))
    return {
        "looked_at": search.looked_at,
        "proposals": proposals,
        "dropped": [],
        "notes": notes,
        "by_output": by_output,
    }


def _note(
    whole: Context, outputs: Mapping[str, Context], stored: JSON, same: Mapping[str, Mapping[str, str]]
) -> None:
    """Say in each run what was searched, and in that of all outputs what they share."""
    for name, context in outputs.items():
        own = stored["by_output"][name]
        context.run.update({"discovery": {**{key: own[key] for key in SAID}, "same": same[name]}})
    every = {}
    for proposal in stored["proposals"]:
        reasons = [same[name].get(proposal["name"]) for name in proposal["outputs"]]
        if all(reasons):
            every[proposal["name"]] = reasons[0]
    whole.run.update({"discovery": {**{key: stored[key] for key in SAID}, "same": every}})

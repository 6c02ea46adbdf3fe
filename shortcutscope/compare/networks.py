"""Which networks are compared: their names, the biased one of an audit, the same number of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from shortcutscope.attribution.attribute import attribute
from shortcutscope.audit.finding import FindingRecord
from shortcutscope.audit.naming import finding_named
from shortcutscope.audit.record import AuditRecord
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.student import Student
from shortcutscope.errors import InputError
from shortcutscope.files import slug
from shortcutscope.models.frozen import device_of, frozen
from shortcutscope.models.heads.head import Head
from shortcutscope.models.layers import find_layers
from shortcutscope.models.loading import model_fingerprint
from shortcutscope.models.outputs import find_scores
from shortcutscope.models.plain import require_plain
from shortcutscope.models.preflight import TRIED, preflight
from shortcutscope.probes.concept import Concept

#: Name of the biased network.
BEFORE = "before"


def check_networks(
    networks: Mapping[str, nn.Module],
    table: ImageTable,
    *,
    device: str | torch.device | None,
    head: Head,
    layers: Any = None,
    attribution: str | None = None,
) -> dict[str, Head]:
    """Run the first images through every network; how the scores of each are read.

    Parameters
    ----------
    head
        What is said of the scores of all of them.
    layers
        Those that every network must have; None where none are looked at.
    attribution
        Method that must work on them; None where no relevance is measured.

    Raises
    ------
    InputError
        Other numbers of classes, or too few for the labels; a layer or an attribution that does not exist.
    ModelError
        As `shortcutscope.models.preflight.preflight`.
    """
    x = torch.stack([table[i][0] for i in range(min(TRIED, len(table)))])
    labels = table.frame["label"].to_numpy()
    classes = {}
    for name, model in networks.items():
        require_plain(model)
        with frozen(model, device) as network, torch.inference_mode():
            scores = find_scores(network(x[:2].to(device_of(network))), head.part)
            classes[name] = max(2, scores.shape[1])
    if len(set(classes.values())) > 1:
        counts = ", ".join(f"{name!r} has {n}" for name, n in classes.items())
        raise InputError(
            f"the networks tell different numbers of classes apart: {counts}; give the same task"
        )
    heads = {}
    for name, model in networks.items():
        with frozen(model, device) as network:
            inputs = x.to(device_of(network))
            heads[name] = preflight(network, inputs, head, labels=labels, classes=table.classes).head
    highest = int(table.frame["label"].max())
    if heads[BEFORE].label is None and highest >= classes[BEFORE]:
        raise InputError(
            f"the table has label {highest}, but the networks have {classes[BEFORE]} classes "
            f"(0 to {classes[BEFORE] - 1}); map the labels to the networks' outputs"
        )
    for name, model in networks.items():
        with frozen(model, device) as network:
            inputs = x[:2].to(device_of(network))
            if layers is not None:
                find_layers(network, inputs, layers, output=heads[name])
            if attribution is not None:
                attribute(network, inputs, method=attribution, output=heads[name], check=False)
    return heads


#: What may be compared with the biased network.
After = nn.Module | Student | Mapping[str, nn.Module | Student] | Sequence[Student]


def named_networks(after: After) -> dict[str, nn.Module]:
    """The networks to compare by name; students by their recipe.

    Raises
    ------
    InputError
        None, a name that is taken, two that make the same folder, or something that is no network.
    """
    networks: Any = {"after": after} if isinstance(after, nn.Module) else after
    if isinstance(networks, Student):
        networks = [networks]
    if isinstance(networks, Sequence) and all(isinstance(student, Student) for student in networks):
        if len({student.recipe for student in networks}) < len(networks):
            raise InputError("two students are of the same recipe; give them as a mapping, with names")
        networks = {student.recipe: student for student in networks}
    if isinstance(networks, Mapping):
        networks = {
            k: network.model if isinstance(network, Student) else network for k, network in networks.items()
        }
    if not isinstance(networks, Mapping) or not networks:
        raise InputError(
            "after must be a network, a student, students, or a mapping from names to at least one of them"
        )
    names = [slug(str(name)) for name in (BEFORE, *networks)]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise InputError(
            f"the names {twice} stand for two networks; {BEFORE!r} is the biased one. Rename one"
        )
    for name, model in networks.items():
        if not isinstance(model, nn.Module):
            raise InputError(f"after[{name!r}] is {type(model).__name__}, not a torch.nn.Module")
    return {str(name): model for name, model in networks.items()}


def biased_network(
    before: nn.Module | AuditRecord, model: nn.Module | None, concept: str | Concept | None
) -> tuple[nn.Module, FindingRecord | None]:
    """The biased network, and the finding that its audit has on the concept.

    Raises
    ------
    InputError
        An audit without its network or with another one, or one that found no shortcut and no concept named.
    """
    if isinstance(before, nn.Module):
        if model is not None:
            raise InputError("before is a network already; model= goes with an audit")
        return before, None
    if not isinstance(before, AuditRecord):
        raise InputError(f"before is {type(before).__name__}; give the biased network or its Audit")
    before.require_one_output("a comparison")
    if model is None:
        raise InputError("before is an audit, which holds no network: give the audited network as model=")
    fingerprint = before.run.get("model", {}).get("fingerprint")
    if fingerprint != model_fingerprint(model):
        raise InputError(
            f"model= is not the network that was audited in {before.path}: its weights have another "
            "fingerprint. Give that one, or the network itself as before"
        )
    if isinstance(concept, Concept):
        return model, None
    if concept is None:
        if not before.shortcuts:
            raise InputError(
                f"the audit in {before.path} found no shortcut; name the concept with concept=..."
            )
        return model, before.shortcuts[0]
    return model, finding_named(concept, before.findings)

"""An audit of several labels: one scan, and below the run an ordinary run for each output.

The concepts are those that were asked for, and at each output the labels of all others: what "Effusion" tells
of the answer to "Pneumonia" beyond the disease is a shortcut like any other, off the network's target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from shortcutscope.audit.audited_data import AuditedData, ConceptRequest, resolve_concepts
from shortcutscope.audit.context import Context, ExamineSettings
from shortcutscope.audit.discovery import MOST_COLUMNS, screened_columns
from shortcutscope.audit.examination import Examination, Subject, examine_outputs, look_at, write_examination
from shortcutscope.audit.finding import FindingRecord, rank
from shortcutscope.audit.identity import keep_identity_of_output
from shortcutscope.audit.measured import MOST_MEASURED, screened_measured
from shortcutscope.audit.outputs_discovery import discovered_at_outputs
from shortcutscope.audit.provenance import not_measured, performance
from shortcutscope.audit.run_directory import RunDirectory
from shortcutscope.audit.subgroups import subgroups_of
from shortcutscope.data.manifests.labels import label_column, one_of
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.files import read_frame, slug
from shortcutscope.models.heads.head import Head
from shortcutscope.options import Running, Statistics
from shortcutscope.probes.concept import Concept
from shortcutscope.processes import from_main, is_main, wait
from shortcutscope.scan.choice import GRADIENT, NONE, AttributionChoice
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.scanner import Scan
from shortcutscope.scan.view import ONE_SCORE
from shortcutscope.types import Record

#: Folder of the outputs' runs, below the run, and the table of the names of files, where they are kept.
OUTPUTS, FILES = "outputs", "files.parquet"
#: Where the concept of another output's label comes from.
LABEL = "label"
#: Entries of ``run.json`` that the outputs' runs share with the run.
_SHARED = (
    "version", "command", "environment", "model", "seed", "device", "attribution", "memory_format",
    "layer_choice", "layers", "refused_columns",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class OutputData:
    """One label of an audited table.

    Attributes
    ----------
    name
        Of the label.
    audited
        The samples of which it is known, with it as their label; None where they cannot be audited.
    reason
        Why not, else None.
    known, positives
        Samples of which it is known, and those that have it.
    screen, measured
        Of the metadata, and of the columns that were measured, as JSON values; None where there was none.
    """

    name: str
    audited: AuditedData | None
    reason: str | None
    known: int
    positives: int
    screen: Record | None = None
    measured: Record | None = None


def several_head(head: Head, labels: Sequence[str]) -> Head:
    """The head with its ties for the labels of a table, to be settled on the model.

    Raises
    ------
    InputError
        A head of one label, or a tie of a label that there is not.
    """
    if head.label is not None:
        raise InputError(
            f"label={head.label!r} (--label-output) says which output one label is, and the table has "
            f"{len(labels)} ({', '.join(labels)}): say labels={{label: output}} (--outputs label=output), or "
            "open the table with that label alone"
        )
    ties = {one_of(name, labels): output for name, output in (head.labels or {}).items()}
    return replace(head, labels={name: ties.get(name) for name in labels})


def several_scanning(scanning: Scanning) -> Scanning:
    """How several outputs are scanned: without relevance, which is of one score a sample, unless of all.

    Raises
    ------
    InputError
        An attribution that none of the outputs would have.
    """
    if scanning.target != "predicted":
        return scanning
    if scanning.attribution != GRADIENT:
        raise InputError(
            f"attribution={scanning.attribution!r} explains one score a sample, and there are several "
            "labels: give target='every' (--target every), or audit one label"
        )
    return replace(scanning, relevance=False)


def attribution_of(scanned: Scan) -> AttributionChoice:
    """What the relevances of a scan of several labels are: mostly none."""
    if scanned.has_relevance or scanned.attribution.used == NONE:
        return scanned.attribution
    return AttributionChoice(GRADIENT, NONE, ONE_SCORE)


def refuse_unfit(statistics: Statistics, associations: object) -> None:
    """Refuse what an audit of several labels cannot do.

    Raises
    ------
    InputError
        Says what does it.
    """
    if statistics.positive not in (None, 1):
        raise InputError(
            f"positive={statistics.positive}: with several labels effects refer to having each; leave it out"
        )
    if associations:
        raise InputError(
            "associations of an earlier audit are those with one label: audit that label alone, or give the "
            "training table"
        )


def outputs_of(audited: AuditedData, before: Sequence[OutputData] = ()) -> list[OutputData]:
    """The labels of a table one by one.

    Parameters
    ----------
    before
        The same of the table before its images were read, whose screens are kept.

    Raises
    ------
    InputError
        When none of them can be audited, or the training table lacks one.
    """
    reference = audited.reference
    lacking = [] if reference is None else [x for x in audited.table.labels if x not in reference.labels]
    if lacking:
        raise InputError(
            f"the training samples lack the labels {', '.join(lacking)}: open their table with the same "
            "label= as the audited one"
        )
    screens = {output.name: (output.screen, output.measured) for output in before}
    outputs = []
    for name in audited.table.labels:
        screen, measured = screens.get(name, (None, None))
        outputs.append(replace(_output(audited, name), screen=screen, measured=measured))
    if all(output.audited is None for output in outputs):
        reasons = "; ".join(f"{output.name}: {output.reason}" for output in outputs)
        raise InputError(
            f"none of the labels can be audited ({reasons}): an audit needs samples of both kinds"
        )
    return outputs


def _output(audited: AuditedData, name: str) -> OutputData:
    values = audited.table.frame[label_column(name)]
    known, positives = int(values.notna().sum()), int((values == 1).sum())
    if not 0 < positives < known:
        what = "known of no audited sample" if not known else f"{int(positives > 0)} in all that know it"
        return OutputData(name, None, f"it is {what}", known, positives)
    reference, texts = audited.reference, list(audited.assumptions)
    if reference is not None and reference.frame[label_column(name)].nunique() < 2:
        reference = None
        texts.append(
            f"the training samples do not say which have {name}: its associations are those in the audited "
            "data"
        )
    own = replace(
        audited,
        table=audited.table.for_label(name),
        reference=None if reference is None else reference.for_label(name),
        assumptions=(*texts, *audited.table.label_notes_of(name)),
    )
    return OutputData(name, own, None, known, positives)


def named_concepts(
    audited: AuditedData, outputs: Sequence[OutputData], request: ConceptRequest, *, seed: int
) -> tuple[list[Concept], dict[str, str], list[OutputData]]:
    """The concepts that are tested at every output, beside the labels of the others.

    Parameters
    ----------
    audited
        All samples.
    outputs
        The labels.
    request
        What is asked for; labels among it are tested anyway.
    seed
        Of the screen of the metadata.

    Returns
    -------
    concepts
        None of them a label.
    refused
        Column to the reason why it is no concept, of those that nobody asked for by name.
    outputs
        With the screen of the metadata, where no concepts are named.
    """
    labels = audited.table.labels
    columns: list[str] = []
    unlikely: dict[str, str] = {}
    if request.concepts is None:
        columns, unlikely, outputs = _screened(audited.table, outputs, seed)
    elif not isinstance(request.concepts, Concept):
        concept_names = [request.concepts] if isinstance(request.concepts, str) else request.concepts
        request = replace(
            request, concepts=[x for x in concept_names if isinstance(x, Concept) or x not in labels]
        )
    concepts, refused = resolve_concepts(audited, request, columns=columns, may_be_none=len(labels) > 1)
    clash = sorted({slug(concept.name) for concept in concepts} & {slug(name) for name in labels})
    if clash:
        raise InputError(f"a concept and a label are both called {clash[0]!r}; rename the concept")
    return concepts, unlikely | refused, list(outputs)


def _screened(
    table: ImageTable, outputs: Sequence[OutputData], seed: int
) -> tuple[list[str], dict[str, str], list[OutputData]]:
    """Metadata columns to test: of too many, those that are associated most with one label or another."""
    screened: list[OutputData] = []
    columns: list[list[str]] = []
    refused: dict[str, str] = {}
    for output in outputs:
        if output.audited is None:
            screened.append(output)
            continue
        own = replace(output.audited, table=_without_labels(output.audited.table, table))
        likely, reasons, screen = screened_columns(own, seed=seed)
        columns.append(likely)
        refused |= reasons
        screened.append(replace(output, screen=None if screen is None else screen.to_dict()))
    selection = _in_turn(columns, MOST_COLUMNS)
    others_refused = {name: reason for name, reason in refused.items() if name not in selection}
    return [name for name in table.metadata if name in selection], others_refused, screened


def screened_measured_outputs(
    outputs: Sequence[OutputData], *, seed: int
) -> tuple[list[str], dict[str, str], list[OutputData]]:
    """Measured columns to test, those of `shortcutscope.audit.measured.screened_measured` of all labels."""
    columns: list[list[str]] = []
    refused: dict[str, str] = {}
    screened = []
    for output in outputs:
        if output.audited is not None:
            own, reasons, screen = screened_measured(output.audited, seed=seed)
            columns.append(own)
            refused |= reasons
            output = replace(output, measured=None if screen is None else screen.to_dict())
        screened.append(output)
    selection = _in_turn(columns, MOST_MEASURED)
    return selection, {name: why for name, why in refused.items() if name not in selection}, screened


def _in_turn(columns: Sequence[Sequence[str]], most: int) -> list[str]:
    """The columns of all labels, each label's first before any label's second."""
    in_turn = [column for some in zip_longest(*columns) for column in some if column]
    return list(dict.fromkeys(in_turn))[:most]


def _without_labels(own: ImageTable, table: ImageTable) -> ImageTable:
    """The samples of one label without the columns of the others."""
    others = [
        column for name in table.labels if (column := label_column(name)) in own.frame and column != "label"
    ]
    return own.replaced(frame=own.frame.drop(columns=others))


def label_concepts(audited: AuditedData) -> list[Concept]:
    """The labels as concepts, over audited and training samples."""
    frames = [audited.table.frame] + ([] if audited.reference is None else [audited.reference.frame])
    frame = pd.concat(frames, ignore_index=True).drop_duplicates("sample_id")
    return [_label_concept(frame, name) for name in audited.table.labels]


def _label_concept(frame: pd.DataFrame, name: str) -> Concept:
    text = f"another label of the samples: those that have {name} against those that do not"
    column = label_column(name)
    if set(frame[column].dropna().unique()) == {0.0, 1.0}:
        try:
            (concept,) = Concept.from_column(frame, column, min_carriers=1, origin=LABEL, present=1)
            return replace(concept, name=name, description=text)
        except (InputError, ValueError):
            pass  # it is not testable, which is said where it is tested
    return Concept(name, frame[column].to_numpy(np.float64), LABEL, frame["sample_id"].to_numpy(), text)


def audit_outputs(
    model: nn.Module,
    scan: Scan,
    run: RunDirectory,
    outputs: Sequence[OutputData],
    concepts: Sequence[Concept],
    searching: Running | None,
    audited: AuditedData,
    settings: ExamineSettings,
) -> None:
    """Examine all outputs of a scan, and write their runs and what they say together.

    Parameters
    ----------
    model
        Frozen.
    scan
        Of all outputs.
    run
        Of all outputs.
    outputs
        The labels.
    concepts
        Tested at every output, beside the labels of the others.
    searching
        How images are read to look for what nobody named; None for no search.
    audited
        All samples.
    settings
        With the head of all outputs.
    """
    whole = Context.of(model, scan, audited.table, audited, run, settings)
    head = settings.output
    assert isinstance(head, Head)
    with_data = [output for output in outputs if output.audited is not None]
    runs = [_own_run(run, output, head.of_label(output.name)) for output in with_data]
    wait("outputs opened")  # all are looked at before anything is written into one
    contexts = {
        output.name: _context(whole, output, head.of_label(output.name), own_run)
        for output, own_run in zip(with_data, runs, strict=True)
    }
    subjects = _subjects(whole, contexts, concepts, label_concepts(audited), searching)
    examined = [
        replace(one, findings=[_named(f, output.name) for f in one.findings])
        for output, one in zip(with_data, examine_outputs(whole, subjects), strict=True)
    ]
    examined = look_at(examined, [subject.context.scan for subject in subjects], whole)
    for subject, one in zip(subjects, examined, strict=True):
        own = subject.context
        with run.stage("subgroups"):
            subgroups = subgroups_of(
                own.scan, subject.concepts, one.findings, own.table.classes, own.settings
            )
        own.run.record["stages"] = run.record["stages"]
        write_examination(own.run, one, subgroups)
    _write_together(run, outputs, head, subjects, examined)


def _subjects(
    whole: Context,
    contexts: Mapping[str, Context],
    concepts: Sequence[Concept],
    labels: Sequence[Concept],
    searching: Running | None,
) -> list[Subject]:
    """Each output with its concepts: those of all, what was found for it, and the labels of the others."""
    discovered: dict[str, list[Concept]] = {}
    if searching is not None:
        with whole.run.stage("discover"):
            discovered = from_main(
                lambda: discovered_at_outputs(whole, contexts, concepts, labels, searching), "discover"
            )
    return [
        Subject(context, [*concepts, *discovered.get(name, ()), *(c for c in labels if c.name != name)])
        for name, context in contexts.items()
    ]


def _own_run(run: RunDirectory, output: OutputData, head: Head) -> RunDirectory:
    """The run of one output, refused where its folder holds another."""
    assert output.audited is not None
    own_inputs = {
        "data": output.audited.table.fingerprint(),
        "task": head.task,
        "head": head.to_json(),
        "label": output.name,
    }
    return RunDirectory(output_folder(run.path, output.name), {**run.record["inputs"], **own_inputs})


def _context(whole: Context, output: OutputData, head: Head, own: RunDirectory) -> Context:
    """What the measurements of one output share, with a run of its own."""
    audited, run = output.audited, whole.run
    assert audited is not None
    table = audited.table
    settings = replace(whole.settings, output=head)
    own.update({key: run.record[key] for key in _SHARED if key in run.record})
    view = whole.scan.output(own.path / "scan", label_column(output.name), head)
    if is_main():
        keep_identity_of_output(run, own, table, audited.reference)
    if (run.path / FILES).exists():
        files = read_frame(run.path / FILES)
        own.write_frame(FILES, files[files["sample_id"].isin(set(table.frame["sample_id"]))])
    data = {
        **run.record["data"],
        "fingerprint": table.fingerprint(),
        "n_samples": len(table),
        "n_groups": int(table.frame["group"].nunique()) if table.has_groups else None,
        "classes": list(table.classes or ()),
    }
    own.update(
        {
            "output": output.name,
            "head": head.to_json(),
            "data": data,
            "warnings": run.record["warnings"],
            "assumptions": list(audited.assumptions),
            "attribution": view.attribution.to_json(),
            "not_measured": {**not_measured(view), **_not_measured_elsewhere()},
            "performance": performance(view),
            "settings": settings.to_dict(audited.role),
            **({} if output.screen is None else {"metadata": output.screen}),
            **({} if output.measured is None else {"measured": output.measured}),
        }
    )
    rows = None
    if audited.reference is not None and whole.audited.reference is not None:
        labels = whole.audited.reference.frame[label_column(output.name)]
        rows = np.flatnonzero(labels.notna())
    return whole.of_output(view, table, audited, own, settings, rows)


def _not_measured_elsewhere() -> dict[str, str]:
    return {
        "galleries of concepts that this output does not use": "there are several outputs",
        "availability, extent and rank within the classes of this label": (
            "they are measured once, within the classes of the label that the concept is associated with most"
        ),
    }


def _named(finding: FindingRecord, output: str) -> FindingRecord:
    reason = finding.reason
    if finding.origin == LABEL:
        reason = f"off-target, {finding.name} is another output's label: {reason}"
    return replace(finding, output=output, reason=reason)


def _write_together(
    run: RunDirectory,
    outputs: Sequence[OutputData],
    head: Head,
    subjects: Sequence[Subject],
    examined: Sequence[Examination],
) -> None:
    """Write what all outputs say into the run, the findings last."""
    runs = {x.context.run.record["output"]: x.context.run for x in subjects}
    entries = []
    for output in outputs:
        own = runs.get(output.name)
        entries.append(
            {
                "name": output.name,
                "output": None if head.labels is None else head.labels[output.name],
                "folder": None if own is None else own.path.relative_to(run.path).as_posix(),
                "known": output.known,
                "positives": output.positives,
                "not_audited": output.reason,
                "performance": {} if own is None else own.record["performance"],
            }
        )
    profiles = [
        one.profile.assign(output=name)[["output", *one.profile.columns]]
        for name, one in zip(runs, examined, strict=True)
    ]
    run.write_frame("profile.parquet", pd.concat(profiles, ignore_index=True))
    run.update({"outputs": entries})
    findings = rank([finding for one in examined for finding in one.findings])
    run.finish([finding.to_dict() for finding in findings])


def output_folder(run: Path, name: str) -> Path:
    """Where the run of an output lies."""
    return run / OUTPUTS / slug(name)


def refuse_same_folders(labels: Sequence[str]) -> None:
    """Refuse labels that make the same folder name.

    Raises
    ------
    InputError
        Names them.
    """
    by_folder: dict[str, str] = {}
    for name in labels:
        other = by_folder.setdefault(slug(name), name)
        if other != name:
            raise InputError(f"the labels {other!r} and {name!r} make the same folder name; rename one")

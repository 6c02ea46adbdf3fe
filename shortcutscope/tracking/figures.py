"""What a tracker is told of an audit: numbers and words by name."""

from __future__ import annotations

import re
from collections.abc import Iterable

from shortcutscope.audit.record import AuditRecord
from shortcutscope.record.content import RunFigure, content_of

#: What MLflow takes in a name, which the others take, too.
_REFUSED = re.compile(r"[^\w\-. /]", re.ASCII)


def figures_of(audit: AuditRecord, prefix: str = "shortcuts") -> dict[str, float]:
    """Figures of an audit by name, as ``findings.json`` and ``run.json`` have them.

    Parameters
    ----------
    audit
        A finished audit.
    prefix
        What all names begin with.

    Returns
    -------
    dict
        ``<prefix>/found`` and ``<prefix>/undecided`` (counts), ``<prefix>/auroc`` and others of all samples,
        ``<prefix>/<concept>/robust_auroc`` and others of each concept, with ``_low`` and ``_high``.
    """
    content = content_of(audit)
    values = {
        f"{prefix}/found": float(sum(line.failed for line in content.concepts)),
        f"{prefix}/undecided": float(len(content.undecided)),
    }
    for figure in content.figures:
        if figure.part is None or figure.part in audit.outputs:
            values.update(_named(figure, "/".join(filter(None, (prefix, figure.part)))))
    for line, name in zip(content.concepts, _distinct(line.name for line in content.concepts), strict=True):
        for figure in line.figures:
            values.update(_named(figure, f"{prefix}/{name}"))
    return {_REFUSED.sub("_", name): value for name, value in values.items()}


def words_of(audit: AuditRecord, prefix: str = "shortcuts") -> dict[str, str]:
    """Verdicts by name, what the audit says as a whole (``outcome``), and the fingerprint of the model."""
    content = content_of(audit)
    names = _distinct(line.name for line in content.concepts)
    words = {f"{prefix}.outcome": content.headline, f"{prefix}.model": content.fingerprint}
    words |= {f"{prefix}.{name}": line.verdict for line, name in zip(content.concepts, names, strict=True)}
    return {_REFUSED.sub("_", name): word for name, word in words.items() if word}


def _named(figure: RunFigure, where: str) -> dict[str, float]:
    values = {f"{where}/{figure.name}": figure.value}
    if figure.low is not None and figure.high is not None:
        values |= {f"{where}/{figure.name}_low": figure.low, f"{where}/{figure.name}_high": figure.high}
    return values


def _distinct(names: Iterable[str]) -> list[str]:
    """Names as trackers take them; those that become alike are numbered."""
    taken: list[str] = []
    for name in (_REFUSED.sub("_", name) for name in names):
        number = 1 + sum(other == name or other.startswith(f"{name}_no") for other in taken)
        taken.append(name if number == 1 else f"{name}_no{number}")
    return taken

"""A run as JUnit's XML: a test a concept, which pipelines show as they show any test."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from shortcutscope.record.content import RunContent

#: What XML 1.0 cannot hold, in whatever name.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(content: RunContent) -> str:
    """Write a shortcut as a failure, what was not tested as skipped with the reason, the rest as passed.

    What could not be decided of the audit as a whole is a skipped test of its own.
    """
    concepts = content.concepts
    undecided = content.undecided or (() if concepts else ("no concept was tested",))
    suite = ElementTree.Element(
        "testsuite",
        name=_text(f"shortcuts of {content.model}"),
        tests=str(len(concepts) + len(undecided)),
        failures=str(sum(line.failed for line in concepts)),
        errors="0",
        skipped=str(sum(line.skipped for line in concepts) + len(undecided)),
    )
    _properties(suite, {"model": content.fingerprint, "run": content.digest, "version": content.version})
    for line in concepts:
        case = ElementTree.SubElement(suite, "testcase", classname="shortcuts", name=_text(line.name))
        figures = {}
        for figure in line.figures:
            figures[figure.name] = repr(figure.value)
            if figure.low is not None:
                figures |= {f"{figure.name}_low": repr(figure.low), f"{figure.name}_high": repr(figure.high)}
        _properties(case, {"verdict": line.verdict, **figures})
        if line.failed:
            failure = ElementTree.SubElement(case, "failure", type="shortcut", message=_text(line.sentence))
            failure.text = _text(line.reason)
        elif line.skipped:
            ElementTree.SubElement(case, "skipped", message=_text(line.reason))
    for text in undecided:
        case = ElementTree.SubElement(suite, "testcase", classname="shortcuts", name="audit")
        ElementTree.SubElement(case, "skipped", message=_text(text))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _properties(element: ElementTree.Element, values: dict[str, str | None]) -> None:
    listing = ElementTree.SubElement(element, "properties")
    for name, value in values.items():
        if value:
            ElementTree.SubElement(listing, "property", name=name, value=_text(value))


def _text(value: str) -> str:
    return _FORBIDDEN.sub("\ufffd", value)

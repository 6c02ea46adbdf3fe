"""A run as JUnit's XML: a test a concept, which pipelines show as they show any test."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree

from shortcutscope.record.content import RunContent
from shortcutscope.record.outcomes import outcomes

#: What XML 1.0 cannot hold, in whatever name.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(content: RunContent) -> str:
    """Write a shortcut as a failure, what was not tested as skipped with the reason, the rest as passed.

    What could not be decided of the audit as a whole is a skipped test of its own.
    """
    tests = outcomes(content)
    suite = ElementTree.Element(
        "testsuite",
        name=_text(f"shortcuts of {content.model}"),
        tests=str(len(tests)),
        failures=str(sum(test.state == "failed" for test in tests)),
        errors="0",
        skipped=str(sum(test.state == "skipped" for test in tests)),
    )
    _properties(suite, {"model": content.fingerprint, "run": content.digest, "version": content.version})
    for test in tests:
        case = ElementTree.SubElement(suite, "testcase", classname="shortcuts", name=_text(test.name))
        if test.properties:
            _properties(case, dict(test.properties))
        if test.state == "failed":
            failure = ElementTree.SubElement(case, "failure", type="shortcut", message=_text(test.message))
            failure.text = _text(test.detail)
        elif test.state == "skipped":
            ElementTree.SubElement(case, "skipped", message=_text(test.message))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _properties(element: ElementTree.Element, values: Mapping[str, str | None]) -> None:
    listing = ElementTree.SubElement(element, "properties")
    for name, value in values.items():
        if value:
            ElementTree.SubElement(listing, "property", name=name, value=_text(value))


def _text(value: str) -> str:
    return _FORBIDDEN.sub("\ufffd", value)

"""The formats of records by name: adding one is a file, a line here, and a test."""

from __future__ import annotations

from collections.abc import Callable

from shortcutscope.record.content import RunContent
from shortcutscope.registry import Entry, Registry

_HERE = "shortcutscope.record"

#: Formats by name; each is called with the content of a run and gives the text of a file.
FORMATS = Registry[Callable[[RunContent], str]](
    "record format",
    "shortcutscope.record_formats",
    {
        "junit": Entry(f"{_HERE}.junit:junit", "JUnit's XML, a test a concept"),
        "cyclonedx": Entry(f"{_HERE}.cyclonedx:cyclonedx", "CycloneDX 1.6, the model with its model card"),
        "modelcard": Entry(f"{_HERE}.markdown:modelcard", "a section of a model card, in Markdown"),
        "huggingface": Entry(f"{_HERE}.huggingface:huggingface", "the same with Hugging Face's metadata"),
        "fda": Entry(f"{_HERE}.fda:fda", "CSV of subgroups for the FDA's bias.myti.Report"),
        "methods": Entry(f"{_HERE}.markdown:methods", "text for a methods section, with references"),
        "markdown": Entry(f"{_HERE}.markdown:hazards", "limitations and hazards for a risk file"),
    },
)

"""What a run holds is what its published schemas say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from shortcutscope.audit.run_directory import RUN_FORMAT
from shortcutscope.probes.verdict import Verdict

SCHEMAS = Path(__file__).parents[2] / "docs" / "schema"


def schema(name):
    return json.loads((SCHEMAS / f"{name}.schema.json").read_text())


@pytest.mark.parametrize("name", ["findings", "run"])
def test_a_run_is_as_its_schema_says(finished_run, name):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema(name))
    validator = jsonschema.Draft202012Validator(schema(name))
    content = json.loads((finished_run / f"{name}.json").read_text())
    if name == "run":
        content["format"] = RUN_FORMAT
    assert [error.message for error in validator.iter_errors(content)] == []
    broken = content[0] if name == "findings" else content
    broken.pop("verdict" if name == "findings" else "model")
    assert len(list(validator.iter_errors(content))) == 1


def test_the_schemas_know_the_format_and_the_verdicts():
    assert schema("run")["properties"]["format"] == {"const": RUN_FORMAT}
    assert set(schema("findings")["items"]["properties"]["verdict"]["enum"]) == set(get_args(Verdict))

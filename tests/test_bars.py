"""Bars of progress obey `progress=`."""

import ast
from pathlib import Path

import pytest

import shortcutscope

SOURCES = sorted(Path(shortcutscope.__file__).parent.rglob("*.py"))


def calls(path, name):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name:
            yield node


@pytest.mark.parametrize("path", [p for p in SOURCES if "tqdm" in p.read_text(encoding="utf-8")], ids=str)
def test_s8_every_bar_can_be_turned_off(path):
    for call in calls(path, "tqdm"):
        off = [ast.unparse(k.value) for k in call.keywords if k.arg == "disable"]
        assert off, f"{path}:{call.lineno} shows a bar in any case"
        assert "progress" in off[0] or off[0] == "not visible"

"""A protocol runs its cases, keeps what came out, and says which claims hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from shortcutscope.benchmarks.papers.protocol import NOT_FOUND, Claim, Protocol, reproduce
from shortcutscope.benchmarks.runner import Settings, Suite
from shortcutscope.errors import InputError


def run_case(case: dict[str, Any], settings: Settings) -> dict[str, Any]:
    return {"accuracy": 0.9 - 0.1 * case["number"]}


def claims(cases: Sequence[dict[str, Any]]) -> list[Claim]:
    best = max(case["accuracy"] for case in cases)
    return [
        Claim("the first is right", ".95 (table 1)", f"{best:.2f}", best > 0.8),
        Claim("the last is wrong", NOT_FOUND, "", None),
    ]


def refuse(root: Path) -> None:
    if not (root / "data.csv").exists():
        raise InputError(f"{root} holds no data.csv")


def protocol() -> Protocol:
    suite = Suite(
        name="example",
        cases=lambda settings: [{"number": n} for n in range(2)],
        run_case=run_case,
        summarize=lambda cases: {"n": len(cases)},
        columns=("number", "accuracy"),
        command="reproduce",
        draw=lambda cases: Figure(),
    )
    return Protocol(suite, "Somebody 2020", "phantoms", claims, refuse)


def settings(tmp_path: Path, data: Path | None = None) -> Settings:
    return Settings(False, 0, data, tmp_path / "cache", 1)


def test_cases_claims_and_a_figure_are_kept(tmp_path: Path) -> None:
    console = Console(record=True, width=140)
    result = reproduce(protocol(), settings(tmp_path), tmp_path / "out", console=console)
    kept = json.loads((tmp_path / "out" / "result.json").read_text())
    assert kept["cases"] == result["cases"]
    assert [claim["holds"] for claim in kept["claims"]] == [True, None]
    assert kept["paper"] == "Somebody 2020"
    assert (tmp_path / "out" / "figure.png").read_bytes().startswith(b"\x89PNG")
    shown = console.export_text()
    assert "reproduce example" in shown
    assert "not measured" in shown


def test_a_folder_without_the_data_is_refused_before_any_case(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no data\.csv"):
        reproduce(protocol(), settings(tmp_path, tmp_path), tmp_path / "out")
    assert not (tmp_path / "cache").exists()

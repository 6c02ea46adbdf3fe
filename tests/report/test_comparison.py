"""The page of a comparison: what it says, what stands first, and that it loads nothing."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from shortcutscope.compare.estimate import Estimate, not_measurable, paired_rows
from shortcutscope.compare.result import tidy
from shortcutscope.errors import InputError
from shortcutscope.facade import Comparison
from shortcutscope.report.comparison import _headline as headline
from shortcutscope.report.comparison import (
    render_comparison,
    signed,
    summarize_comparison,
    write_comparison,
)

LAYERS = ("stem", "layer1", "layer2")
NASTY = "<b>tag</b> $x$"


def estimates(shift: float, layers: tuple[str, ...] = LAYERS) -> list[Estimate]:
    """Metrics of one network; `shift` 0 is the biased one."""
    rng = np.random.default_rng(0)

    def one(part, metric, goal, value, detail="", note=""):
        return Estimate(part, metric, goal, value, value + 0.02 * rng.standard_normal(60), detail, note)

    made = [
        one("concept", "balanced_auroc", "high", 0.7 + shift),
        one("concept", "robust_auroc", "high", 0.2 + 2 * shift),
        one("concept", "aligned_auroc", "high", 0.99 - shift),
        one("concept", "delta_tpr", "zero", 0.6 - 2 * shift),
        one("overall", "ece", "low", 0.1),
        one("group", "accuracy", "high", 0.9 - shift, f"class 1, with {NASTY}"),
        one("subgroup", "accuracy", "high", 0.8, "with sex=F"),
        not_measurable("twins", "flip_rate", "there are no twins"),
    ]
    for k, layer in enumerate(layers):
        made.append(one("layer", "availability", None, 0.9, layer))
        made.append(one("layer", "use", "zero", 0.5 * k - 2 * shift * k, layer))
    return made


def comparison(names=("retrained",), layers: tuple[str, ...] = LAYERS) -> Comparison:
    rows, networks = [], []
    first = {e.key: e for e in estimates(0)}
    for name in ("before", *names):
        new = name != "before"
        own = layers if new else LAYERS
        renamed = dict(zip(own, LAYERS, strict=True)) if len(own) == len(LAYERS) else {}
        rows += paired_rows(name, "data", estimates(0.15 * new, own), first if new else None, renamed)
        blank = dict.fromkeys(("value", "low", "high", "change", "change_low", "change_high"), np.nan)
        rows.append(
            {"network": name, "table": "data", "metric": "verdict", **blank, "better": new or None,
             "part": "verdict", "detail": NASTY,
             "note": "shortcut → encoded, not used" if new else "shortcut"}
        )  # fmt: skip
        networks.append(
            {
                "name": name, "class": "Net", "fingerprint": "0", "parameters": 10,
                "verdict": "encoded, not used" if new else "shortcut", "reason": "", "extent": "localized",
                "layers": [
                    {"name": n, "depth": k / 3, "before": renamed.get(n)} for k, n in enumerate(own)
                ] if new else [{"name": n, "depth": k / 3, "before": n} for k, n in enumerate(own)],
            }
        )  # fmt: skip
    tables = ({"name": "data", "n_samples": 100, "n_groups": 50, "unknown": 0, "groups": {}},)
    settings = {
        "positive": 1, "positive_name": "class 1", "against": False, "main": "data", "n_bootstrap": 60,
    }  # fmt: skip
    return Comparison(NASTY, tidy(rows), tuple(networks), tables, settings, ("a note",))


def test_what_got_worse_comes_first_on_the_page():
    made = comparison()
    page = render_comparison(made)
    assert page.index('data-test="worse"') < page.index('data-test="networks"') < page.index("<figure")
    report = summarize_comparison(made)
    assert {(r["metric"], r["judgement"]) for r in report["worse"]} == {
        ("aligned_auroc", "worse"), ("accuracy", "worse"),
    }  # fmt: skip
    assert report["worse"][0]["before_text"] == "0.990"
    assert report["worse"][0]["change_text"] == "−0.150"
    assert "2 of 10 tested changes are for the worse." in report["headline"]
    assert "no shortcut of retrained any more" in report["headline"]


def test_that_nothing_got_worse_is_said():
    made = comparison()
    kept = made.frame[made.frame["better"].ne(False)]
    page = render_comparison(Comparison(made.concept, kept, made.networks, made.tables, made.settings))
    assert "Nothing got worse" in page
    assert "What was not measured may still be worse" in page


def test_the_page_loads_nothing_and_names_are_text(tmp_path):
    path = write_comparison(comparison(), tmp_path / "after.html")
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "default-src 'none'" in page
    links = [u for u in re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?([^"\')\s>]+)', page) if u[:1] != "#"]
    assert all(link.startswith("data:") for link in links), links
    assert "<b>tag" not in page
    assert "&lt;b&gt;tag&lt;/b&gt; $x$" in page
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_a_notebook_shows_it_isolated_and_renders_it_once():
    made = comparison()
    shown = made._repr_html_()
    assert shown.startswith('<div class="ss-host"')
    assert "<html" not in shown
    assert made._repr_html_() is shown


def test_what_was_not_measured_is_listed_with_its_reason():
    report = summarize_comparison(comparison())
    assert report["missing"] == [{"what": "Flip rate on twins (data)", "why": "there are no twins"}]
    assert "Flip rate on twins" not in [c["label"] for c in report["overview"]["columns"]]


def test_use_at_the_decision_layer_stands_in_the_table_of_networks():
    report = summarize_comparison(comparison())
    assert report["overview"]["columns"][-1]["label"] == "Use U"
    assert [line["cells"][-1]["detail"] for line in report["overview"]["lines"]] == ["layer2", "layer2"]
    assert report["overview"]["lines"][1]["cells"][-1]["judgement"] == "better"


@pytest.mark.parametrize("layers", [tuple(f"model.{n}" for n in LAYERS), ("conv1", "head")])
def test_networks_with_other_layers_are_drawn(layers):
    made = comparison(names=("wrapped", "another"), layers=layers)
    report = summarize_comparison(made)
    assert [network["same"] for network in report["layers"]] == [len(layers) == 3] * 2
    assert render_comparison(made).count('data-test="layers-figure"') == 2


def test_signs():
    assert [signed(v) for v in (0.1, -0.1, 0.0, 1e-9, None)] == ["+0.100", "−0.100", "0.000", "0.000", "–"]


def test_it_draws_a_metric_of_every_network():
    made = comparison()
    axes = made.plot("robust_auroc").axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == [n["name"] for n in made.networks]
    with pytest.raises(
        InputError, match=r"'nothing' was not measured on 'data'; measured were .*robust_auroc on"
    ):
        made.plot("nothing")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_rule_of_axe_is_broken(browser, tmp_path, scheme):
    pytest.importorskip("axe_playwright_python", reason="axe is not installed")
    from axe_rules import broken_rules

    assert broken_rules(browser, write_comparison(comparison(), tmp_path / "after.html"), scheme)[0] == []


def test_the_headline_says_first_what_follows_the_concept_on_the_pixels():
    networks = [
        {"name": "before", "verdict": "encoded and used, a picture property"},
        {"name": "student", "verdict": "encoded and used, not associated"},
    ]
    compared = SimpleNamespace(
        concept="dark",
        networks=networks,
        worse=(),
        settings={},
        tables=("data",),
        replacements=(),
        compared=9,
    )
    flips = [
        {"metric": "pixel_flip_rate", "value": value, "first": value > 0.3, "network": name, "table": "data"}
        for name, value in (("before", 0.472), ("student", 0.098))
    ]
    told = headline(compared, flips)
    assert told.startswith(
        "On the pixels 47 % of the predictions followed dark before, 10 % with student. Without"
    )
    assert "was not called a shortcut" not in told
    assert headline(compared, []).startswith("dark was not called a shortcut before: encoded and used, a")

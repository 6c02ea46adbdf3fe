"""The page: self-contained, escaped, whole or not written at all."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from shortcutscope.errors import InputError
from shortcutscope.files import slug
from shortcutscope.report.html import render, render_fragment, write_report

VOID = {"meta", "link", "img", "br", "hr", "input"}
EVIL = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """Collects elements and checks that they are nested properly."""

    def __init__(self, text):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def tests(self, name):
        return [attrs for _, attrs in self.elements if attrs.get("data-test") == name]


@pytest.fixture(scope="module")
def page(finished_run):
    return render(finished_run)


@pytest.fixture(scope="module")
def parsed(page):
    return Page(page)


def test_is_well_formed_with_unique_ids(parsed):
    assert parsed.open == []
    ids = [attrs["id"] for _, attrs in parsed.elements if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_refers_to_nothing_outside(page, parsed):
    for tag, attrs in parsed.elements:
        assert tag not in ("iframe", "object", "embed", "form", "base")
        for key in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert (attrs.get(key) or "#").startswith(("#", "data:"))
    outside = re.findall(r"https?://[^\s\"'<>)]+", page)
    assert set(outside) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_every_finding_has_a_card_with_icon_and_words(page, parsed):
    kinds = [attrs["data-verdict"] for attrs in parsed.tests("card")]
    assert kinds == ["shortcut", "shortcut", "encoded"]
    assert [attrs["data-verdict"] for attrs in parsed.tests("line")] == ["absent", "untestable"]
    cards = re.findall(r'<article class="ss-card.*?</article>', page, flags=re.DOTALL)
    for card, label in zip(cards, ("Shortcut", "Shortcut", "Encoded, not used"), strict=True):
        assert "<svg" in card
        assert label in card


@pytest.mark.parametrize(
    "part",
    [
        "title", "headline", "warnings", "assumptions", "performance", "verdicts", "heatmap-availability",
        "heatmap-use", "curve-availability", "curve-use", "extent", "extent-zones", "extent-lit",
        "extent-layers", "association", "gallery", "effects", "power", "profile", "command", "fingerprint",
        "stages", "skipped", "refused",
    ],
)  # fmt: skip
def test_has_every_part(parsed, part):
    assert parsed.tests(part)


def test_says_what_matters(parsed):
    text = " ".join(parsed.text.split())
    assert "effects look about twice as large" in text
    assert "only 3 of 1200 samples carry it" in text
    assert "A shortcut that nobody named can still be there" in text
    assert "Saab et al. 2022" in text
    assert "0.52 from the quiet places, 0.97 from the loudest, brightest and darkest places of all." in text


def test_an_evil_name_is_only_text(run_dir, change_json):
    def rename(findings):
        findings[0]["name"] = findings[0]["description"] = EVIL
        findings[0]["notes"] = findings[-1]["reason"] = EVIL
        findings[0]["association"]["source"] = EVIL

    change_json(run_dir / "findings.json", rename)
    change_json(
        run_dir / "run.json", lambda run: run.update(command=EVIL, warnings=[EVIL], model={"spec": EVIL})
    )
    frame = pd.read_parquet(run_dir / "profile.parquet")
    frame.replace({"concept": {"tag": EVIL}}).to_parquet(run_dir / "profile.parquet")
    (run_dir / "gallery" / "tag.npz").rename(run_dir / "gallery" / f"{slug(EVIL)}.npz")
    page = Page(render(run_dir))
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert all("onerror" not in attrs for _, attrs in page.elements)
    assert all(attrs["src"].startswith("data:") for tag, attrs in page.elements if tag == "img")
    assert EVIL in page.text


def test_a_fragment_is_no_page_and_brings_no_script(finished_run):
    fragment = render_fragment(finished_run)
    assert "<html" not in fragment
    assert "<script" not in fragment
    # Every rule is about the report: colours come from the element that holds it.
    style = re.search(r"<style>(.*?)</style>", fragment, flags=re.DOTALL).group(1)
    for selectors in re.findall(r"(?:^|[{}])\s*([^{}@]+?)\s*\{", style):
        assert all(".ss-report" in selector for selector in selectors.split(","))


def test_is_deterministic(finished_run, page):
    assert render(finished_run) == page


@pytest.fixture
def quick_run(run_dir, change_json):
    """A run with nothing to draw."""
    change_json(run_dir / "findings.json", lambda findings: findings.__delitem__(slice(0, 4)))
    return run_dir


def test_is_written_whole_beside_the_run_or_where_asked(quick_run, tmp_path):
    run_dir = quick_run
    assert write_report(run_dir) == run_dir / "report.html"
    goal = write_report(run_dir, tmp_path / "new" / "audit.html")
    assert goal.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [p.name for p in goal.parent.iterdir()] == ["audit.html"]


def test_a_run_that_cannot_be_reported_leaves_the_old_report(quick_run, change_json):
    run_dir = quick_run
    write_report(run_dir)
    before = (run_dir / "report.html").read_bytes()
    change_json(run_dir / "run.json", lambda run: run["stages"]["extent"].update(state="running"))
    with pytest.raises(InputError, match="'extent' is running"):
        write_report(run_dir)
    assert (run_dir / "report.html").read_bytes() == before


def test_nothing_testable_is_a_report_too(quick_run):
    assert "No concept could be tested" in render(quick_run)


def test_ten_findings_with_large_pictures_stay_below_three_megabytes(run_dir, change_json):
    rng = np.random.default_rng(0)
    change_json(
        run_dir / "findings.json",
        lambda findings: findings.__setitem__(
            slice(None), [{**findings[i % 2], "name": f"shortcut {i}"} for i in range(10)]
        ),
    )
    frame = pd.read_parquet(run_dir / "profile.parquet")
    tag = frame[frame["concept"] == "tag"]
    pd.concat([tag.assign(concept=f"shortcut {i}") for i in range(10)]).to_parquet(
        run_dir / "profile.parquet"
    )
    images = np.clip(rng.normal(128, 40, (12, 224, 224)), 0, 255).astype(np.uint8)
    maps = rng.standard_normal((12, 224, 224)).astype(np.float16)
    for i in range(10):
        np.savez(
            run_dir / "gallery" / f"shortcut-{i}.npz",
            images=images,
            maps=maps,
            sample_ids=np.arange(12).astype(str),
            captions=np.array(["a caption"] * 12),
        )
    assert len(render(run_dir).encode()) < 3e6

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import shortcutscope.review.grid
from shortcutscope.data.table import ImageTable, Normalize
from shortcutscope.masks.patches import detector
from shortcutscope.options import Running
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.planting.planting import plant
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.retrieval.views import Views
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.scanner import scan

KIND = "noise"
#: What a notebook gives the front end of a widget, without a notebook.
MODEL = """
  const state = %s; const heard = {}; window.sent = []; window.state = state;
  const model = {
    get: (name) => state[name],
    set: (name, value) => { state[name] = value; (heard[`change:${name}`] || []).forEach((f) => f()); },
    save_changes: () => { window.saved = (window.saved || 0) + 1; },
    send: (content) => window.sent.push(content),
    on: (name, f) => { (heard[name] ||= []).push(f); },
    off: (name, f) => { heard[name] = (heard[name] || []).filter((g) => g !== f); },
  };
  model.told = (content) => (heard["msg:custom"] || []).forEach((f) => f(content));
  window.model = model;
"""


@dataclass(frozen=True)
class Planted:
    """Radiographs with noise on half of class 1 and a tenth of class 0, and their scan."""

    table: object
    scanned: object
    model: object

    @property
    def ids(self):
        return self.table.frame["sample_id"].astype(str).to_numpy()

    @property
    def carries(self):
        return self.table.frame[KIND].to_numpy() == 1

    @property
    def rare(self):
        """Ids of carriers in the class where they are rare."""
        return list(self.ids[self.carries & (self.table.frame["label"].to_numpy() == 0)])

    @property
    def truth(self):
        return dict(zip(self.ids.tolist(), self.carries.tolist(), strict=True))


@pytest.fixture(scope="session")
def planted(tmp_path_factory):
    torch.set_num_threads(1)
    table = radiographs(240, size=32, seed=3).with_transform(Normalize(0.45, 0.25))
    table = plant(table, get_artifact(KIND), prevalence={0: 0.15, 1: 0.9}, seed=1)
    model = thin_resnet18(width=4, seed=0).eval()
    scanned = scan(
        model,
        table,
        tmp_path_factory.mktemp("annotate") / "scan",
        scanning=Scanning(relevance=False),
        running=Running(progress=False),
    )
    return Planted(table, scanned, model)


def taught_in(patched, start, most, last):
    """Single places are learnt at once, in so many steps."""
    for name, steps in {"START_STEPS": start, "STEPS": most, "LAST": last, "TRIES": 1}.items():
        patched.setattr(detector, name, steps)


@pytest.fixture(scope="module")
def quickly_taught():
    """Single places are learnt in as few steps as what is planted in tests needs."""
    with pytest.MonkeyPatch.context() as patched:
        taught_in(patched, 80, 140, 40)
        yield


@pytest.fixture
def hardly_taught(monkeypatch):
    """They are learnt in few steps, for what does not depend on how much was learnt."""
    taught_in(monkeypatch, 20, 30, 5)


@pytest.fixture
def made_up():
    """Views of 300 samples: carriers differ by 6 standard deviations in one of 40 correlated features."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 300)
    carries = rng.random(300) < np.where(labels == 1, 0.9, 0.15)
    mixing = rng.standard_normal((40, 40))
    signal = rng.standard_normal((300, 40)) @ mixing
    signal[:, 7] += 6 * signal[:, 7].std() * carries
    blocks = {"stem": signal[:, :20].astype(np.float32), "input": signal[:, 20:].astype(np.float32)}
    frame = pd.DataFrame({"carries": carries, "label": labels, "group": np.arange(300)})
    return Views(blocks), frame


@pytest.fixture
def open_grid(browser):
    """Opens a review grid on a page without a notebook; on leaving, nobody complained."""
    folder = Path(shortcutscope.review.grid.__file__).parent
    script = (folder / "review.js").read_text().replace("export default { render };", "")
    style = (folder / "review.css").read_text()
    context = browser.new_context(viewport={"width": 560, "height": 700}, offline=True)
    complaints = []

    def opened(widget):
        names = ["words", "items", "answers", "boxes", "message", "opacity", "takes_back"]
        state = json.dumps({name: getattr(widget, name) for name in names})
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.set_content(f"<!doctype html><style>{style}</style><div id='here'></div>")
        page.add_script_tag(
            content=f"{script}{MODEL % state}\nrender({{ model, el: document.getElementById('here') }});"
        )
        return page

    yield opened
    context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def noise_images():
    """Table of images of noise, in some of which the first class or the second has a bright square."""

    def make(n=120, channels=1, side=32, seed=0):
        generator = np.random.default_rng(seed)
        labels = np.arange(n) % 2
        images = generator.uniform(0.2, 0.5, (n, channels, side, side)).astype(np.float32)
        carriers = generator.random(n) < np.where(labels == 1, 0.9, 0.1)
        images[carriers, :, 4:12, 4:12] = 0.95
        frame = pd.DataFrame({"label": labels, "square": carriers.astype(int)})
        frame.insert(0, "sample_id", [f"s{i:03d}" for i in range(n)])
        return ImageTable.from_arrays(images, frame, value_range=(0, 1))

    return make

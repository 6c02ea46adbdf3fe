from __future__ import annotations

from pathlib import Path

import pytest
import torch

import shortcutscope as ss
from shortcutscope.models.heads.head import own_names
from shortcutscope.models.loading import has_random_weights

xrv = pytest.importorskip("torchxrayvision", reason="the extra xrv is not installed")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def test_an_architecture_has_the_pathologies_and_random_weights() -> None:
    model = ss.load_model("xrv:densenet121")
    names, several = own_names(model)
    assert several
    assert names == tuple(xrv.datasets.default_pathologies)
    assert has_random_weights(model)


def test_weights_are_read_and_never_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xrv.utils, "get_cache_dir", lambda: str(tmp_path))
    with pytest.raises(ss.InputError, match=r"not on this machine, and nothing is downloaded: get https"):
        ss.load_model("xrv:densenet121-res224-nih")
    theirs = xrv.models.DenseNet().eval()
    file = tmp_path / xrv.models.model_urls["nih"]["weights_url"].rpartition("/")[2]
    torch.save(theirs.state_dict(), file)
    model = ss.load_model("xrv:densenet121-res224-nih")
    x = torch.rand(2, 1, 64, 64) * 2048 - 1024
    with torch.no_grad():
        assert torch.equal(model(x), theirs(x))
    assert (own_names(model)[0] or ())[13:15] == ("Hernia", "")
    assert not has_random_weights(model)
    torch.save(theirs, file)  # as the package publishes them
    with pytest.raises(ss.InputError, match="unpickling can run any code"):
        ss.load_model("xrv:densenet121-res224-nih")
    with torch.no_grad():
        assert torch.equal(ss.load_model("xrv:densenet121-res224-nih", trust=True)(x), theirs(x))


def test_preprocessing_is_that_of_the_package() -> None:
    own = ss.model_preprocessing("xrv:densenet121-res224-all")
    pixels = torch.randint(0, 256, (1, 260, 301), generator=torch.Generator().manual_seed(0))
    theirs = xrv.datasets.XRayCenterCrop()(xrv.utils.normalize(pixels.numpy(), 255))
    ours = own.steps[0](pixels / 255 * 2048 - 1024)
    assert torch.allclose(ours, torch.from_numpy(theirs), atol=1e-3)
    assert own(pixels / 255 * 2048 - 1024).shape == (1, 224, 224)
    assert own.value_range == (-1024, 1024)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ss.InputError, match="no classifier 'densenet12'; did you mean densenet121"):
        ss.load_model("xrv:densenet12")

import numpy as np
import torch

from shortcutscope.retrieval.borders import SIDE, border_features


def test_a_frame_is_seen_on_whichever_side_it_lies():
    generator = torch.Generator().manual_seed(0)
    image = 0.5 + 0.1 * torch.randn(1, SIDE, SIDE, generator=generator)
    framed = image.clone()
    framed[:, :20] = 0.02
    own = border_features(framed)
    turned = [border_features(torch.rot90(framed, k, (1, 2))) for k in (1, 2, 3)]
    half = len(own) * 3 // 7
    for other in turned:  # the sorted part does not depend on the side
        assert np.allclose(np.sort(own[:half]), np.sort(other[:half]), rtol=0.05, atol=1e-3)
    assert np.abs(own - border_features(image)).max() > 0.3
    assert np.isfinite(border_features(torch.zeros(1, 9, 7))).all()

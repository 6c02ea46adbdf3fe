import pytest
import torch

from shortcutscope.retrieval.detecting.working import SHORT, working_for


def test_large_boxes_are_searched_in_smaller_images_and_found_in_the_files_pixels():
    image = torch.rand(1, 400, 500, generator=torch.Generator().manual_seed(0))
    box = (40.0, 60.0, 100.0, 108.0)
    working = working_for([image], [box])
    assert working.factor == pytest.approx(SHORT / 48)
    assert working.of(image).shape == (1, 100, 125)
    assert working.to_file(working.to_working(box), (400, 500)) == pytest.approx(box)
    assert working.to_file((-9, -9, 900, 900), (400, 500)) == (0, 0, 500, 400)


def test_small_boxes_keep_the_resolution_of_the_files():
    assert working_for([torch.rand(1, 256, 256)], [(0, 0, 9, 10)]).factor == 1


def test_values_span_0_to_1_and_colours_are_seen():
    grey = 4000 * torch.rand(1, 50, 50, generator=torch.Generator().manual_seed(0))
    working = working_for([grey], [(0, 0, 9, 9)])
    assert 0.99 < working.of(grey).max() < 1.01
    assert not working.colours
    red = grey.expand(3, -1, -1).clone()
    red[0, :20] += 900
    assert working_for([red], [(0, 0, 9, 9)]).of(red).shape[0] == 3
    assert not working_for([grey.expand(3, -1, -1)], [(0, 0, 9, 9)]).colours

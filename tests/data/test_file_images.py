import numpy as np
from stamped import stamped

from shortcutscope.data.file_images import in_file_size
from shortcutscope.options import Running


def test_images_are_as_large_as_in_their_files_also_behind_what_is_kept():
    table = stamped(8).table
    whole = in_file_size(table)
    assert table.image(0).shape == (1, 24, 24)
    assert whole.image(0).shape == (1, 96, 96)
    assert (in_file_size(table.keeping(Running())).image(3) == whole.image(3)).all()
    assert (whole.frame["sample_id"] == table.frame["sample_id"]).all()
    assert np.allclose(whole.image(0).mean(), table.image(0).mean(), atol=0.02)

"""What is typed twice is not forgotten without a word."""

import pytest

from shortcutscope.cli import main


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--concepts", "a", "--concepts=b"],
            "--concepts given 2 times: give all in one",
        ),
        (["--seed", "1", "--seed", "2", "--seed", "3"], "--seed given 3 times: give one"),
        (["--discover", "--no-discover"], "--discover and --no-discover given 2 times: give one"),
    ],
)
def test_an_option_with_one_value_is_refused_twice(words, told, capsys, tmp_path):
    with pytest.raises(SystemExit) as left:
        main(["audit", "torchvision:resnet18", str(tmp_path), "--out", str(tmp_path / "run"), *words])
    assert left.value.code == 1
    assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_an_option_with_several_values_may_be_given_several_times(capsys, tmp_path):
    words = ["--present", "a=1", "--present", "b=2"]
    with pytest.raises(SystemExit):
        main(["audit", "no_such_module:net", str(tmp_path), "--out", str(tmp_path / "run"), *words])
    assert "times" not in capsys.readouterr().err

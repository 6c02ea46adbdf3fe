"""DATA of the command line: public data sets by their name, and options that are name=value."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from shortcutscope.cli.inputs import head_of, named_values, open_model, open_table
from shortcutscope.cli.options import DataOptions, HeadOptions, ModelOptions, expanded
from shortcutscope.errors import InputError
from shortcutscope.models.heads.head import Head


@pytest.fixture
def spurbreast(tmp_path: Path) -> Path:
    for split in ("training", "validation", "test"):
        for label in (0, 1):
            folder = tmp_path / "data" / "menopause" / split / str(label)
            folder.mkdir(parents=True)
            Image.fromarray(np.full((8, 8), 51, np.uint8)).save(folder / f"a-1-{label}{len(split)}.png")
    return tmp_path / "data"


def test_a_data_set_is_opened_by_its_name(spurbreast: Path) -> None:
    for data in (f"spurbreast:{spurbreast}", Path(f"spurbreast:{spurbreast}")):
        table = open_table(data, DataOptions(data_options=["feature=menopause"], size=4, mode="RGB"))
        assert table.frame["split"].tolist() == ["train"] * 2 + ["val"] * 2 + ["test"] * 2
        assert table.shape == (3, 4, 4)
        assert table.has_groups
        assert table.transform is None
    options = DataOptions(data_options=["feature=menopause"], value_range=(0, 255), mean="51", std="2")
    assert open_table(f"spurbreast:{spurbreast}", options)[0][0].unique().tolist() == [0]


def test_the_range_of_a_data_set_is_its_own_unless_another_is_given(tmp_path: Path) -> None:
    (tmp_path / "records100").mkdir()
    for suffix in ("hea", "dat"):
        (tmp_path / "records100" / f"1_lr.{suffix}").touch()
    columns = "ecg_id,patient_id,scp_codes,strat_fold,filename_lr\n"
    (tmp_path / "ptbxl_database.csv").write_text(columns + "1,1,{'LVH': 100.0},1,records100/1_lr\n")
    header = ",diagnostic,diagnostic_class,diagnostic_subclass\n"
    (tmp_path / "scp_statements.csv").write_text(header + "LVH,1.0,HYP,LVH\n")
    data = f"ptbxl:{tmp_path}"
    assert open_table(data, DataOptions()).value_range == (-32.768, 32.767)
    narrow = open_table(data, DataOptions(value_range=(-5, 5), data_options=["target=LVH", "likelihood=50"]))
    assert narrow.value_range == (-5, 5)
    assert narrow.classes == ("no LVH", "LVH")


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        ("chexpart:/nowhere", DataOptions(), "no such file or folder: 'chexpart:/nowhere'"),
        ("spurbreast:/nowhere", DataOptions(), "is not laid out as SpurBreast"),
        ("spurbreast:/nowhere", DataOptions(label="tumour"), "--label is for manifests; spurbreast knows"),
        ("spurbreast:/nowhere", DataOptions(sample_id="x"), "--sample-id is for manifests"),
        (
            "spurbreast:/n",
            DataOptions(data_options=["group=x"]),
            "spurbreast has no option 'group'; it has fea",
        ),
        ("spurbreast:/n", DataOptions(data_options=["size=4"]), "--data-option size: give --size instead"),
        ("table.csv", DataOptions(data_options=["target=LVH"]), "--data-option is for data sets"),
    ],
)
def test_what_cannot_be(data: str, options: DataOptions, said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_table(data, options)


def test_values_are_json_where_they_are_such() -> None:
    texts = ["seed=2", "ids=[1, 2]", "target=LVH", "flag=true", "path=/a=b", "empty="]
    assert named_values(texts, "--option") == {
        "seed": 2, "ids": [1, 2], "target": "LVH", "flag": True, "path": "/a=b", "empty": "",
    }  # fmt: skip
    with pytest.raises(InputError, match="--option 'seed': give name=value"):
        named_values(["seed"], "--option")
    with pytest.raises(InputError, match="--option seed is given twice"):
        named_values(["seed=1", "seed=2"], "--option")


def test_typer_takes_a_data_set_and_its_options(spurbreast: Path) -> None:
    @expanded
    def count(*, data: Annotated[Path, typer.Argument()], reading: DataOptions) -> None:
        typer.echo(len(open_table(data, reading)))

    app = typer.Typer()
    app.command()(count)
    outcome = CliRunner().invoke(app, [f"spurbreast:{spurbreast}", "--data-option", "feature=menopause"])
    assert outcome.exit_code == 0, outcome.output
    assert outcome.output.strip() == "6"


def test_m16_a_network_without_weights_is_audited_only_if_that_is_meant() -> None:
    spec = "torchvision:squeezenet1_1"
    with pytest.raises(InputError, match=r"no weights are given.*--weights.*--random-weights"):
        open_model(spec, ModelOptions(), trained=True)
    open_model(spec, ModelOptions())
    open_model(spec, ModelOptions(random_weights=True), trained=True)


def test_m1_the_head_is_said_by_options() -> None:
    assert head_of(HeadOptions()) == Head()
    options = HeadOptions(output="1", label_output="Edema", output_names="Edema, Effusion", link="sigmoid")
    assert head_of(options) == Head(1, "Edema", ("Edema", "Effusion"), "sigmoid")
    assert head_of(HeadOptions(output="cls", label_output="8")) == Head("cls", 8)


def test_m1_class_names_are_said_by_an_option(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 51, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "images.csv").write_text("image,label\na.png,1\n")
    table = open_table(tmp_path / "images.csv", DataOptions(classes="no, mild,severe"))
    assert list(table.classes or ()) == ["no", "mild", "severe"]

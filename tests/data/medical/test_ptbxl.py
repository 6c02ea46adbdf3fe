import pickle
import time

import numpy as np
import pandas as pd
import pytest

from shortcutscope.data.medical import open_dataset
from shortcutscope.data.medical.layout import LayoutError
from shortcutscope.data.medical.ptbxl import LEADS, ptbxl
from shortcutscope.errors import InputError

STATEMENTS = """,description,diagnostic,form,rhythm,diagnostic_class,diagnostic_subclass
NORM,normal ECG,1.0,,,NORM,NORM
LVH,left ventricular hypertrophy,1.0,,,HYP,LVH
RVH,right ventricular hypertrophy,1.0,,,HYP,RVH
NDT,non-diagnostic T abnormalities,1.0,1.0,,STTC,STTC
ISCAL,ischemic in anterolateral leads,1.0,,,STTC,ISCA
SR,sinus rhythm,,,1.0,,
"""

CODES = [
    "{'NORM': 100.0, 'SR': 0.0}",
    "{'LVH': 100.0, 'SR': 0.0}",
    "{'LVH': 35.0, 'NDT': 100.0}",
    "{'RVH': 0.0}",
    "{'ISCAL': 80.0}",
    "{'SR': 0.0}",
]


@pytest.fixture
def tree(tmp_path):
    """Six records of four patients, one in each of six folds; the signals are empty files."""
    rows = []
    for i, codes in enumerate(CODES, start=1):
        for folder, suffix in (("records100", "lr"), ("records500", "hr")):
            path = tmp_path / folder / "00000" / f"{i:05d}_{suffix}.hea"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            path.with_suffix(".dat").touch()
        rows.append(
            {
                "ecg_id": i,
                "patient_id": float(100 + i // 2),
                "age": 300.0 if i == 4 else 50.0 + i,
                "sex": i % 2,
                "height": np.nan,
                "nurse": 2.0,
                "site": 0.0,
                "device": "CS-12",
                "recording_date": "1984-11-09 09:17:34",
                "report": "sinusrhythmus",
                "scp_codes": codes,
                "strat_fold": [1, 8, 9, 10, 3, 4][i - 1],
                "baseline_drift": [None, " , I-V1,  ", None, None, None, None][i - 1],
                "static_noise": None,
                "burst_noise": ["alles", None, None, None, None, " , "][i - 1],
                "electrodes_problems": [None, None, "V6", None, None, None][i - 1],
                "pacemaker": [None, "ja, pacemaker", None, "PACE????, nan", None, None][i - 1],
                "filename_lr": f"records100/00000/{i:05d}_lr",
                "filename_hr": f"records500/00000/{i:05d}_hr",
            }
        )
    pd.DataFrame(rows).to_csv(tmp_path / "ptbxl_database.csv", index=False)
    (tmp_path / "scp_statements.csv").write_text(STATEMENTS)
    return tmp_path


def test_a_diagnosis_patients_folds_and_all_columns(tree):
    table = open_dataset("ptbxl", tree)
    frame = table.frame
    assert frame["sample_id"].tolist() == ["1", "2", "3", "4", "5", "6"]
    assert frame["label"].tolist() == [0, 1, 1, 1, 0, 0]
    assert table.classes == ("no HYP", "HYP")
    assert frame["group"].tolist() == ["100", "101", "101", "102", "102", "103"]
    assert frame["split"].tolist() == ["train", "train", "val", "test", "train", "train"]
    kept = {"age", "sex", "height", "nurse", "site", "device", "recording_date", "report", "scp_codes"}
    assert kept | {"strat_fold", "NORM", "STTC"} <= set(table.metadata)
    assert "HYP" not in table.metadata  # it would be the label
    assert frame["STTC"].tolist() == [0, 0, 1, 0, 1, 0]
    assert frame["NORM"].tolist() == [1, 0, 0, 0, 0, 0]
    assert frame["age"].max() == 300
    assert table.value_range == (-32.768, 32.767)
    assert len(pickle.dumps(table)) < 50_000


def test_what_disturbs_a_signal_is_text_and_a_column_of_zero_and_one(tree):
    frame = ptbxl(tree).frame
    assert frame["baseline_drift"].tolist() == [0, 1, 0, 0, 0, 0]
    assert frame["baseline_drift_text"].iloc[1] == ", I-V1,"
    assert frame["burst_noise"].tolist() == [1, 0, 0, 0, 0, 0]
    assert frame["electrodes_problems"].tolist() == [0, 0, 1, 0, 0, 0]
    assert frame["static_noise"].tolist() == [0] * 6
    assert frame["pacemaker"].iloc[[1, 2]].tolist() == [1, 0]
    assert np.isnan(frame["pacemaker"].iloc[3])


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({"target": "LVH"}, [0, 1, 1, 0, 0, 0]),
        ({"target": "LVH", "likelihood": 50}, [0, 1, 0, 0, 0, 0]),
        ({"target": "HYP", "likelihood": 1}, [0, 1, 1, 0, 0, 0]),
        ({"target": "STTC"}, [0, 0, 1, 0, 1, 0]),
        ({"target": "STTC", "level": "subclass"}, [0, 0, 1, 0, 0, 0]),
        ({"target": "ISCAL"}, [0, 0, 0, 0, 1, 0]),
        ({"target": "SR"}, [1, 1, 0, 0, 0, 1]),
    ],
)
def test_superclasses_subclasses_codes_and_their_likelihood(tree, options, labels):
    assert ptbxl(tree, **options).frame["label"].tolist() == labels


def test_signals_are_read_at_either_rate_leads_first(tree, write_record):
    pytest.importorskip("wfdb")
    signals = np.random.default_rng(0).integers(-2000, 2000, (12, 30)) / 1000
    write_record(tree / "records100" / "00000", "00002_lr", signals, list(LEADS))
    write_record(tree / "records500" / "00000", "00002_hr", np.repeat(signals, 5, axis=1), list(LEADS))
    assert np.allclose(ptbxl(tree).image(1).numpy(), signals, atol=1e-6)
    assert ptbxl(tree, sampling_rate=500).image(1).shape == (12, 150)
    assert ptbxl(tree, sampling_rate=500, size=30, value_range=(-5, 5)).image(1).shape == (12, 30)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": "COVID"}, "no 'COVID' among the statements.*'HYP'.*'ISCAL'"),
        ({"target": "HYP", "level": "code"}, "no 'HYP' among the code names"),
        ({"level": "family"}, "level must be 'class', 'subclass', 'code' or None"),
        ({"sampling_rate": 250}, "sampling_rate must be 100 or 500"),
    ],
)
def test_options_that_cannot_be(tree, options, said):
    with pytest.raises(InputError, match=said):
        ptbxl(tree, **options)


def test_other_layouts_are_refused(tree):
    (tree / "records100" / "00000" / "00003_lr.dat").unlink()
    with pytest.raises(LayoutError, match=r"1 of its 12 files are missing: 'records100/00000/00003_lr\.dat'"):
        ptbxl(tree)
    assert len(ptbxl(tree, sampling_rate=500)) == 6
    database = tree / "ptbxl_database.csv"
    whole = database.read_text()
    database.write_text(whole.replace("{'RVH': 0.0}", "RVH"))
    with pytest.raises(LayoutError, match="scp_codes in row 3"):
        ptbxl(tree, sampling_rate=500)
    database.write_text(whole.replace("strat_fold", "fold"))
    with pytest.raises(LayoutError, match="lacks the column 'strat_fold'"):
        ptbxl(tree)
    frame = pd.read_csv(database).rename(columns={"fold": "strat_fold"})
    frame.assign(strat_fold=11).to_csv(database, index=False)
    with pytest.raises(LayoutError, match="1 to 10, and has '11'"):
        ptbxl(tree, sampling_rate=500)
    (tree / "scp_statements.csv").unlink()
    with pytest.raises(LayoutError, match=r"(?s)scp_statements\.csv.*physionet"):
        ptbxl(tree)


def test_ten_thousand_records_are_indexed_at_once(tree):
    frame = pd.read_csv(tree / "ptbxl_database.csv")
    many = pd.concat([frame] * 1700, ignore_index=True).iloc[:10_000]
    many["ecg_id"] = np.arange(len(many))
    many["filename_lr"] = [f"records100/{i:05d}_lr" for i in range(len(many))]
    for name in many["filename_lr"]:
        (tree / f"{name}.hea").touch()
        (tree / f"{name}.dat").touch()
    many.to_csv(tree / "ptbxl_database.csv", index=False)
    before = time.process_time()
    table = ptbxl(tree)
    assert time.process_time() - before < 20  # about 1 on a busy core
    assert len(table) == 10_000

"""The command that compares two models: its decision, and what it refuses."""

import json

import numpy as np
import pytest

from alhelpers.cli import main
from alhelpers.evaluation import TestSet, compare_predictions, read_compare_config

NAMES = ["cat", "dog", "fox"]


def write(path, header, rows):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Forty labelled pictures, and two models of which the new one is right more often."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=40)
    paths = [f"p{row:02}.png" for row in range(40)]
    write(tmp_path / "truth.csv", "path,label", zip(paths, (NAMES[k] for k in truth), strict=True))
    found = {}
    for name, weight in (("old", 0.3), ("new", 2.0)):
        logits = rng.normal(size=(40, 3)) + weight * np.eye(3)[truth]
        found[name] = np.round(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), 6)
        rows = [(path, *values) for path, values in zip(paths, found[name], strict=True)]
        write(tmp_path / f"{name}.csv", "path,cat,dog,fox", rows)
    return paths, truth, found


def said_by(capsys, *more, files=("old.csv", "new.csv", "truth.csv")):
    code = main(["compare", *files, *more])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize("metric", ["accuracy", "f1", "precision_recall", "calibration"])
def test_the_decision_is_that_of_evaluation(files, capsys, metric):
    paths, truth, found = files
    code, out, err = said_by(capsys, "--metric", metric, "--json", "--seed", "3")
    rows = [
        [
            {
                "image_id": path,
                "label": NAMES[values.argmax()],
                "score": values.max(),
                "confidences": dict(zip(NAMES, values.tolist(), strict=True)),
            }
            for path, values in zip(paths, found[name], strict=True)
        ]
        for name in ("old", "new")
    ]
    labels = [{"image_id": path, "label": NAMES[k]} for path, k in zip(paths, truth, strict=True)]
    config = read_compare_config({metric: {}, "bootstrap": {"seed": 3}})
    expected = compare_predictions(
        TestSet("class", paths, labels, tuple(rows)), config, ("old.csv", "new.csv")
    )
    assert (code, err) == (0, "") and json.loads(out) == json.loads(json.dumps(expected.to_dict()))


def test_people_read_the_decision_first_and_then_the_interval(files, capsys):
    _, truth, found = files
    accuracy = [(found[name].argmax(1) == truth).mean() for name in ("old", "new")]
    code, out, _ = said_by(capsys)
    lines = out.splitlines()
    assert code == 0 and lines[0] == "decision: update model"
    assert f"accuracy {accuracy[1]:.4f} of 'new.csv' against {accuracy[0]:.4f} of 'old.csv'" in lines[1]
    assert "95 % interval" in lines[1]
    code, out, _ = said_by(capsys, files=("new.csv", "old.csv", "truth.csv"))
    assert code == 0 and out.startswith("decision: discard\n")
    _, out, _ = said_by(capsys, "--min-delta", "0.9", "--min-confidence", "0.9")
    assert out.startswith("decision: discard\n") and "90 % interval" in out


def test_predicted_classes_are_enough_for_the_accuracy_alone(files, capsys, tmp_path):
    paths, _, found = files
    _, full, _ = said_by(capsys, "--json")
    for name in ("old", "new"):
        rows = [(path, NAMES[v.argmax()], "a") for path, v in zip(paths, found[name], strict=True)]
        write(tmp_path / f"{name}.csv", "path,label,note", rows)
    code, out, _ = said_by(capsys, "--json")
    same = ("better", "previous", "new", "difference", "metrics")
    assert code == 0 and [json.loads(out)[key] for key in same] == [json.loads(full)[key] for key in same]
    code, _, err = said_by(capsys, "--metric", "calibration")
    assert (
        code == 1 and "calibration needs confidences, which old.csv lacks: add a column 'confidence'" in err
    )


def test_pictures_without_a_label_are_named_and_left_out(files, capsys):
    _, before, _ = said_by(capsys, "--json")
    with open("new.csv", "a") as file:
        file.write("more.png,1,0,0\n")
    code, out, err = said_by(capsys, "--json")
    assert code == 0 and out == before
    assert err == "warning: rows of new.csv that are not in truth.csv are left out (1): more.png\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "new.csv",
            "path,cat\np00.png,1\n",
            "new.csv lacks 39 of the 40 rows of truth.csv, the first is p01.png:",
        ),
        ("new.csv", "", "new.csv has no column 'path': its first line must name it, and names nothing"),
        ("truth.csv", "path,class\n", "truth.csv has no column 'label'"),
        ("truth.csv", "path,label\np00.png,\n", "truth.csv has no label for p00.png: label it"),
        ("truth.csv", "path,label\n", "truth.csv has no rows: list the labelled"),
        (
            "truth.csv",
            "path,label\np00.png,a,b\n",
            "truth.csv, line 2 has 3 values, and the first line 2 names",
        ),
        ("truth.csv", "path,label\na,b\na,b\n", "truth.csv, line 3 has 'a' a second time: keep one row"),
        ("truth.csv", "path,label,label\na,b,b\n", "truth.csv has the column 'label' twice"),
        ("truth.csv", "path,label\n\xff", "truth.csv, line 2 has 1 values"),
        ("truth.csv", b"path,label\n\xff", "truth.csv is not a CSV file in UTF-8"),
    ],
)
def test_what_is_wrong_is_named(files, capsys, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    code, out, err = said_by(capsys)
    assert (code, out) == (1, "") and message in err and err.count("\n") == 1 and err.startswith("error: ")


def test_a_value_that_is_no_number_and_a_file_without_predictions_are_named(files, capsys, tmp_path):
    paths, *_ = files
    write(tmp_path / "new.csv", "path,cat,dog", [(path, 0.5, "x") for path in paths])
    assert "new.csv: dog of p00.png is 'x', which is no number" in said_by(capsys)[2]
    write(tmp_path / "new.csv", "path,confidence", [(path, 0.5) for path in paths])
    assert "new.csv has no predictions: it needs a column 'predicted'" in said_by(capsys)[2]
    write(tmp_path / "new.csv", "path,predicted", [(path, "") for path in paths])
    assert "new.csv has no predicted for p00.png: predict it again" in said_by(capsys)[2]
    (tmp_path / "new.csv").unlink()
    code, _, err = said_by(capsys)
    assert code == 1 and err == "error: new.csv is not there: name a CSV file with the column path\n"
    code, _, err = said_by(capsys, files=("new.csv", "new.csv", "none.csv"))
    assert code == 1 and "none.csv is not there: name a CSV file with the columns path and label" in err


@pytest.mark.parametrize("value", ["7.5", "-0.01", "nan", "inf"])
@pytest.mark.parametrize("header", ["path,predicted,confidence", "path,predicted,cat"])
def test_a_confidence_outside_0_to_1_is_refused_by_name(files, capsys, tmp_path, header, value):
    paths, *_ = files
    write(
        tmp_path / "new.csv", header, [(path, "cat", 0.5) for path in paths[1:]] + [(paths[0], "cat", value)]
    )
    code, out, err = said_by(capsys)
    name = header.rpartition(",")[2]
    assert (code, out) == (1, "") and f"new.csv: {name} of p00.png is '{value}', which is no" in err
    assert "write a number from 0 to 1" in err


def test_rounding_above_1_is_none(files, capsys, tmp_path):
    paths, *_ = files
    write(tmp_path / "new.csv", "path,predicted,confidence", [(path, "cat", 1.0000001) for path in paths])
    assert said_by(capsys, "--metric", "calibration")[0] == 0


def test_spaces_after_commas_are_no_part_of_names_and_values(files, capsys, tmp_path):
    paths, *_ = files
    write(tmp_path / "new.csv", "path,predicted,confidence", [(path, "cat", 0.5) for path in paths])
    expected = said_by(capsys, "--json")
    write(tmp_path / "new.csv", "path, predicted, confidence", [(path, " cat", " 0.5") for path in paths])
    assert expected[0] == 0 and said_by(capsys, "--json") == expected


def test_semicolons_and_paths_written_otherwise_are_told(files, capsys, tmp_path):
    paths, *_ = files
    write(tmp_path / "new.csv", "path;predicted", [(f"{path};cat",) for path in paths])
    assert "names path;predicted; write commas between the columns, not semicolons" in said_by(capsys)[2]
    write(tmp_path / "new.csv", "path,predicted", [(f"./{path}", "cat") for path in paths])
    message = "new.csv and truth.csv have no path in common, the first are ./p00.png and p00.png: write paths"
    assert message in said_by(capsys)[2]


def test_classes_that_are_named_otherwise_are_a_warning_of_the_result(files, capsys, tmp_path):
    paths, *_ = files
    for name in ("old", "new"):
        write(tmp_path / f"{name}.csv", "path,predicted", [(path, "Cat") for path in paths])
    code, out, err = said_by(capsys)
    assert (code, err) == (0, "") and "warning: new.csv: no predicted class is among the labels" in out


def test_wrong_usage(files, capsys):
    assert said_by(capsys, "--min-confidence", "95")[0] == 2
    with pytest.raises(SystemExit) as stopped:
        main(["compare", "old.csv", "new.csv"])
    assert stopped.value.code == 2

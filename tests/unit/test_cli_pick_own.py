"""The command that picks, with code, metadata and models of one's own: what goes wrong there is one sentence."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alhelpers.cli import main
from alhelpers.cli.functions import run_file

MODEL = """
import torch
from torch import nn

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.inner = nn.Linear(192, 2)

    def forward(self, batch):
        return self.inner(batch.flatten(1))
"""


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Eight unlabelled pictures and a model."""
    monkeypatch.chdir(tmp_path)
    os.mkdir("photos")
    for row in range(8):
        pixels = np.random.default_rng(row).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"photos/p{row}.png")
    Path("model.py").write_text(MODEL)
    return tmp_path


def pick(*more, model="model.py:Network"):
    return main(["pick", "photos", "--model", model, "-n", "3", "-o", "picks.csv", "--force", *more])


def picked():
    with open("picks.csv", newline="") as file:
        return [row["path"] for row in csv.DictReader(file)]


def test_a_column_of_a_table_is_the_score(photos, capsys):
    values = {f"p{row}.png": value for row, value in enumerate([3, 1, 4, 1.5, 9, 2, 6, 5])}
    lines = ["path,blur,camera", *(f"{path},{value},left" for path, value in values.items())]
    Path("known.csv").write_text("\n".join([lines[0], *reversed(lines[1:]), "elsewhere.png,99,right"]))
    assert pick("--strategy", "metadata.blur", "--metadata", "known.csv") == 0
    assert picked() == ["p4.png", "p6.png", "p7.png"]
    Path("own.py").write_text("def low(blur): return -blur\nlow.columns = ['metadata.blur']\n")
    assert pick("--strategy", "own.py:low", "--metadata", "known.csv") == 0
    assert picked() == ["p1.png", "p3.png", "p5.png"]
    Path("few.csv").write_text("\n".join(lines[:5]))
    Path("other.csv").write_text("path,blur\nphotos/p0.png,1\n")
    capsys.readouterr()
    for table, strategy, code, message in (
        ("known.csv", "metadata.blurr", 2, "known.csv has no column 'blurr'"),
        ("known.csv", "metadata.camera", 1, "metadata.camera must be a number in each record"),
        ("gone.csv", "metadata.blur", 2, "gone.csv is not there: name a CSV file"),
        ("few.csv", "metadata.blur", 1, "record 'p4.png' cannot be scored"),
        ("other.csv", "metadata.blur", 1, "no path of a picture in photos: write them as p0.png"),
    ):
        assert pick("--strategy", strategy, "--metadata", table) == code
        assert message in capsys.readouterr().err.splitlines()[-1]
    assert pick("--strategy", "metadata.blur") == 2
    assert "name a table of path and blur with --metadata CSV" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "model.py, line 12 failed: ZeroDivisionError: division by zero"),
        ("assert batch is None", "model.py, line 12 failed: AssertionError$"),
        (
            "batch.reshape(5)",
            "line 12 failed: RuntimeError: .* if it was built for another size, pass --size",
        ),
        ("helper.fail({})", "helper.py, line 2 failed: KeyError: 'a'"),
        (
            "return {'x': self.inner(batch.flatten(1))}",
            r"it: define logits = lambda output: .*\"x\"\] in model.py$",
        ),
    ],
)
def test_an_error_of_a_models_own_code_names_its_line(photos, capsys, code, message):
    Path("helper.py").write_text("def fail(known):\n    return known['a']\n")
    Path("model.py").write_text(
        "import helper" + MODEL.replace("return self", f"{code}\n        return self")
    )
    assert pick() == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and re.search(message, last), last
    sys.modules.pop("helper", None)


def test_an_error_of_a_score_of_ones_own_names_its_line(photos, capsys):
    Path("own.py").write_text("def boom(confidences):\n    return 1 / 0\n")
    assert pick("--strategy", "own.py:boom") == 1
    assert "error: own.py, line 2 failed: ZeroDivisionError: division by zero\n" in capsys.readouterr().err
    Path("own.py").write_text("x = 1\nraise KeyError('x')\n")
    assert pick("--strategy", "own.py:boom") == 2
    assert "own.py cannot be run: KeyError: 'x' (own.py, line 2)" in capsys.readouterr().err
    assert not os.path.exists("picks.csv")


def test_an_error_of_our_own_stays_a_traceback(photos, monkeypatch):
    def broken(*_, **__):
        raise KeyError("ours")

    monkeypatch.setattr("alhelpers.loop.pick", broken)
    with pytest.raises(KeyError, match="ours"):
        pick()


def test_several_labels_and_numbers(photos, capsys):
    Path("model.py").write_text(
        MODEL + "\nfrom alhelpers.learners import TorchClassifier, TorchRegressor\n"
        "def several(): return TorchClassifier(Network(), task='multilabel')\n"
        "def numbers():\n    return TorchRegressor(nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 1)))\n"
    )
    Path("labels.csv").write_text("path,label\np0.png,cat;dog\np1.png,dog\np2.png,;\n")
    more = ("--labels", "labels.csv", "--strategy", "label_uncertainty")
    assert pick(*more, "--classes", "dog,cat", model="model.py:several") == 0
    assert "in the order of the outputs: dog, cat\n" in capsys.readouterr().err
    assert len(picked()) == 3 and not {"p0.png", "p1.png", "p2.png"} & {*picked()}
    assert pick(*more, "--classes", "dog,fox", model="model.py:several") == 2
    assert "--classes dog,fox lacks the label 'cat'" in capsys.readouterr().err
    assert pick(model="model.py:numbers") == 0
    said = capsys.readouterr()
    assert "the outputs are numbers\n" in said.err and "by spread" in said.out
    assert pick("--strategy", "metadata.value", model="model.py:numbers") == 0
    assert pick("--strategy", "metadata.value") == 1
    assert (
        "only a regression predicts, its 'value': name a table with --metadata\n" in capsys.readouterr().err
    )
    assert pick("--strategy", "entropy", model="model.py:numbers") == 1
    assert "the learner is of a regression, which has none: take 'spread'" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named(photos, capsys):
    assert pick("-o", "model.py/picks.csv") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(
        r"error: nothing was written to model\.py/picks\.csv: [\w ]+; name another place", last
    )


@pytest.mark.process
def test_a_reader_of_both_outputs_that_stops_is_no_error(photos):
    command = f"{sys.executable} -m alhelpers.cli pick photos --model model.py:Network -n 3 -o picks.csv"
    line = f"{command} 2>&1 | true; exit ${{PIPESTATUS[0]}}"
    assert subprocess.run(["/bin/bash", "-c", line], check=False).returncode == 0 and len(picked()) == 3


SCENES = """
import numpy as np
from alhelpers.learners import DetectorFunction, Segmenter

def detect(images, seed):
    draw = np.random.default_rng(seed)
    boxes = np.array([[1, 1, 4, 4], [3, 3, 8, 8]])
    moved = [boxes + draw.normal(0, 0.1 + image.mean(), (2, 4)) for image in images]
    return [(each.clip(0, 8), np.full((2, 1), 0.8)) for each in moved]

def detector():
    return DetectorFunction(detect, ["cat"])

def segmenter(seed):
    return Segmenter(["background", "cat"], seed=seed)
"""


def test_pictures_are_picked_by_boxes_and_by_masks(photos, capsys):
    Path("scenes.py").write_text(SCENES)
    assert pick("--passes", "3", model="scenes.py:detector") == 0
    best = picked()
    assert pick("--passes", "3", "--strategy", "box_uncertainty", model="scenes.py:detector") == 0
    assert picked() == best and len(best) == 3
    assert pick("--passes", "3", "--max-boxes", "3.3", model="scenes.py:detector") == 0
    assert picked() == best[:2]  # 1.6 boxes each
    said = capsys.readouterr()
    assert (
        "by box_uncertainty, 3.2 boxes expected of at most 3.3, which ended the picks; written:" in said.out
    )
    assert "classes in the order of the outputs: cat\n" in said.err
    assert pick("--passes", "3", "--json", model="scenes.py:detector") == 0
    found = json.loads(capsys.readouterr().out)
    assert abs(found["expected_boxes"] - 4.8) < 1e-5 and "max_boxes" not in found
    assert pick("--passes", "3", "--strategy", "weighted_box_uncertainty", model="scenes.py:detector") == 0
    assert (
        "no labelled boxes are read here: weighted_box_uncertainty compares with" in capsys.readouterr().err
    )
    assert pick("--classes", "dog", model="scenes.py:detector") == 2
    assert "--classes dog are not the classes of the model, cat, in their order" in capsys.readouterr().err
    by_errors = ("--strategy", "box_uncertainty", "--option", "of=errors", "--option", "over=sum")
    assert (
        pick("--passes", "3", *by_errors, "--option", "min_confidence=0.1", model="scenes.py:detector") == 0
    )
    capsys.readouterr()
    for wrong, message in (
        ("of=error", "must be one of 'combined', 'class', 'location', 'existence', 'object', 'errors', 'var"),
        ("seed=3", "has no option 'seed'; its options are: of, over"),
        ("of", "error: --option of: 'of' is not NAME=VALUE"),
    ):
        assert pick("--passes", "3", "--option", wrong, model="scenes.py:detector") == 2
        assert message in capsys.readouterr().err
    assert pick("--passes", "3", model="scenes.py:segmenter") == 0
    assert "3 of 8 pictures by metadata.bald" in capsys.readouterr().out
    assert pick("--passes", "3", "--strategy", "metadata.blur", model="scenes.py:segmenter") == 1
    said = capsys.readouterr().err
    assert "does not predict: it predicts metadata.entropy" in said and "name a table with --metadata" in said


def test_json_is_no_table_of_labels(photos, capsys):
    Path("coco.json").write_text('{"images": [], ' + "1, " * 999 + '"annotations": []}')
    for option in ("--labels", "--metadata"):
        assert pick(option, "coco.json", "--strategy", "metadata.blur") == 2
        said = capsys.readouterr().err
        assert "coco.json is JSON, which is not read here: name a CSV file with the columns path and" in said
        assert len(said) < 300
    Path("wide.csv").write_text(", ".join(f"column {number}" for number in range(999)))
    assert pick("--metadata", "wide.csv", "--strategy", "metadata.blur") == 2
    assert capsys.readouterr().err.endswith("...\n")


def test_the_weights_of_a_learner_are_a_folder_or_a_file(photos, capsys):
    learner = "def learner(): return TorchClassifier(Network())\n"
    Path("model.py").write_text(MODEL + "\nfrom alhelpers.learners import TorchClassifier\n" + learner)
    found = run_file(Path("model.py"))
    found.learner().save("saved")
    os.mkdir("nothing")
    for model in ("model.py:learner", "model.py:Network"):
        picks = []
        for weights in ("saved", "saved/weights.pt"):
            assert pick("--weights", weights, model=model) == 0
            picks.append(picked())
        assert picks[0] == picks[1]
        capsys.readouterr()
        for weights, what in (("nothing", "has no weights.pt"), ("gone", "is not there")):
            assert pick("--weights", weights, model=model) == 2
            assert f"{weights} {what}: name the file that torch.save(" in capsys.readouterr().err

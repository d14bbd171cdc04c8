"""The command that compares two detectors by files in COCO's format: equal to pycocotools, and what it refuses."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from alhelpers.cli import main

SIZE = 60


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Twenty images with two objects each, one of them with a crowd, and two detectors."""
    monkeypatch.chdir(tmp_path)
    rng, annotations, results = np.random.default_rng(0), [], {"old": [], "new": []}
    for number in range(40):
        left, top = rng.integers(0, 20, 2).tolist()
        width, height = rng.integers(8, 40, 2).tolist()
        place = {"image_id": number // 2 + 1, "category_id": 3 + number % 2}
        corners = [left, top, left + width, top, left + width, top + height, left, top + height]
        entry = {"id": number + 1, **place, "bbox": [left, top, width, height], "area": width * height}
        annotations.append(entry | {"segmentation": [corners], "iscrowd": 0})
        for name, noise in (("old", 6), ("new", 1)):
            x, y = (max(0, side + int(rng.normal(0, noise))) for side in (left, top))
            mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
            mask[y : y + height, x : x + width] = 1
            run = coco_masks.encode(np.asfortranarray(mask))
            run["counts"] = run["counts"].decode()
            found = place | {"bbox": [x, y, width, height], "segmentation": run}
            results[name].append(found | {"score": rng.uniform()})
    whole = np.asfortranarray(np.ones((SIZE, SIZE), dtype=np.uint8))
    crowd = {"size": [SIZE, SIZE], "counts": coco_masks.encode(whole)["counts"].decode()}
    annotations.append(
        {"id": 41, "image_id": 1, "category_id": 3, "bbox": [0, 0, SIZE, SIZE], "area": SIZE**2, "iscrowd": 1}
        | {"segmentation": crowd}
    )
    truth = {
        "images": [{"id": number, "height": SIZE, "width": SIZE} for number in range(1, 22)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}],
        "annotations": annotations,
    }
    for name, content in (results | {"truth": truth}).items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return truth, results


def said_by(capsys, *more):
    code = main(["compare", "old.json", "new.json", "truth.json", *more])
    said = capsys.readouterr()
    return code, said.out, said.err


def of_pycocotools(name, kind):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO("truth.json")
        found = json.loads(open(f"{name}.json").read())
        if kind == "segm":  # where there is a box it takes its area
            found = [{key: value for key, value in row.items() if key != "bbox"} for row in found]
        run = COCOeval(truth, truth.loadRes(found), kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_numbers_are_those_of_pycocotools(files, capsys, kind):
    more = ["--masks"] if kind == "segm" else []
    options = ("--metric", "mean_average_precision", "--points", "101", "--by-size", "--json", *more)
    code, out, err = said_by(capsys, *options)
    assert (code, err) == (0, "")
    (metric,) = json.loads(out)["metrics"]
    for side, name in (("previous", "old"), ("new", "new")):
        stats = of_pycocotools(name, kind)
        assert metric[side] == pytest.approx(stats[0], abs=1e-9)
        small, medium, large = (row[side] for row in metric["sizes"])
        assert [small, medium] == pytest.approx(stats[3:5].tolist(), abs=1e-9) and large is None
    _, out, _ = said_by(capsys, "--iou", "0.75", "--points", "101", "--json", *more)
    assert json.loads(out)["new"] == pytest.approx(of_pycocotools("new", kind)[2], abs=1e-9)


def test_people_read_the_decision_and_the_sizes(files, capsys):
    code, out, _ = said_by(capsys, "--by-size")
    assert code == 0 and out.startswith("decision: update model\n")
    assert "average precision" in out and "size small" in out and "on 21 test items" in out
    code, out, _ = said_by(capsys, "--masks", "--metric", "mean_iou")
    assert code == 0 and "mean IoU" in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda truth, new: new[0].update(image_id=99),
            "new.json, entry 0 has the image_id 99, which the labelled",
        ),
        (lambda truth, new: new[0].update(category_id=1), "new.json, entry 0 has the category_id 1"),
        (lambda truth, new: new[2].pop("score"), "new.json, entry 2 has no 'score'"),
        (lambda truth, new: new[2].update(score="x"), "new.json, entry 2 has the score 'x': it must be"),
        (lambda truth, new: new[1].update(bbox=[1, 2, 3]), "new.json, entry 1 has a wrong bbox"),
        (
            lambda truth, new: new[1].update(bbox=[1, 2, -3, 4]),
            "new.json, entry 1 has a wrong bbox: [1, 2, -3, 4] has no area",
        ),
        (lambda truth, new: new[1].update(bbox=None), "wrong bbox: None must be four finite numbers"),
        (lambda truth, new: new[1].update(bbox=[1, 2, True, 3]), "must be four finite numbers"),
        (
            lambda truth, new: new[1].update(bbox=[60, 2, 3, 3]),
            "[60, 2, 3, 3] is outside of its image, 60 wide and 60 high; correct it, or leave the entry out",
        ),
        (lambda truth, new: new[1].update(image_id=[1]), "new.json, entry 1 has the image_id [1]: it must"),
        (lambda truth, new: new[1].update(category_id={}), "entry 1 has the category_id {}: it must be"),
        (lambda truth, new: truth["images"][2].update(id=[1]), "images, entry 2 has the id [1]: it must"),
        (lambda truth, new: truth["images"][2].update(id=2), "entries 1 and 2 have the same id 2: keep one"),
        (
            lambda truth, new: truth["images"][2].update(height="6"),
            "entry 2 has the height '6' and the width",
        ),
        (lambda truth, new: truth["categories"][1].update(id=3), "categories, entries 0 and 1 have the same"),
        (lambda truth, new: truth["categories"][1].update(name="cat"), "have the same name 'cat': keep one"),
        (
            lambda truth, new: truth["annotations"][1].update(id=1),
            "annotations, entries 0 and 1 have the same",
        ),
        (lambda truth, new: truth["annotations"][1].update(iscrowd=2), "entry 1 has the iscrowd 2: it must"),
        (lambda truth, new: truth.pop("images"), "truth.json is not a file of COCO's format"),
        (lambda truth, new: truth["annotations"].clear(), "none of the 21 test items has ground-truth"),
        (
            lambda truth, new: truth["annotations"][3].pop("bbox"),
            "truth.json, annotations, entry 3 has no 'bbox'",
        ),
    ],
)
def test_what_is_wrong_is_named(files, capsys, tmp_path, change, message):
    truth, results = files
    change(truth, results["new"])
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "new.json").write_text(json.dumps(results["new"]))
    code, out, err = said_by(capsys)
    assert (code, out) == (1, "") and message in err and err.count("\n") == 1


def test_masks_of_another_size_and_broken_files_are_named(files, capsys, tmp_path):
    truth, results = files
    results["new"][0]["segmentation"]["size"] = [SIZE, SIZE + 1]
    (tmp_path / "new.json").write_text(json.dumps(results["new"]))
    code, _, err = said_by(capsys, "--masks")
    assert code == 1 and "new.json, entry 0 has a wrong segmentation" in err
    (tmp_path / "new.json").write_text("{")
    assert "new.json is not a JSON file" in said_by(capsys)[2]
    (tmp_path / "new.json").write_text("{}")
    assert "it must be a list of detections" in said_by(capsys)[2]
    (tmp_path / "new.json").unlink()
    assert "new.json is not there: name a JSON file" in said_by(capsys)[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metric", "accuracy"], "--metric accuracy does not compare boxes: use precision_recall"),
        (["--metric", "mean_iou"], "--metric mean_iou does not compare boxes"),
        (["--metric", "f1", "--points", "101"], "--points needs JSON files and one of precision_recall"),
        (["--iou", "1.5"], "iou_threshold 1.5 must be"),
        (["--points", "1"], "points 1 must be"),
    ],
)
def test_options_that_do_not_fit_are_wrong_usage(files, capsys, options, message):
    code, out, err = said_by(capsys, *options)
    assert (code, out) == (2, "") and message in err


def test_options_of_detectors_are_refused_for_tables(capsys):
    for option in (["--masks"], ["--iou", "0.5"], ["--by-size"], ["--metric", "mean_average_precision"]):
        assert main(["compare", "old.csv", "new.csv", "truth.csv", *option]) == 2
        assert "--" in capsys.readouterr().err

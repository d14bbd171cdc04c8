"""Boxes and masks of items, through the real SDK: written, read, learned, predicted, measured, mined and compared."""

import io
import json
import re
import uuid
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers_contract import MISSING, annotate, fails, install, png
from page_browser import fields, texts

from alhelpers import data, mining
from alhelpers.data.object_set import ObjectSet
from alhelpers.data.objects import Objects
from alhelpers.dataloop import DataSplitter, ModelComparer, read_dataset, reading, write_labels
from alhelpers.dataloop.adapter import LearnerAdapter
from alhelpers.dataloop.compare_models import compare
from alhelpers.dataloop.mine_items import run_round
from alhelpers.dataloop.miner_config import parse_config
from alhelpers.dataloop.mining_pool import pool_query, read_pool
from alhelpers.dataloop.subsets import read_subset
from alhelpers.dataloop.truth import read_mask

NAMES = ["red", "green"]
#: Items are twice as large as the model's images.
SIDE, SIZE, COUNT = 64, 32, 12
OWN = """from alhelpers.learners import Detector

def build(class_names, steps):
    return Detector(class_names, steps=steps)
"""


def pictures(count=COUNT):
    """Noise with one square of each class, but for every sixth picture, which is empty; and the squares' rows."""
    draw = np.random.default_rng(0)
    pixels, found = draw.integers(0, 60, (count, SIDE, SIDE, 3), dtype=np.uint8), []
    for picture in pixels:
        rows = []
        for label, channel in zip(NAMES, (0, 1), strict=True):
            side = int(draw.integers(16, 25))
            left, top = (int(each) for each in draw.integers(0, SIDE - side, 2))
            if len(found) % 6 != 5:
                picture[top : top + side, left : left + side] = 0
                picture[top : top + side, left : left + side, channel] = 255
                place = {"left": left, "top": top, "right": left + side, "bottom": top + side}
                mask = np.zeros((SIDE, SIDE), bool)
                mask[top : top + side, left : left + side] = True
                rows.append({"label": label, **place, "mask": mask})
        if rows:  # the green one is in front
            rows[0]["mask"] = rows[0]["mask"] & ~rows[1]["mask"]
        found.append(rows)
    return pixels, found


def upload(dataset, pixels):
    items = []
    for number, picture in enumerate(pixels):
        file = io.BytesIO(png(picture))
        file.name = f"{number:02}.png"
        items.append(dataset.items.upload(local_path=file, raise_on_error=True))
    return items


@pytest.fixture(scope="module")
def home(dl):
    return dl.projects.create(f"objects-{uuid.uuid4().hex[:8]}")


@pytest.fixture(scope="module")
def app(dl, home):
    return install(dl, home)


@pytest.fixture(scope="module")
def squares(home):
    """A dataset with boxes and masks of its pictures, its items and their rows."""
    dataset = home.datasets.create("squares")
    dataset.add_labels(NAMES)
    pixels, rows = pictures()
    items = upload(dataset, pixels)
    by_item = {item.id: found for item, found in zip(items, rows, strict=True)}
    written = [write_labels(dataset, by_item, task=task) for task in ("detection", "segmentation")]
    assert written == [20, 20]
    return dataset, items, by_item


@pytest.fixture(scope="module")
def make_model(dl, home, app, squares):
    def make(output_type, **configuration):
        return home.models.create(
            model_name=f"{output_type} {uuid.uuid4().hex[:6]}",
            dataset_id=squares[0].id,
            labels=NAMES,
            output_type=output_type,
            configuration={"image_size": SIZE, "colour": True, "seed": 1} | configuration,
            train_filter=dl.Filters(),
            app=app,
            dpk_model_name="tiny-base",
        )

    return make


def trained(dl, model):
    LearnerAdapter(model_entity=model).train_model(model)
    return LearnerAdapter(model_entity=dl.models.get(model_id=model.id))


@pytest.fixture(scope="module")
def detector(dl, make_model):
    parameters = {"steps": 50, "augmentation": False, "score_threshold": 0.3}
    model = make_model("box", learner="detector", parameters=parameters, mc_dropout_passes=3)
    return trained(dl, model)


def test_labels_come_back_as_they_were_written(squares, tmp_path):
    dataset, items, by_item = squares
    again = [write_labels(dataset, by_item, task=task) for task in ("detection", "segmentation")]
    assert again == [0, 0]
    boxes = read_dataset(dataset, folder=tmp_path, task="detection")
    with pytest.warns(
        UserWarning, match="has a class for classification, but some have boxes: pass task='det"
    ):
        assert not len(read_dataset(dataset, folder=tmp_path).labelled)
    assert boxes.class_names == tuple(NAMES) and len(boxes.labelled) == COUNT
    expected = [
        {"image_id": id, **{key: value for key, value in row.items() if key != "mask"}}
        for id, rows in by_item.items()
        for row in rows
    ]
    assert boxes.labels() == expected
    green = {"filter": {"$and": [{"label": "green"}]}}
    found = read_subset(dataset, {}, "train", "detection", NAMES, [SIZE, SIZE], query=green)
    assert found.images.shape == (COUNT, SIZE, SIZE) and {row["label"] for row in found.labels()} == {"green"}
    assert [2 * row["left"] for row in found.labels()] == [
        row["left"] for row in expected if row["label"] == "green"
    ]
    maps = read_dataset(dataset, folder=tmp_path, task="segmentation")
    assert maps.class_names == ("background", *NAMES)
    masks = maps.object_masks()
    for row, found in enumerate(by_item.values()):
        np.testing.assert_array_equal(
            masks[row], np.array([each["mask"] for each in found]).reshape(-1, 64, 64)
        )
    # The platform's own files of annotations hold the same.
    exported = Path(dataset.download_annotations(local_path=str(tmp_path / "json")))
    files = [json.loads(path.read_text()) for path in sorted(exported.rglob("*.json"))]
    for row, file in enumerate(files):
        drawn = [each["coordinates"] for each in file["annotations"] if each["type"] == "binary"]
        for text, mask in zip(drawn, masks[row], strict=True):
            np.testing.assert_array_equal(read_mask(text, (SIDE, SIDE), "mask"), mask)
    assert len(files) == COUNT
    small = read_dataset(dataset, folder=tmp_path, size=SIZE, task="segmentation").load()
    assert small.images.shape == (COUNT, SIZE, SIZE, 3) and small.labels().shape == (COUNT, SIZE, SIZE)
    assert set(np.unique(small.labels())) == {0, 1, 2}


def test_a_data_set_with_objects_is_uploaded_as_files(home, tmp_path):
    pixels, rows = pictures(6)
    flat = [row | {"image_id": number} for number, found in enumerate(rows) for row in found]
    masks = [row.pop("mask") for row in flat]
    objects = Objects.from_rows(flat, range(6), (SIDE, SIDE), NAMES, masks=masks)
    boxes = ObjectSet("files", pixels, objects, NAMES)
    for given in (boxes, boxes.segmentation()):
        dataset = home.datasets.create(f"files {given.task}")
        dataset.add_labels(NAMES)
        table = pd.DataFrame(data.write_folder(given, tmp_path / given.task)).drop(columns="label")
        dataset.items.upload(local_path=table.assign(remote_path="/"), raise_on_error=True)
        read = read_dataset(dataset, folder=tmp_path / "kept", task=given.task).labelled
        assert len(read) == 6
        if given is boxes:
            assert [row | {"image_id": 0} for row in read.labels()] == [
                row | {"image_id": 0} for row in given.labels()
            ]
        else:
            np.testing.assert_array_equal(read.labels(), given.labels())


def test_a_detector_is_trained_on_boxes_and_predicts_them(dl, home, squares, detector):
    dataset, items, _ = squares
    model = detector.model_entity
    detector.evaluate_model(model, dataset)
    values = {each.legend: each.y for each in model.metrics.list().all() if each.figure == "evaluation"}
    assert values.keys() == {"AP50", "mAP"} and values["AP50"] > 0.6  # this seed reaches 0.85
    records = {each["id"]: each for each in reading.records_of(dataset, model).to_pylist()}
    assert records.keys() == {item.id for item in items}
    stored = [each for each in items[0].annotations.list() if not reading.is_ground_truth(each)]
    for each, box in zip(
        sorted(stored, key=lambda each: each.id), records[items[0].id]["detections"], strict=True
    ):
        user = each.metadata["user"]
        assert each.type == "box" and user["model"]["name"] == model.name
        assert box["confidence"] == pytest.approx(user["model"]["confidence"])
        assert (box["left"], box["width"]) == pytest.approx((each.left, each.right - each.left))
        for name in ("class_certainty", "location_certainty", "existence_certainty"):
            assert 0 <= box[name] <= 1 and box[name] == pytest.approx(user["prediction"][name])
    # Where nothing is found, this is a prediction, too: not on a copy, and until the boxes are others than the model's.
    assert records[items[5].id]["detections"] == [] and items[5].annotations.list().annotations == []
    copy = dataset.items.get(item_id=items[5].id).clone(dst_dataset_id=home.datasets.create("copy").id)
    assert "predictions" in copy.metadata["user"]
    assert reading.predictions_of(copy.dataset, [copy.id], model.id) == {}
    annotate(
        dl,
        items[5],
        dl.Box(1, 1, 9, 9, label="red"),
        metadata={"user": {"model": {"name": "m", "model_id": model.id}}},
    )
    assert items[5].id not in reading.predictions_of(dataset, [items[5].id], model.id)
    items[5].annotations.delete(filters=dl.Filters(resource=dl.FiltersResource.ANNOTATION))


def test_uncertain_boxes_are_mined(squares, detector):
    dataset, items, _ = squares
    detector.predict_items(items, store_embeddings=True)
    records = reading.records_of(dataset, detector.model_entity)
    assert len(records) == COUNT and len(records["embeddings"][0]) > 1
    expected = mining.mine(records, "box_uncertainty", 3)
    found = run_round(dataset, detector.model_entity, None, {"strategy": "box_uncertainty", "size": 3})
    assert [item.id for item in found.items] == expected.ids and "predicted first" not in found.message
    found = run_round(dataset, detector.model_entity, None, {"strategy": "coreset", "size": 3})
    assert len(found.items) == 3


def test_classes_of_labelled_boxes_are_counted(squares, detector):
    dataset, items, _ = squares
    detector.predict_items(items)
    config = {"strategy": "weighted_box_uncertainty", "size": 3, "max_boxes": 0.1}
    parsed = parse_config(config)
    assert parsed.needs_predictions and not parsed.reference_predictions and not parsed.reference_labels
    labelled = read_pool(dataset, detector.model_entity, [item.id for item in items], parsed, reference=True)
    classes = Counter(box["class_name"] for record in labelled.records for box in record["detections"])
    assert classes == Counter(
        box.label for item in items for box in reading.ground_truth_of(dataset, [item.id])
    )
    assert len(run_round(dataset, detector.model_entity, None, config, dataset).items) == 1


def test_two_detectors_are_compared(squares, detector, make_model):
    dataset, items, _ = squares
    detector.predict_items(items)
    untrained = make_model("box", learner="detector")
    LearnerAdapter(model_entity=untrained).predict_items(items)
    winner = ModelComparer.compare_models(untrained, detector.model_entity, dataset=dataset)
    assert winner.id == detector.model_entity.id
    kept = winner.metadata["user"]["compare"]
    assert kept["test_items"] == COUNT and kept["new"] > 0.6 > kept["previous"]


def test_a_segmenter_is_trained_on_masks_and_predicts_them(dl, squares, make_model):
    dataset, items, _ = squares
    parameters = {"steps": 80, "augmentation": False}
    model = make_model("binary", learner="segmenter", parameters=parameters, mc_dropout_passes=3)
    adapter = trained(dl, model)
    adapter.evaluate_model(adapter.model_entity, dataset)
    values = {each.legend: each.y for each in model.metrics.list().all() if each.figure == "evaluation"}
    assert values["mean IoU"] > 0.5  # this seed reaches 0.64
    masks = [each for each in items[0].annotations.list() if reading.made_by(each.metadata)[0] == model.id]
    assert sorted(each.label for each in masks) == sorted(NAMES)
    assert {(each.type, each.geo.shape) for each in masks} == {("binary", (SIDE, SIDE))}
    records = reading.records_of(dataset, model, pool_query(None))
    expected = mining.mine(records, "metadata.bald", 3)
    found = run_round(dataset, adapter.model_entity, None, {"strategy": "metadata.bald", "size": 3})
    assert [item.id for item in found.items] == expected.ids
    copied = adapter.model_entity.clone(f"clone {uuid.uuid4().hex[:6]}", dataset=dataset)
    LearnerAdapter(model_entity=copied).predict_items(items)
    kept = compare(adapter.model_entity, copied, {"mean_iou": {}}, dataset)
    assert (kept.better, kept.new) == (False, kept.previous) and kept.new == pytest.approx(values["mean IoU"])


def test_an_own_function_returns_a_detector(squares, make_model, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)

    class Adapter(LearnerAdapter):
        own_code = tmp_path

    model = make_model("box", learner={"module": "mine.py:build"}, parameters={"steps": 1})
    adapter = Adapter(model_entity=Adapter(model_entity=model).train_model(model))
    assert adapter.learner.class_names == tuple(NAMES)
    model = make_model("binary", learner={"module": "mine.py:build"}, parameters={"steps": 1})
    fails(
        ValueError,
        "has the output_type 'binary', and its learner is for detection",
        Adapter,
        model_entity=model,
    )


def test_masks_of_a_model_are_shown_and_accepted_on_the_page(dl, home, browser):
    dataset = home.datasets.create("page")
    dataset.add_labels(NAMES)
    accepted, left = upload(dataset, pictures(2)[0])
    task = dataset.tasks.create(
        task_name=f"page {home.id}", assignee_ids=["ann@example.com"], filters=dl.Filters()
    )
    info = {"name": "net", "model_id": MISSING, "confidence": 0.9}
    for item in (accepted, left):
        builder = item.annotations.builder()
        builder.add(dl.Segmentation(geo=np.eye(SIDE), label="red"), model_info=info)
        builder.add(dl.Box(2, 2, 9, 9, label="green"), model_info=info)
        item.annotations.upload(builder)
        annotate(dl, item, dl.Box(1, 1, 5, 5, label="red"))
    marks = browser.page(f"/items/{left.id}").select("svg.picture .mark")
    assert [each.title.text for each in marks] == ["red? 90%", "green? 90%", "red"]
    assert ["predicted" in each["class"] for each in marks] == [True, True, False]
    for item, answer in ((accepted, {"accept": "yes"}), (left, {})):
        path = f"/tasks/{task.id}/items/{item.id}"
        page = browser.page(path)
        assert "net suggests 1 box and 1 mask" in texts(page)
        assert browser.send("POST", path, fields(page.find(id="label")) | answer).status == 303
    found = accepted.annotations.list()
    (mask,) = [each for each in found if each.type == "binary"]
    assert np.array_equal(mask.geo, np.eye(SIDE)) and mask.label == "red"
    assert len(found) == 3 and all(map(reading.is_ground_truth, found))
    assert [each.type for each in left.annotations.list()] == ["box"]


def test_what_cannot_be_learned_from_is_named(dl, home, make_model, tmp_path):
    dataset = home.datasets.create("spoilt")
    dataset.add_labels(NAMES)
    first, second = upload(dataset, pictures(2)[0])

    def read(task):
        return read_dataset(dataset, folder=tmp_path, task=task, class_names=NAMES)

    box, mask = {"label": "red", "left": 2, "top": 2, "right": 9, "bottom": 9}, np.ones((SIDE, SIDE), bool)
    for task, label, message in (
        (
            "detection",
            box | {"right": 70},
            r"the box 'red' of item '/00.png', \[2, 2, 70, 9\], is not inside of the image, 64",
        ),
        ("detection", box | {"right": 2}, "has no area"),
        ("detection", box | {"top": np.nan}, "must be four finite numbers"),
        ("detection", box | {"label": "blue"}, "is 'blue', which dataset 'spoilt' does not have"),
        (
            "detection",
            {"label": "red", "mask": mask},
            "for detection it must be a dict with label, left, top",
        ),
        (
            "segmentation",
            {"label": "red", "mask": mask[1:]},
            "is 64 wide and 63 high, but its image 64 wide and 64",
        ),
        ("segmentation", {"label": "red", "mask": ~mask}, "has no area"),
    ):
        fails(ValueError, message, write_labels, dataset, {second.id: [], first.id: [label]}, task=task)
    assert not read("detection")._is_labelled.any()
    for definition, task, message in (
        (
            dl.Box(2, 2, 9, 90, label="red"),
            "detection",
            "box .* of item '/00.png', .* is not inside of the image",
        ),
        (dl.Box(2, 2, 9, 2, label="red"), "detection", "has no area"),
        (dl.Box(2, 2, 9, 9, label="blue"), "detection", "has the label 'blue', which is none of red, green"),
        (dl.Box(2, 2, 9, 9, label="red", angle=30), "detection", "is turned by 30 degrees"),
        (
            dl.Segmentation(geo=np.ones((9, 9)), label="red"),
            "segmentation",
            "is 9 wide and 9 high, but its image 64",
        ),
        (dl.Segmentation(geo=np.zeros((SIDE, SIDE)), label="red"), "segmentation", "has no area"),
        (dl.Polygon(geo=[(1, 1), (90, 1), (9, 9)], label="red"), "segmentation", "segment .* beyond"),
    ):
        (annotation,) = annotate(dl, first, definition)
        with pytest.warns(UserWarning, match="1 of 2 items have labels that cannot be used"):
            found = read(task)
        (problem,) = found.problems
        assert problem.id == first.id and re.search(message, problem.reason)
        assert not len(found.labelled) and found.unlabelled.readable().ids.tolist() == [second.id]
        fails(
            ValueError, message, read_subset, dataset, {}, "train", task, NAMES, SIZE, include_background=True
        )
        annotation.delete()
    model = make_model("box", learner="detector")
    model.dataset_id = dataset.id
    train = LearnerAdapter(model_entity=model.update()).train_model
    fails(ValueError, "2 of the 2 items of the train subset have no label: '/00.png'", train, model)
    found = read_subset(dataset, {}, "train", "detection", NAMES, SIZE, colour=True, include_background=True)
    assert len(found) == 2 and found.labels() == []
    annotate(dl, second, dl.Polygon(geo=[(2, 2), (12, 2), (12, 12), (2, 12)], label="green"))
    maps = read("segmentation").labelled
    assert maps.ids.tolist() == [second.id] and (maps.labels()[0, 2:12, 2:12] == 2).all()
    for configuration, message in (
        ({"learner": "segmenter"}, "has the output_type 'box', and its learner is for segmentation"),
        ({"learner": "detector", "parameters": {"step": 1}}, "Detector has no parameter 'step'"),
    ):
        fails(ValueError, message, LearnerAdapter, make_model("box", **configuration))


def test_an_image_without_objects_is_labelled_only_if_people_say_so(dl, home, tmp_path):
    dataset = home.datasets.create("empty")
    dataset.add_labels(NAMES)
    done, discarded, classified, open_, marked = items = upload(dataset, pictures(5)[0])
    task = dataset.tasks.create(
        task_name=f"empty {home.id}", assignee_ids=["ann@example.com"], filters=dl.Filters()
    )
    annotate(dl, classified, dl.Classification("red"))
    for item, status in ((done, "completed"), (discarded, "discard"), (classified, "completed")):
        dataset.items.get(item_id=item.id).update_status(status, task_id=task.id)
    write_labels(dataset, {marked.id: []}, task="detection")

    def labelled():
        return read_dataset(dataset, folder=tmp_path, task="detection").labelled.ids.tolist()

    assert labelled() == [done.id, marked.id]
    # A copy is in no task, but keeps what Model Data Split has marked.
    for item in items:
        DataSplitter.data_split(item)
    copies = home.datasets.create("copies")
    copies.add_labels(NAMES)
    for item in dataset.items.list().all():
        item.clone(dst_dataset_id=copies.id)
    found = read_dataset(copies, folder=tmp_path / "copies", task="segmentation").labelled
    assert len(found) == 2
    write_labels(
        dataset,
        {marked.id: [{"label": "red", "left": 1, "top": 1, "right": 5, "bottom": 5}]},
        task="detection",
    )
    assert (
        labelled() == [done.id, marked.id]
        and not dataset.items.get(item_id=marked.id).metadata["user"]["no_objects"]
    )

"""Boxes and masks of items, through the real SDK: written, read, learned, predicted, measured, mined and compared."""

import io
import uuid

import numpy as np
import pytest
from helpers_contract import annotate, fails, install, png

from alhelpers import data, mining
from alhelpers.dataloop import read_dataset, reading, write_labels

NAMES = ["red", "green"]
#: Items are twice as large as the model's images.
SIDE, SIZE, COUNT = 64, 32, 12


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
    from alhelpers.dataloop.adapter import LearnerAdapter

    LearnerAdapter(model_entity=model).train_model(model)
    return LearnerAdapter(model_entity=dl.models.get(model_id=model.id))


@pytest.fixture(scope="module")
def detector(dl, make_model):
    parameters = {"steps": 120, "augmentation": False}
    model = make_model("box", learner="detector", parameters=parameters, mc_dropout_passes=3)
    return trained(dl, model)


def test_labels_come_back_as_they_were_written(squares, tmp_path):
    dataset, items, by_item = squares
    again = [write_labels(dataset, by_item, task=task) for task in ("detection", "segmentation")]
    assert again == [0, 0]
    boxes = read_dataset(dataset, folder=tmp_path, task="detection")
    assert boxes.class_names == tuple(NAMES) and len(boxes.labelled) == COUNT
    expected = [
        {"image_id": id, **{key: value for key, value in row.items() if key != "mask"}}
        for id, rows in by_item.items()
        for row in rows
    ]
    assert boxes.labels() == expected
    maps = read_dataset(dataset, folder=tmp_path, task="segmentation")
    assert maps.class_names == ("background", *NAMES)
    masks = maps.object_masks()
    for row, found in enumerate(by_item.values()):
        np.testing.assert_array_equal(masks[row], np.array([each["mask"] for each in found]).reshape(-1, 64, 64))
    small = read_dataset(dataset, folder=tmp_path, size=SIZE, task="segmentation").load()
    assert small.images.shape == (COUNT, SIZE, SIZE, 3) and small.labels().shape == (COUNT, SIZE, SIZE)
    assert set(np.unique(small.labels())) == {0, 1, 2}


def test_a_detector_is_trained_on_boxes_and_predicts_them(dl, squares, detector):
    dataset, items, by_item = squares
    model = detector.model_entity
    detector.evaluate_model(model, dataset)
    values = {each.legend: each.y for each in model.metrics.list().all() if each.figure == "evaluation"}
    print(values)
    assert values.keys() == {"AP50", "mAP"} and values["AP50"] > 0.8
    records = reading.records_of(dataset, model).to_pylist()
    assert [record["id"] for record in records] and len(records) == COUNT
    found = next(each for each in items[0].annotations.list() if not reading.is_ground_truth(each))
    assert found.type == "box" and found.metadata["user"]["model"]["model_id"] == model.id
    print(found.metadata, records[0])

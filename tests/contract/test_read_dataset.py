"""A Dataloop dataset as a data set of the kit, and back, through the real SDK."""

import uuid

import numpy as np
import pytest
from helpers_contract import png

from alhelpers import mining
from alhelpers.dataloop import read_dataset, write_labels, write_picks
from alhelpers.dataloop.mining_pool import pool_query
from alhelpers.dataloop.reading import find_items, labels_of
from alhelpers.protocols import Dataset

NAMES = ["a.png", "b.png", "c.png", "d.png"]


@pytest.fixture
def photos(dl, project, tmp_path):
    """Four images, the labels cat and dog, and a file that is no image."""
    dataset = project.datasets.create(f"photos-{uuid.uuid4().hex[:8]}")
    dataset.add_labels(["dog", "cat"])
    for number, name in enumerate(NAMES):
        (tmp_path / name).write_bytes(png(np.full((4, 6, 3), 10 * number, np.uint8)))
    (tmp_path / "notes.txt").write_text("no image")
    dataset.items.upload(f"{tmp_path}/*", raise_on_error=True)
    return dataset


@pytest.fixture
def ids(photos):
    return {item.name: item.id for item in find_items(photos)}


def test_images_and_labels_are_read_and_labels_are_written(dl, photos, ids, tmp_path):
    kept = tmp_path / "kept"
    assert write_labels(photos, {ids["a.png"]: "cat", ids["c.png"]: "dog"}) == 2
    prediction = dl.Annotation.new(annotation_definition=dl.Classification(label="cat"))
    prediction.metadata = {"user": {"model": {"name": "m", "model_id": "1", "confidence": 0.5}}}
    photos.items.get(item_id=ids["b.png"]).annotations.upload(prediction)

    calls = []
    dataset = read_dataset(photos, folder=kept, progress=lambda *done: calls.append(done))
    assert isinstance(dataset, Dataset) and dataset.class_names == ("dog", "cat")
    assert dataset.ids.tolist() == [ids[name] for name in NAMES]
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert dataset.labelled.ids.tolist() == [ids["a.png"], ids["c.png"]]
    assert dataset.labelled.labels().tolist() == [1, 0]
    images = dataset.inputs()
    assert images.shape == (4, 3, 4, 6)
    np.testing.assert_allclose(images[:, 0, 0, 0] * 255, [0, 10, 20, 30], rtol=1e-5)
    assert sorted(path.name for path in kept.iterdir()) == sorted(
        f"{id}.png" for id in ids.values() if id != ids["notes.txt"]
    )

    # what is there is not downloaded again, and what was cut off is
    times = {path: path.stat().st_mtime_ns for path in kept.iterdir()}
    cut = kept / f"{ids['b.png']}.png"
    cut.write_bytes(cut.read_bytes()[:20])
    again = read_dataset(photos, folder=kept, size=8, mode="L", class_names=["cat", "dog", "bird"])
    assert again.inputs().shape == (4, 1, 8, 8) and again.labelled.labels().tolist() == [0, 1]
    assert [path for path, time in times.items() if path.stat().st_mtime_ns != time] == [cut]

    filters = dl.Filters(field="name", values="b.png")
    assert read_dataset(photos, filters, folder=kept).ids.tolist() == [ids["b.png"]]

    # the same labels again are none, and another one is refused before any is written
    assert write_labels(photos, {ids["a.png"]: "cat"}) == 0
    with pytest.raises(ValueError, match=r"item '/a.png' .* has the class 'cat' and would get dog"):
        write_labels(photos, {ids["b.png"]: "dog", ids["a.png"]: "dog"})
    assert set(labels_of(photos, list(ids.values()))) == {ids["a.png"], ids["c.png"]}


def test_several_classes_an_item(photos, ids, tmp_path):
    write_labels(photos, {ids["a.png"]: ["cat", "dog"], ids["b.png"]: ["cat"]})
    with pytest.raises(
        ValueError, match="item '/a.png' has the classes cat, dog: keep one, or pass task='multilabel'"
    ):
        read_dataset(photos, folder=tmp_path / "kept")
    dataset = read_dataset(photos, folder=tmp_path / "kept", task="multilabel")
    assert dataset.labelled.labels().tolist() == [[1, 1], [0, 1]] and len(dataset.unlabelled) == 2


def test_wrong_items_and_labels_are_named(dl, photos, ids, tmp_path):
    with pytest.raises(ValueError, match="none of 1 items of dataset 'photos-.*' is an image"):
        read_dataset(photos, dl.Filters(field="name", values="notes.txt"))
    write_labels(photos, {ids["a.png"]: "cat"})
    with pytest.raises(ValueError, match="item '/a.png' has the class 'cat', which is none of dog"):
        read_dataset(photos, folder=tmp_path / "kept", class_names=["dog"])
    with pytest.raises(
        ValueError, match="is 'bird', which dataset .* does not have: add it with dataset.add_labels"
    ):
        write_labels(photos, {ids["b.png"]: "dog", ids["c.png"]: "bird"})
    with pytest.raises(ValueError, match="has no item 'nowhere', one of 1 that are missing"):
        write_labels(photos, {ids["b.png"]: "dog", "nowhere": "dog"})
    with pytest.raises(ValueError, match="has no item 'nowhere'"):
        write_picks(photos, mining.Selection([ids["b.png"], "nowhere"], np.array([1, 0], np.float32), {}))
    assert not labels_of(photos, [ids["b.png"]])
    with pytest.raises(ValueError, match="task is 'boxes'"):
        read_dataset(photos, task="boxes")


def test_picks_are_marked_and_left_out_of_later_rounds(photos, ids):
    meta = {"strategy": "entropy", "pool": 4}
    first = mining.Selection([ids["b.png"], ids["d.png"]], np.array([0.75, 0.5], np.float32), meta)
    items = write_picks(photos, first)
    marks = [item.metadata["user"]["mining"] for item in items]
    assert [(mark["round"], mark["rank"], mark["score"]) for mark in marks] == [(1, 1, 0.75), (1, 2, 0.5)]
    assert {mark["strategy"] for mark in marks} == {"entropy"} and marks[0]["pool"] == 4
    waiting = find_items(photos, pool_query(None))
    assert sorted(item.name for item in waiting) == ["a.png", "c.png", "notes.txt"]
    second = mining.Selection([ids["d.png"], ids["a.png"]], np.array([0.75, 0.5], np.float32), meta)
    assert [item.name for item in write_picks(photos, second)] == ["a.png"]
    assert photos.items.get(item_id=ids["a.png"]).metadata["user"]["mining"]["round"] == 2

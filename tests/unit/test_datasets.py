import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from alhelpers import datasets


@pytest.mark.parametrize(
    ("name", "pool", "test", "side"), [("digits", 1297, 500, 8), ("mnist", 5000, 2000, 28)]
)
def test_sizes_types_and_order(name, pool, test, side):
    first, held_out = datasets.load(name, seed=3)
    assert first.images.shape == (pool, side, side) and held_out.images.shape == (test, side, side)
    assert first.images.dtype == np.uint8 and first.labels.dtype == np.int64
    assert set(np.unique(first.labels)) == set(range(10))
    again, _ = datasets.load(name, seed=3)
    other, _ = datasets.load(name, seed=4)
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, other.images)
    assert len(np.unique(first.labels[:100])) == len(np.unique(held_out.labels[:100])) == 10


def test_digits_pool_and_test_partition_the_source():
    pool, test = datasets.load("digits", seed=1)
    images = np.concatenate([pool.images, test.images])
    labels = np.concatenate([pool.labels, test.labels])
    ours = sorted((int(label), image.tobytes()) for image, label in zip(images, labels, strict=True))
    source = load_digits()
    scaled = np.round(source.images * (255 / 16)).astype(np.uint8)
    theirs = sorted((int(label), image.tobytes()) for image, label in zip(scaled, source.target, strict=True))
    assert ours == theirs


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown data set 'cifar': choose one of digits, mnist"):
        datasets.load("cifar")


def test_missing_mnist_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("ALHELPERS_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="set ALHELPERS_DATA"):
        datasets.load("mnist")


def test_written_folder_reads_back(tmp_path):
    pool, _ = datasets.load("digits")
    few = pool.take(np.arange(5))
    rows = datasets.write_folder(few, tmp_path, prefix="raw")
    for row, image, label in zip(rows, few.images, few.labels, strict=True):
        assert np.array_equal(np.asarray(Image.open(row["local_path"])), image)
        with open(row["local_annotations_path"]) as file:
            assert json.load(file)["annotations"][0]["label"] == few.class_names[label] == row["label"]
    assert [row["local_path"].rsplit("/", 1)[-1] for row in rows] == [f"raw-{n:05d}.png" for n in range(5)]


def test_unlabelled_folder_has_no_annotation_files(tmp_path):
    pool, _ = datasets.load("digits")
    rows = datasets.write_folder(pool.take(np.arange(3)), tmp_path, labelled=False)
    assert all(row["local_annotations_path"] is None for row in rows)
    assert list((tmp_path / "json").iterdir()) == []

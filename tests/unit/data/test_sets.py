import gzip
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from alhelpers import data


@pytest.mark.parametrize(
    ("name", "pool", "test", "side"), [("digits", 1297, 500, 8), ("mnist", 5000, 2000, 28)]
)
def test_sizes_types_and_order(name, pool, test, side):
    first, held_out = data.load(name, seed=3)
    assert first.images.shape == (pool, side, side) and held_out.images.shape == (test, side, side)
    assert first.images.dtype == np.uint8 and first.labels.dtype == np.int64
    assert set(np.unique(first.labels)) == set(range(10))
    again, _ = data.load(name, seed=3)
    other, _ = data.load(name, seed=4)
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, other.images)
    assert len(np.unique(first.labels[:100])) == len(np.unique(held_out.labels[:100])) == 10


def test_digits_pool_and_test_partition_the_source():
    pool, test = data.load("digits", seed=1)
    images = np.concatenate([pool.images, test.images])
    labels = np.concatenate([pool.labels, test.labels])
    ours = sorted((int(label), image.tobytes()) for image, label in zip(images, labels, strict=True))
    source = load_digits()
    scaled = np.round(source.images * (255 / 16)).astype(np.uint8)
    theirs = sorted((int(label), image.tobytes()) for image, label in zip(scaled, source.target, strict=True))
    assert ours == theirs


@pytest.mark.parametrize("size", [8, 28])
def test_patches_are_squares_of_the_two_photographs_in_turn(size):
    patches = data.photo_patches(6, size, seed=2)
    assert patches.shape == (6, size, size) and patches.dtype == np.uint8
    assert np.array_equal(patches, data.photo_patches(6, size, seed=2))
    assert np.array_equal(patches[:4], data.photo_patches(4, size, seed=2)), "more of them begin alike"
    assert not np.array_equal(patches, data.photo_patches(6, size, seed=3))
    assert len({patch.tobytes() for patch in patches}) == 6


def test_a_patch_is_cut_out_of_a_photograph_and_shrunk():
    """At full size each patch is found in its photograph, pixel by pixel."""
    photos = [np.asarray(Image.fromarray(photo).convert("L")) for photo in load_sample_images().images]
    for number, patch in enumerate(data.photo_patches(4, 64, seed=5)):
        squares = np.lib.stride_tricks.sliding_window_view(photos[number % 2], (64, 64))
        row_starts = np.argwhere((squares[:, :, 0] == patch[0]).all(axis=-1))
        assert any(np.array_equal(squares[row, column], patch) for row, column in row_starts)
    (small,) = data.photo_patches(1, 8, seed=5)
    (large,) = data.photo_patches(1, 64, seed=5)
    means = large.reshape(8, 8, 8, 8).mean(axis=(1, 3))
    assert np.abs(small - means).max() <= 1, "rounded twice: across, then down"


@pytest.mark.parametrize(("count", "size"), [(0, 8), (3, 0)])
def test_patches_that_cannot_be_cut_are_refused(count, size):
    with pytest.raises(ValueError, match=f"count is {count} and size {size}"):
        data.photo_patches(count, size)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown data set 'cifar': choose one of digits, mnist"):
        data.load("cifar")


def test_missing_mnist_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("ALHELPERS_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="set ALHELPERS_DATA"):
        data.load("mnist")


def test_written_folder_reads_back(tmp_path):
    pool, _ = data.load("digits")
    few = pool.take(np.arange(5))
    rows = data.write_folder(few, tmp_path, prefix="raw")
    for row, image, label in zip(rows, few.images, few.labels, strict=True):
        assert np.array_equal(np.asarray(Image.open(row["local_path"])), image)
        with open(row["local_annotations_path"]) as file:
            assert json.load(file)["annotations"][0]["label"] == few.class_names[label] == row["label"]
    assert [row["local_path"].rsplit("/", 1)[-1] for row in rows] == [f"raw-{n:05d}.png" for n in range(5)]


def test_unlabelled_folder_has_no_annotation_files(tmp_path):
    pool, _ = data.load("digits")
    rows = data.write_folder(pool.take(np.arange(3)), tmp_path, labelled=False)
    assert all(row["local_annotations_path"] is None for row in rows)
    assert list((tmp_path / "json").iterdir()) == []


def write_idx(path, array, packed):
    sizes = np.array(array.shape, ">u4").tobytes()
    content = bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()
    if packed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


@pytest.fixture
def idx_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ALHELPERS_DATA", str(tmp_path))
    folder = tmp_path / "cache" / "mnist-whole"
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number, name in enumerate(data.IDX_FILES):
        count = 30 if number < 2 else 12
        array = draw.integers(0, 256, (count, 28, 28)) if number % 2 == 0 else np.arange(count) % 10
        write_idx(folder / name, array, packed=number == 0)
    return folder


def test_whole_mnist_is_read_where_its_files_are_put(idx_folder):
    pool, test = data.load("mnist-whole", seed=1)
    assert pool.images.shape == (30, 28, 28) and test.images.shape == (12, 28, 28)
    source = np.random.default_rng(0).integers(0, 256, (30, 28, 28)).astype(np.uint8)
    label_of = {image.tobytes(): number % 10 for number, image in enumerate(source)}
    assert [label_of[image.tobytes()] for image in pool.images] == pool.labels.tolist()
    assert pool.labels.tolist() != (np.arange(30) % 10).tolist(), "shuffled"


def test_what_is_missing_of_whole_mnist_is_named_with_its_place(idx_folder):
    (idx_folder / data.IDX_FILES[3]).unlink()
    with pytest.raises(FileNotFoundError, match="mnist-whole.*t10k-labels-idx1-ubyte is missing"):
        data.load("mnist-whole")
    with pytest.raises(FileNotFoundError, match="fashion-mnist.*train-images"):
        data.load("fashion-mnist")


def test_a_file_that_was_cut_in_half_is_named(idx_folder):
    path = idx_folder / data.IDX_FILES[2]
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="t10k-images-idx3-ubyte is no whole idx file"):
        data.load("mnist-whole")


def test_images_and_labels_that_do_not_belong_together(idx_folder):
    write_idx(idx_folder / data.IDX_FILES[1], np.zeros(7), packed=False)
    with pytest.raises(ValueError, match="do not belong together"):
        data.load("mnist-whole")

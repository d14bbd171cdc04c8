import gzip
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.sparse import coo_matrix
from sklearn.datasets import load_digits, load_sample_images

from alhelpers import data, files, protocols


@pytest.mark.parametrize(
    ("name", "pool", "test", "side"),
    [("digits", 1297, 500, 8), ("mnist", 5000, 2000, 28), ("fashion", 5000, 2000, 28)],
)
def test_sizes_types_and_order(name, pool, test, side):
    first, held_out = data.load(name, seed=3)
    assert first.images.shape == (pool, side, side) and held_out.images.shape == (test, side, side)
    assert first.images.dtype == np.uint8 and first.labels().dtype == np.int64
    assert set(np.unique(first.labels())) == set(range(10))
    again, _ = data.load(name, seed=3)
    other, _ = data.load(name, seed=4)
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, other.images)
    assert len(np.unique(first.labels()[:100])) == len(np.unique(held_out.labels()[:100])) == 10


def test_digits_pool_and_test_partition_the_source():
    pool, test = data.load("digits", seed=1)
    images = np.concatenate([pool.images, test.images])
    labels = np.concatenate([pool.labels(), test.labels()])
    ours = sorted((int(label), image.tobytes()) for image, label in zip(images, labels, strict=True))
    source = load_digits()
    scaled = np.round(source.images * (255 / 16)).astype(np.uint8)
    theirs = sorted((int(label), image.tobytes()) for image, label in zip(scaled, source.target, strict=True))
    assert ours == theirs


@pytest.mark.parametrize("shape", [(4, 5, 7), (4, 5, 7, 1), (4, 5, 7, 3)])
def test_images_of_any_size_and_colour_become_planes(shape):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    dataset = data.ImageSet("own", images, [0, 1, 1, 0], [True, 7.5])
    assert isinstance(dataset, protocols.Dataset) and dataset.task == "classification"
    assert dataset.class_names == ("True", "7.5")
    assert list(dataset.ids) == [f"own-{row:05d}" for row in range(4)]
    inputs = dataset.inputs(np.array([2, 0]))
    assert inputs.shape == (2, shape[3] if len(shape) == 4 else 1, 5, 7) and inputs.dtype == np.float32
    expected = images[[2, 0]].reshape(2, 5, 7, -1).transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(inputs, expected, rtol=1e-6)
    taken = dataset.take([3, 1])
    assert list(taken.ids) == ["own-00003", "own-00001"] and taken.labels().tolist() == [0, 1]
    np.testing.assert_array_equal(taken.images, images[[3, 1]])
    assert [len(dataset), len(taken), len(dataset.take([1, 1, 1]))] == [4, 2, 3]


def test_clothes_are_balanced_named_and_ship_with_their_licence():
    pool, test = data.load("fashion", seed=0)
    assert (
        np.bincount(pool.labels()).tolist() == [500] * 10
        and np.bincount(test.labels()).tolist() == [200] * 10
    )
    assert pool.class_names == test.class_names and pool.class_names[9] == "ankle boot"
    assert pool.name == "fashion" and pool.ids[0].startswith("fashion-")
    # Trousers are empty between the legs: labels belong to their images.
    mean = {name: pool.images[pool.labels() == label].mean(0) for label, name in enumerate(pool.class_names)}
    assert mean["trouser"][20:, 12:16].mean() < mean["bag"][20:, 12:16].mean()
    sheet = (files.SHIPPED_DATA / "README.md").read_text()
    assert "Copyright (c) 2017 Zalando SE" in sheet and "THE SOFTWARE IS PROVIDED" in sheet


def test_ids_of_the_kit_s_sets_are_distinct_and_stay_with_their_images():
    for name in ("digits", "mnist", "fashion"):
        pool, test = data.load(name, seed=1)
        other, _ = data.load(name, seed=2)
        assert not set(pool.ids) & set(test.ids)
        image_of = dict(zip(pool.ids.tolist(), pool.images, strict=True))
        shared = [row for row, key in enumerate(other.ids.tolist()) if key in image_of][:20]
        assert shared and all(np.array_equal(other.images[row], image_of[other.ids[row]]) for row in shared)


def test_arrays_may_be_several_inputs_a_row_and_have_any_labels():
    inputs = {"pixels": np.arange(12).reshape(4, 3), "text": np.array(list("abcd"))}
    dataset = data.ArrayDataset(inputs, [0.5, 1, 2, 3], task="regression", ids=list("wxyz"))
    assert dataset.inputs([1])["text"].tolist() == ["b"] and dataset.labels([3, 0]).tolist() == [3, 0.5]
    assert dataset.part(2, start=1).inputs()["pixels"].tolist() == [[3, 4, 5], [6, 7, 8]]
    assert dataset.class_names is None and list(dataset.take(slice(2)).ids) == ["w", "x"]
    pair = data.ArrayDataset((np.zeros((2, 3)), [1, 2]))
    assert [values.shape for values in pair.inputs([0])] == [(1, 3), (1,)]
    with pytest.raises(ValueError, match="no labels: pass labels="):
        pair.labels()


IMAGES = np.zeros((2, 4, 4), np.uint8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: data.ImageSet("x", IMAGES[0], [0, 0], "ab"), r"uint8 \(4, 4\): they must be a uint8 array"),
        (lambda: data.ImageSet("x", IMAGES / 255, [0, 0], "ab"), r"images are float64 \(2, 4, 4\)"),
        (lambda: data.ImageSet("x", IMAGES, [0, 2], "ab"), "labels hold 2.*from 0 to 1"),
        (lambda: data.ImageSet("x", IMAGES, [0, -1], "ab"), "labels hold -1"),
        (lambda: data.ImageSet("x", IMAGES, [0, 0], "aa"), "class_names must be distinct, got a, a"),
        (lambda: data.ImageSet("x", IMAGES, [0], "ab"), r"lengths \[2, 2, 1\]"),
        (lambda: data.ImageSet("x", IMAGES, None, "ab", ids=[1, 1]), "ids must be distinct"),
        (
            lambda: data.ImageSet("x", IMAGES, None, "ab").part(3),
            "3 rows from row 0.*'x' has 2: ask for fewer",
        ),
        (lambda: data.ImageSet("x", IMAGES, None, "ab", ids=[1, "b"]), "ids hold texts and 1"),
        (
            lambda: data.ImageSet("x", IMAGES, None, "ab", ids=[(1, 2), (3, 4)]),
            r"ids have the shape \(2, 2\)",
        ),
        (lambda: data.ArrayDataset({}), "inputs are empty: pass an array"),
        (lambda: data.ImageSet("x", [[0, 255]], [0, 1], "ab"), "images are list"),
    ],
)
def test_data_that_does_not_fit_together_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([True, False], [1, 0]),
        (np.array([1, 0], dtype=object), [1, 0]),
        (np.array([1, 0], np.uint8), [1, 0]),
        ([1.0, 0.0], [1, 0]),
        (pd.Series([True, False], [5, 6]), [1, 0]),
        ([0.5, 1], r"labels hold 0.5 \(float64\) for record p: they must be whole numbers from 0 to 1"),
        ([0, None], r"labels hold None .*for record q: .*leave out rows without a label"),
        ([1, np.nan], "labels hold nan .*for record q"),
        (["1", "0"], "labels hold '1' .*for record p"),
    ],
)
def test_labels_are_indices_of_any_type_and_nothing_is_rounded_to_one(labels, expected):
    for make in (
        lambda: data.ImageSet("x", IMAGES, labels, "ab", ids=["p", "q"]),
        lambda: data.ArrayDataset(IMAGES, labels, "ab", ids=["p", "q"]),
    ):
        if isinstance(expected, list):
            assert make().labels().tolist() == expected and make().labels().dtype.kind in "iu"
        else:
            with pytest.raises(ValueError, match=expected):
                make()


def test_rows_of_tables_and_sparse_matrices_are_rows():
    frame = pd.DataFrame({1: [1.0, 2, 3], 0: list("xyz"), 2: [7, 8, 9]})
    dataset = data.ArrayDataset(frame, [0, 1, 0], "ab")
    for taken in (dataset.inputs(np.array([2, 0])), dataset.take([2, 0]).inputs()):
        pd.testing.assert_frame_equal(taken, frame.iloc[[2, 0]])
    sparse = data.ArrayDataset(coo_matrix(np.eye(3)))
    assert sparse.take([2, 0]).inputs([0]).toarray().tolist() == [[0, 0, 1]]


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


def test_unknown_and_missing_sets_are_errors_with_the_way_out(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="unknown data set 'cifar': choose one of digits, mnist"):
        data.load("cifar")
    monkeypatch.setattr(files, "SHIPPED_DATA", tmp_path)
    with pytest.raises(FileNotFoundError, match="is missing: install the kit again"):
        data.load("mnist")


@pytest.mark.parametrize(("shape", "mode"), [((5, 7), "L"), ((5, 7, 1), "L"), ((5, 7, 3), "RGB")])
def test_written_folder_reads_back(tmp_path, shape, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    images = data.ImageSet("own", pixels, [1, 0, 1], ["a", "b"])
    rows = data.write_folder(images, tmp_path, prefix="raw")
    assert [row["local_path"].rsplit("/", 1)[-1] for row in rows] == [f"raw-{n:05d}.png" for n in range(3)]
    for row, image, name in zip(rows, pixels, "bab", strict=True):
        with Image.open(row["local_path"]) as written:
            assert written.mode == mode
            assert np.array_equal(np.asarray(written).reshape(shape), image)
        with open(row["local_annotations_path"]) as file:
            assert json.load(file)["annotations"][0]["label"] == name == row["label"]


@pytest.mark.parametrize(("labels", "names"), [([0, 0], ["a", "a"]), (None, [None, None])])
def test_unlabelled_folder_has_no_annotation_files(tmp_path, labels, names):
    images = data.ImageSet("own", IMAGES, labels, "a")
    rows = data.write_folder(images, tmp_path, labelled=False)
    assert all(row["local_annotations_path"] is None for row in rows)
    assert [row["label"] for row in rows] == names
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
    assert [label_of[image.tobytes()] for image in pool.images] == pool.labels().tolist()
    assert pool.labels().tolist() != (np.arange(30) % 10).tolist(), "shuffled"


def test_files_of_whole_mnist_that_are_missing_cut_or_do_not_match_are_named(idx_folder):
    with pytest.raises(FileNotFoundError, match="fashion-mnist.*train-images"):
        data.load("fashion-mnist")
    _, labels, images, missing = (idx_folder / name for name in data.IDX_FILES)
    write_idx(labels, np.zeros(7), packed=False)
    with pytest.raises(ValueError, match="do not match"):
        data.load("mnist-whole")
    missing.unlink()
    with pytest.raises(FileNotFoundError, match="mnist-whole.*t10k-labels-idx1-ubyte is missing"):
        data.load("mnist-whole")
    images.write_bytes(images.read_bytes()[:1000])
    with pytest.raises(ValueError, match="t10k-images-idx3-ubyte is not a complete idx file"):
        data.load("mnist-whole")

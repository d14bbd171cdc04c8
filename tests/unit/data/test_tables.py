"""Tables, arrays and loaders as data sets."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from alhelpers import data
from alhelpers.protocols import Dataset

REVIEWS = """number,review,stars,length
007,"fine, really",good,2
008,bad,,1
009,,poor,
010,"two
lines",good,3.5
"""


@pytest.fixture
def reviews(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text(REVIEWS)
    return path


# ------------------------------------------------------------------------------------------------------ tables


def test_texts_with_labels_and_a_pool(reviews):
    dataset = data.table(reviews, text="review", label="stars", id="number")
    assert isinstance(dataset, Dataset) and dataset.task == "classification"
    assert dataset.ids.tolist() == ["007", "008", "009", "010"]
    assert dataset.inputs([3, 0]).tolist() == ["two\nlines", "fine, really"] and dataset.inputs().shape == (
        4,
    )
    assert dataset.inputs([2]).tolist() == [""]
    assert dataset.class_names == ("good", "poor")
    assert dataset.labelled.ids.tolist() == ["007", "009", "010"]
    assert dataset.labelled.labels().tolist() == [0, 1, 0]
    assert dataset.unlabelled.ids.tolist() == ["008"] and dataset.unlabelled.class_names == ("good", "poor")
    with pytest.raises(ValueError, match="row '008' has no label: take the labelled rows alone"):
        dataset.labels([0, 1])
    assert dataset.take([3]).labels().tolist() == [0]
    with pytest.raises(ValueError, match="row '008' has no label"):
        dataset.take([1]).labels()


def test_without_labels_all_rows_are_the_pool(reviews):
    dataset = data.table(reviews, text="review")
    assert dataset.class_names is None and dataset.ids.tolist() == [0, 1, 2, 3]
    assert len(dataset.unlabelled) == 4 and len(dataset.labelled) == 0


def test_features_are_numbers_or_a_frame_with_categories(reviews, tmp_path):
    numbers = data.table(reviews, features=["length", "number"], label="stars")
    np.testing.assert_array_equal(numbers.inputs(), [[2, 7], [1, 8], [np.nan, 9], [3.5, 10]])
    frame = data.table(reviews, label="stars", id="number").inputs([2, 0])
    assert isinstance(frame, pd.DataFrame) and [*frame.columns] == ["review", "length"]
    assert frame["review"].dtype == "category" and frame["review"].tolist() == ["", "fine, really"]
    np.testing.assert_array_equal(frame["length"], [np.nan, 2])

    path = tmp_path / "rows.parquet"
    kinds = pd.Series(["x", None, "y"], dtype="category")
    pd.DataFrame({"kind": kinds, "on": [True, False, True], "label": [0.0, np.nan, 2.0]}).to_parquet(path)
    dataset = data.table(path, label="label")
    assert dataset.inputs()["kind"].isna().tolist() == [False, True, False]
    assert dataset.inputs()["on"].tolist() == [1, 0, 1]
    assert dataset.class_names == ("0", "2") and dataset.labelled.labels().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("labels", "names", "places"),
    [
        ([True, None, False], ("False", "True"), [1, 0]),
        ([10, None, 9], ("9", "10"), [1, 0]),
        (["b", "", "a"], ("a", "b"), [1, 0]),
        ([None, None, None], None, []),
    ],
)
def test_labels_of_any_type_become_places_among_their_sorted_values(tmp_path, labels, names, places):
    path = tmp_path / "rows.parquet"
    pa.parquet.write_table(pa.table({"x": [1.0, 2.0, 3.0], "label": labels}), path)
    dataset = data.table(path, label="label")
    assert dataset.class_names == names and dataset.labelled.labels().tolist() == places


def test_numbers_are_learned_with_regression(reviews):
    dataset = data.table(reviews, text="review", label="length", task="regression")
    assert dataset.class_names is None and dataset.labelled.labels().tolist() == [2, 1, 3.5]
    assert dataset.unlabelled.ids.tolist() == [2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "body"}, "has no column 'body': its columns are number, review, stars, length"),
        ({"text": "review", "label": "class"}, "has no column 'class'"),
        ({"text": "review", "features": ["length"]}, "text and features are both passed"),
        ({"features": "length"}, "pass a list of columns"),
        (
            {"features": ["length", "stars"], "label": "stars"},
            "column 'stars' cannot be an input and the label",
        ),
        ({"features": []}, "has no column of features"),
        ({"text": "review", "id": "stars"}, "column 'stars' of .* has '' in row 1: ids must be"),
        ({"text": "review", "label": "stars", "task": "multilabel"}, "task is 'multilabel'"),
        ({"text": "review", "label": "review", "task": "regression"}, "column 'review' cannot be"),
        (
            {"features": ["length"], "label": "stars", "task": "regression"},
            "labels are .* but a regressor learns",
        ),
    ],
)
def test_wrong_columns_are_named(reviews, options, message):
    with pytest.raises(ValueError, match=message):
        data.table(reviews, **options)


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.csv is not there"):
        data.table(tmp_path / "none.csv", text="x")
    for name, content, message in (
        ("a.csv", "x,y\n1,2\n1,2,3\n", "a.csv is not a table that can be read: .*Expected 2 columns, got 3"),
        ("b.csv", "x,y\n", "b.csv has no row below its columns"),
        ("c.csv", "", "c.csv is not a table that can be read"),
        ("d.parquet", "no table", "d.parquet is not a table that can be read"),
        ("e.xlsx", "no table", "e.xlsx must end in .csv or .parquet"),
        ("f.csv", "x,x\n1,2\n", "has several columns 'x'"),
        ("g.csv", "y,id\n1,a\n2,a\n", "ids must be distinct.*'a' occurs 2 times"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=message):
            data.table(
                tmp_path / name,
                features=["x"] if name != "g.csv" else None,
                id="id" if name[0] == "g" else None,
            )
    for column, message in (
        ({"x": [[1], [2]]}, "column 'x' of .* is of type list<.*>: features are numbers, bools or texts"),
        ({"x": [1, 2], "y": [0.5, None]}, "a label is 0.5, which is no class: pass task='regression'"),
    ):
        pa.parquet.write_table(pa.table(column), tmp_path / "h.parquet")
        with pytest.raises(ValueError, match=message):
            data.table(tmp_path / "h.parquet", features=["x"], label="y" if "y" in column else None)
    pa.parquet.write_table(pa.table({"x": [1, 2]}), tmp_path / "h.parquet")
    with pytest.raises(ValueError, match="column 'x' of .* has 1: it must hold texts"):
        data.table(tmp_path / "h.parquet", text="x")


def test_a_table_needs_pyarrow_alone(reviews):
    code = (
        "import sys\nsys.modules['pandas'] = sys.modules['torch'] = None\nfrom alhelpers import data\n"
        f"print(data.table({str(reviews)!r}, features=['length'], label='stars').inputs().shape)\n"
        f"try: data.table({str(reviews)!r}, label='stars')\nexcept ModuleNotFoundError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shape, error = done.stdout.splitlines()
    assert shape == "(4, 1)" and "is text, which needs pandas: pip install 'alhelpers[torch]'" in error


# ------------------------------------------------------------------------------------------------------ arrays


@pytest.mark.parametrize(
    ("labels", "class_names", "names", "places"),
    [
        (["b", "a", "b"], None, ("a", "b"), [1, 0, 1]),
        (np.array([True, False, True]), None, ("False", "True"), [1, 0, 1]),
        (pd.Series(["b", "a", "b"], dtype="category"), ["b", "a", "c"], ("b", "a", "c"), [0, 1, 0]),
        ([2, 0, 1], None, None, [2, 0, 1]),
        ([2, 0, 1], "xyz", ("x", "y", "z"), [2, 0, 1]),
        ([True, False, True], ["no", "yes"], ("no", "yes"), [1, 0, 1]),
    ],
)
def test_labels_of_arrays_become_places(labels, class_names, names, places):
    dataset = data.arrays(np.zeros((3, 2)), labels, class_names, ids=["p", "q", "r"])
    assert dataset.class_names == names and np.asarray(dataset.labels()).tolist() == places


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (["a", 1, "b"], {}, "the label of row 1 is 1: it must be a str as the first one, 'a'"),
        (["a", None, "b"], {}, "the label of row 1 is None"),
        (["a", "", "b"], {}, "the label of row 1 is ''"),
        (
            ["a", "x", "b"],
            {"class_names": ["a", "b"]},
            "is 'x', which is none of the class names: a, b",
        ),
        (
            [[1, 0], [0, 2], [0, 0]],
            {"task": "multilabel"},
            r"the labels of record 1 are \[0, 2\]: each must be 0 or 1",
        ),
        ([0, 1, 1], {"task": "multilabel"}, r"labels have the shape \(3,\)"),
        (
            [[1, 0]] * 3,
            {"task": "multilabel", "class_names": ["a"]},
            r"labels have the shape \(3, 2\).*\(N, 1\)",
        ),
        ([1.0, np.nan, 2.0], {"task": "regression"}, "the label of row 1 is nan"),
        (["x", "y", "z"], {"task": "regression"}, "a regressor learns numbers"),
    ],
)
def test_wrong_labels_of_arrays_are_named(labels, options, message):
    with pytest.raises(ValueError, match=message):
        data.arrays(np.zeros((3, 2)), labels, **options)


def test_several_labels_are_zeros_and_ones():
    dataset = data.arrays(np.zeros((2, 1)), [[True, False], [False, False]], ["a", "b"], task="multilabel")
    assert dataset.labels().tolist() == [[1, 0], [0, 0]] and dataset.task == "multilabel"


# ----------------------------------------------------------------------------------------------------- loaders

IMAGES = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 1, 2, 2, 1, 0])


class Items:
    """Items of any form, counted as they are read."""

    def __init__(self, item, **attributes):
        self.item, self.read = item, []
        self.__dict__.update(attributes)

    def __len__(self):
        return 6

    def __getitem__(self, row):
        if not 0 <= row < 6:
            raise IndexError(row)
        self.read.append(row)
        return self.item(row)


def test_a_loader_is_read_by_rows_in_the_order_of_its_dataset():
    source = DataLoader(TensorDataset(IMAGES, TARGETS), batch_size=4, shuffle=True)
    dataset = data.loader(source, ["x", "y", "z"])
    assert isinstance(dataset, Dataset) and len(dataset) == 6 and dataset.ids.tolist() == [*range(6)]
    assert dataset.class_names == ("x", "y", "z") and dataset.task == "classification"
    np.testing.assert_array_equal(dataset.inputs(), IMAGES.numpy())
    taken = dataset.take([5, 2, 2])
    np.testing.assert_array_equal(taken.inputs([1, 0]), IMAGES[[2, 5]].numpy())
    assert taken.labels().tolist() == [0, 2, 2] and taken.ids.tolist() == [5, 2, 2]
    assert dataset.inputs([]).shape == (0, 3, 4, 4)
    assert dataset.labels(slice(1, 3)).tolist() == [1, 2]


def test_dicts_and_collate_functions():
    def pair(items):
        return {
            "pixels": torch.stack([item["pixels"] for item in items]),
            "labels": [item["label"] for item in items],
        }

    source = Items(
        lambda row: {"pixels": IMAGES[row], "label": f"class {row % 2}"}, classes=["class 0", "class 1"]
    )
    dataset = data.loader(DataLoader(source, collate_fn=pair), ids=list("abcdef"))
    inputs = dataset.inputs([1, 3])
    assert inputs.keys() == {"pixels"}
    np.testing.assert_array_equal(inputs["pixels"], IMAGES[[1, 3]].numpy())
    assert dataset.labels([1, 3]).tolist() == ["class 1", "class 1"]
    assert source.read == [1, 3]  # the labels are known from the inputs
    assert dataset.class_names == ("class 0", "class 1") and dataset.ids.tolist() == list("abcdef")
    assert data.loader(Subset(source, [4, 2])).class_names == ("class 0", "class 1")


def test_inputs_of_several_parts_and_other_types():
    dataset = data.loader(Items(lambda row: ((IMAGES[row].bfloat16(), row), float(row))), task="regression")
    images, numbers = dataset.inputs([4, 0])
    assert images.dtype == np.float32 and numbers.tolist() == [4, 0] and dataset.labels([4]).tolist() == [4.0]
    texts = data.loader(Items(lambda row: f"text {row}"))
    assert texts.inputs([2, 1]).tolist() == ["text 2", "text 1"]
    with pytest.raises(ValueError, match="the items have no label: they must be pairs"):
        texts.labels()


def test_wrong_sources_are_named():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([1])

    with pytest.raises(ValueError, match="a Stream can only be read in its own order: pass a Dataset"):
        data.loader(DataLoader(Stream()))
    with pytest.raises(ValueError, match="items have 3 parts"):
        data.loader(TensorDataset(IMAGES, TARGETS, TARGETS)).inputs()
    with pytest.raises(ValueError, match="2 items were collated to 1 rows"):
        data.loader(DataLoader(TensorDataset(TARGETS), collate_fn=lambda items: IMAGES[:1])).inputs([0, 1])
    with pytest.raises(ValueError, match=r"lengths \[6, 2\]"):
        data.loader(TensorDataset(IMAGES), ids=["a", "b"])

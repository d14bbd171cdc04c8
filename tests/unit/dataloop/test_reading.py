from types import SimpleNamespace

import numpy as np
import pytest

from alhelpers import records
from alhelpers.dataloop.reading import chunks, made_by, pages, to_record


class Listing:
    """Pages of a listing, as the SDK gives them: the first one is there already."""

    def __init__(self, contents, refused=False):
        self.contents, self.page, self.asked, self.refused = contents, 0, 0, refused

    @property
    def items(self):
        return self.contents[self.page] if self.contents else []

    @property
    def has_next_page(self):
        return self.page + 1 < len(self.contents)

    def next_page(self):
        self.page += 1
        self.asked += 1

    def return_page(self):
        self.asked += 1
        if self.refused:
            raise ValueError("refused")
        return []


@pytest.mark.parametrize("contents", [[[1, 2]], [[1, 2], [3, 4], [5]], [[1]]])
def test_every_page_is_asked_for_once(contents):
    listing = Listing(contents)
    assert list(pages(listing)) == [value for page in contents for value in page]
    assert listing.asked == len(contents) - 1


def test_an_empty_listing_is_asked_for_again_to_tell_it_from_a_refused_one():
    assert list(pages(Listing([]))) == []
    with pytest.raises(ValueError, match="refused"):
        list(pages(Listing([], refused=True)))


def test_a_list_that_shrinks_meanwhile_ends():
    assert list(pages(Listing([[1], [], [], []]))) == [1]


@pytest.mark.parametrize(("count", "size", "lengths"), [(0, 3, []), (3, 3, [3]), (7, 3, [3, 3, 1])])
def test_chunks_hold_everything_once(count, size, lengths):
    cut = chunks(range(count), size)
    assert [len(chunk) for chunk in cut] == lengths
    assert [value for chunk in cut for value in chunk] == list(range(count))


@pytest.mark.parametrize(
    ("metadata", "owner"),
    [
        (None, (None, None)),
        ({}, (None, None)),
        ({"user": None, "system": {}}, (None, None)),
        ({"system": {"model": None}}, (None, None)),
        ({"user": {"model": {}}}, (None, None)),
        ({"user": {"model": {"name": "m", "model_id": "1"}}}, ("1", "m")),
        ({"system": {"model": {"name": "m"}}}, (None, "m")),
        ({"system": {}, "user": {"model": {"model_id": "2"}}}, ("2", None)),
        ({"system": {"model": {"model_id": "2"}}, "user": {"model": {"model_id": "1"}}}, ("2", None)),
    ],
)
def test_who_made_an_annotation(metadata, owner):
    assert made_by(metadata) == owner


# ------------------------------------------------------------------------------
# predictions
# ------------------------------------------------------------------------------


def row(id="a", label="cat", confidence=0.75, prediction=None, section="user", type="class", **sides):
    metadata = {section: {"model": {} if confidence is None else {"confidence": confidence}}}
    if prediction is not None:
        metadata.setdefault("user", {})["prediction"] = prediction
    return {"id": id, "type": type, "label": label, "metadata": metadata, **sides}


def test_the_fields_that_an_adapter_kept_are_the_records():
    fields = {
        "class_names": ["cat", "dog"],
        "confidences": [0.75, 0.25],
        "logits": [1.5, -1.0],
        "embeddings": [1.0, 2.0, 3.0],
        "embeddings:early": [4.0],
        "mc_dropout": [[0.5, 0.5], [1.0, 0.0]],
    }
    beside = {"query_by_committee": None, "comment": "no field of a record"}
    record = to_record("item", [row(prediction=fields | beside)])
    arrays = {name: value for name, value in record.items() if isinstance(value, np.ndarray)}
    plain = record | {name: value.tolist() for name, value in arrays.items()}
    assert plain == {"id": "item", "class_name": "cat", "confidence": 0.75} | fields
    assert all(value.dtype == np.float32 for value in arrays.values())
    assert records.as_table([record]).num_rows == 1


def test_any_adapter_gives_class_and_confidence():
    assert to_record("item", [row()]) == {"id": "item", "class_name": "cat", "confidence": 0.75}
    system = row(label="dog", confidence=0.5, section="system")
    assert to_record("item", [system]) == {"id": "item", "class_name": "dog", "confidence": 0.5}
    assert to_record("item", [row(confidence=None)]) == {"id": "item", "class_name": "cat"}


def test_of_several_classes_fields_come_first_then_the_most_confident():
    weak, strong = row("b", "dog", 0.2), row("c", "cat", 0.8)
    full = row("d", "cow", 0.1, {"confidences": [0.1, 0.9]})
    for order in ([weak, strong, full], [full, strong, weak]):
        assert to_record("item", order)["class_name"] == "cow"
        assert to_record("item", [each for each in order if each is not full])["class_name"] == "cat"
    assert to_record("item", [row("z", "x", 0.5), row("y", "w", 0.5)])["class_name"] == "w"


def test_boxes_become_detections_with_the_fields_of_boxes():
    sides = {"left": 1, "top": 2, "right": 5, "bottom": 9}
    fields = {"class_names": ["cat", "dog"], "confidences": [0.75, 0.25], "embeddings": [1.0]}
    boxes = [row(*each, fields, type="box", **sides) for each in (("b", "cat", 0.75), ("a", "dog", 0.5))]
    table = records.as_table([to_record("item", boxes)])
    shared = {"left": 1, "top": 2, "width": 4, "height": 7, "confidences": [0.75, 0.25], "embeddings": [1.0]}
    dog, cat = {"class_name": "dog", "confidence": 0.5}, {"class_name": "cat", "confidence": 0.75}
    assert table["detections"].to_pylist() == [[dog | shared, cat | shared]]


def test_numbers_that_are_none_are_named_with_their_item():
    wrong = to_record("item", [row(prediction={"confidences": ["high", "low"]})])
    with pytest.raises(records.RecordError, match="record 'item': confidences must be numbers"):
        records.as_table([wrong])


def test_records_need_the_predictions_of_one_model():
    from alhelpers.dataloop.adapter import to_records

    def annotation(item_id, **user):
        return SimpleNamespace(item_id=item_id, label="3", metadata={"user": user})

    fields = {"confidences": [0.4, 0.6], "class_names": ["1", "3"]}
    prediction = annotation("b", model={"confidence": 0.6}, prediction=fields)
    truth = annotation("a")
    assert to_records([truth, prediction]) == [{"id": "b", "class_name": "3", "confidence": 0.6, **fields}]
    with pytest.raises(ValueError, match="item b has 2 predictions"):
        to_records([prediction, prediction])

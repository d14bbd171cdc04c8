"""What a model predicted, read through the real SDK as records."""

import numpy as np
import pytest
from node_samples import label, predict, tag

from alhelpers import records
from alhelpers.dataloop import reading


def test_predictions_are_read_as_records(dl, make_dataset, make_model):
    dataset, items = make_dataset([f"{name}.png" for name in "abcdef"])
    model, other = make_model(), make_model()
    for name, share in [("a", 0.25), ("b", 0.75), ("c", 0.875), ("d", 0.5)]:
        predict(dl, items[f"{name}.png"], model, "x", share, {"x": share, "y": 1 - share})
    predict(dl, items["a.png"], other, "y", 0.9)
    predict(dl, items["e.png"], other, "y", 0.9)
    label(dl, items["a.png"], "a")
    for name in ("b", "b", "c"):
        label(dl, items[f"{name}.png"], name)
    label(dl, items["c.png"], "another")
    tag(items["b.png"], validation=True)
    tag(items["d.png"], train="no", test=False)

    table = reading.records_of(dataset, model)
    rows = {row["metadata"]["filename"]: row for row in table.to_pylist()}
    assert sorted(rows) == ["/a.png", "/b.png", "/c.png", "/d.png"]
    assert rows["/b.png"] == {
        "id": items["b.png"].id,
        "class_name": "x",
        "class_names": ["x", "y"],
        "confidence": 0.75,
        "confidences": [0.75, 0.25],
        "groundtruth": "b",
        "split": "validation",
        "metadata": {"filename": "/b.png"},
    }
    assert [rows[f"/{name}.png"]["groundtruth"] for name in "acd"] == ["a", None, None]
    assert rows["/d.png"]["split"] is None
    assert records.validate(table) == 4

    query = {"filter": {"$and": [{"metadata.system.tags.validation": True}]}}
    assert reading.records_of(dataset, model, query)["id"].to_pylist() == [items["b.png"].id]
    filters = dl.Filters(field="name", values="*c.png")
    assert reading.records_of(dataset, model, filters)["id"].to_pylist() == [items["c.png"].id]
    with pytest.raises(ValueError, match="none of 1 items of dataset .* has a prediction of model"):
        reading.records_of(dataset, model, dl.Filters(field="name", values="f.png"))
    with pytest.raises(ValueError, match=r"the platform refuses the query .*\$near.*"):
        reading.records_of(dataset, model, {"filter": {"name": {"$near": 1}}})


def test_boxes_are_read_as_detections(dl, make_dataset, make_model):
    dataset, items = make_dataset(["a.png", "b.png"])
    model = make_model(output_type="box")
    for left in (1, 2):
        box = {"left": left, "top": 1, "right": 5, "bottom": 7}
        predict(dl, items["a.png"], model, "x", 0.5, {"x": 0.5, "y": 0.5}, **box)
    predict(dl, items["b.png"], model, "y", 0.75)
    table = reading.records_of(dataset, model, dl.Filters(field="name", values="a.png"))
    found = records.boxes(table)
    assert sorted(found.left) == [1, 2] and found.width.tolist() == (5 - found.left).tolist()
    assert found.height.tolist() == [6, 6] and found.confidences.tolist() == [[0.5, 0.5]] * 2
    # an item of which the model says only the class has no box
    rows = reading.predictions_of(dataset, [item.id for item in items.values()], model.id)
    assert {len(row.get("detections", [])) for row in rows.values()} == {0, 2}


def test_vectors_are_read_by_item(dl, make_dataset, shared_project):
    dataset, items = make_dataset(["a.png", "b.png"])
    name = f"vectors-{dataset.id}"
    feature_set = shared_project.feature_sets.create(name=name, size=2, set_type="x", entity_type="item")
    feature_set.features.create(value=[0.5, 1.5], project_id=shared_project.id, entity=items["a.png"])
    vectors = reading.vectors_of(shared_project, name, [item.id for item in items.values()])
    np.testing.assert_array_equal(vectors.pop(items["a.png"].id), np.array([0.5, 1.5], np.float32))
    assert vectors == {}
    with pytest.raises(ValueError, match=rf"feature set 'none' is not in project .*; there are: .*{name}"):
        reading.vectors_of(shared_project, "none", [])

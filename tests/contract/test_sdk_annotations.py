"""Many annotations at once: uploaded, deleted, downloaded and exported."""

import json
import pathlib
import zipfile

from helpers_contract import annotate, send


def boxes(dl, item, *labels):
    return annotate(dl, item, *(dl.Box(0, 1, 2, 3, label=label) for label in labels))


def labelled_a(dl):
    annotations = dl.FiltersResource.ANNOTATION
    return dl.Filters(resource=annotations, field="label", values="a", use_defaults=False)


def test_more_than_a_batch(dl, dataset, item):
    boxes(dl, item, *(f"l{number}" for number in range(250)))
    assert dataset.items.get(item_id=item.id).annotations_count == 250
    assert len(item.annotations.list()) == 250
    assert dataset.annotations.list(page_size=100).total_pages_count == 3


def test_delete_by_filter_and_all(dl, dataset, item):
    boxes(dl, item, "a", "a", "b")
    item.annotations.delete(filters=labelled_a(dl))
    assert [each.label for each in item.annotations.list()] == ["b"]
    boxes(dl, item, "c", "d")
    some = [each.id for each in item.annotations.list()][:2]
    item.annotations.delete(annotation_id=some)
    assert dataset.items.get(item_id=item.id).annotations_count == 1
    item.annotations.delete("all")
    read = dataset.items.get(item_id=item.id)
    assert not read.annotated and read.annotations_count == 0


def test_download_of_some_annotations_leaves_out_the_other_items(dl, dataset, fill, tmp_path):
    first, second = fill(2)
    boxes(dl, first, "a", "b")
    boxes(dl, second, "b")
    folder = dataset.download_annotations(local_path=str(tmp_path / "out"), annotation_filters=labelled_a(dl))
    (path,) = pathlib.Path(folder).rglob("*.json")
    assert [each["label"] for each in json.loads(path.read_text())["annotations"]] == ["a"]


def test_export_of_a_subset(dl, project, dataset, fill, tmp_path):
    first, second = fill(2)
    boxes(dl, first, "a", "b")
    boxes(dl, second, "c")
    path = project.datasets.export(
        dataset=dataset,
        local_path=str(tmp_path),
        filters=dl.Filters(field="name", values="0000.png"),
        annotation_filters=labelled_a(dl),
        include_annotations=True,
    )
    (exported,) = json.loads(pathlib.Path(path).read_text())
    assert exported["name"] == "0000.png" and [each["label"] for each in exported["annotations"]] == ["a"]
    assert dataset.items.list().items_count == 2


def test_export_as_zip(dl, dataset, fill, tmp_path):
    (item,) = fill(1, remote_path="/d")
    boxes(dl, item, "a")
    command = send(dl, "post", f"/datasets/{dataset.id}/export", {})
    output = dl.items.get(item_id=command["spec"]["outputItemId"])
    with zipfile.ZipFile(output.download(save_locally=False)) as archive:
        assert archive.namelist() == ["d/0000.json"]
        assert json.loads(archive.read("d/0000.json"))["annotations"][0]["label"] == "a"

"""Annotations: upload, change, delete, count, export."""

import json
import pathlib
import zipfile

import pytest


def box(dl, label, left=0, **options):
    return dl.Annotation.new(
        annotation_definition=dl.Box(left=left, top=1, right=left + 2, bottom=3, label=label), **options
    )


@pytest.fixture
def item(dl, fill):
    (item,) = fill(1)
    return item


def test_upload_read_change_delete(dl, dataset, item):
    classified = dl.Annotation.new(annotation_definition=dl.Classification("cat"))
    item.annotations.upload([box(dl, "dog"), classified])
    first, second = sorted(item.annotations.list(), key=lambda each: each.id)
    assert (first.label, first.left, first.bottom, second.type) == ("dog", 0, 3, "class")
    assert dataset.items.get(item_id=item.id).annotations_count == 2

    calls = dl.client_api.calls_counter.number
    for annotation in (first, second):
        annotation.update()
    assert dl.client_api.calls_counter.number == calls

    first.label = "wolf"
    first.metadata["user"] = {"sure": True}
    first.update()
    second.metadata["system"]["secret"] = 1
    second.update()
    read = dl.annotations.get(annotation_id=first.id)
    assert read.label == "wolf" and read.metadata["user"] == {"sure": True} and read.left == 0
    assert "secret" not in dl.annotations.get(annotation_id=second.id).metadata["system"]
    second.update(system_metadata=True)
    second.delete()
    with pytest.raises(dl.exceptions.BadRequest, match="annotation not found"):
        dl.annotations.get(annotation_id=second.id)
    read = dataset.items.get(item_id=item.id)
    assert read.annotated and read.annotations_count == 1
    assert dl.datasets.get(dataset_id=dataset.id).annotated == 1


def test_more_than_a_batch(dl, dataset, item):
    item.annotations.upload([box(dl, f"l{number}") for number in range(250)])
    assert dataset.items.get(item_id=item.id).annotations_count == 250
    assert len(item.annotations.list()) == 250
    assert dataset.annotations.list(page_size=100).total_pages_count == 3


def test_delete_by_filter_and_all(dl, dataset, item):
    item.annotations.upload([box(dl, label) for label in ("a", "a", "b")])
    labels = dl.Filters(resource=dl.FiltersResource.ANNOTATION, field="label", values="a")
    item.annotations.delete(filters=labels)
    assert [each.label for each in item.annotations.list()] == ["b"]
    item.annotations.upload([box(dl, label) for label in ("c", "d")])
    some = [each.id for each in item.annotations.list()][:2]
    item.annotations.delete(annotation_id=some)
    assert dataset.items.get(item_id=item.id).annotations_count == 1
    item.annotations.delete("all")
    read = dataset.items.get(item_id=item.id)
    assert not read.annotated and read.annotations_count == 0


def test_a_label_is_needed_and_nothing_of_a_bad_batch_stays(dl, item):
    batch = [box(dl, "a").to_json(), {"type": "box", "label": ""}]
    success, answer = dl.client_api.gen_request("post", f"/items/{item.id}/annotations", json_req=batch)
    assert not success and answer.status_code == 400 and "needs a 'label'" in answer.json()["message"]
    assert len(item.annotations.list()) == 0


def test_download_annotations(dl, dataset, fill, tmp_path):
    first, second = fill(2, remote_path="/deep/er")
    first.annotations.upload([box(dl, "a"), box(dl, "b")])
    second.annotations.upload([box(dl, "b")])
    folder = dataset.download_annotations(local_path=str(tmp_path / "out"))
    read = {path.name: json.loads(path.read_text()) for path in pathlib.Path(folder).rglob("*.json")}
    assert sorted(read) == ["0000.json", "0001.json"]
    assert [each["label"] for each in read["0000.json"]["annotations"]] == ["a", "b"]
    assert read["0001.json"]["filename"] == "/deep/er/0001.png"


def test_download_of_some_annotations_leaves_out_the_other_items(dl, dataset, fill, tmp_path):
    first, second = fill(2)
    first.annotations.upload([box(dl, "a"), box(dl, "b")])
    second.annotations.upload([box(dl, "b")])
    only = dl.Filters(resource=dl.FiltersResource.ANNOTATION, field="label", values="a", use_defaults=False)
    folder = dataset.download_annotations(local_path=str(tmp_path / "out"), annotation_filters=only)
    (path,) = pathlib.Path(folder).rglob("*.json")
    assert [each["label"] for each in json.loads(path.read_text())["annotations"]] == ["a"]


def test_export_of_a_subset(dl, project, dataset, fill, tmp_path):
    first, second = fill(2)
    first.annotations.upload([box(dl, "a"), box(dl, "b")])
    second.annotations.upload([box(dl, "c")])
    only = dl.Filters(resource=dl.FiltersResource.ANNOTATION, field="label", values="a", use_defaults=False)
    path = project.datasets.export(
        dataset=dataset,
        local_path=str(tmp_path),
        filters=dl.Filters(field="name", values="0000.png"),
        annotation_filters=only,
        include_annotations=True,
    )
    (exported,) = json.loads(pathlib.Path(path).read_text())
    assert exported["name"] == "0000.png" and [each["label"] for each in exported["annotations"]] == ["a"]
    assert dataset.items.list().items_count == 2


def test_export_as_zip(dl, dataset, fill, tmp_path):
    (item,) = fill(1, remote_path="/d")
    item.annotations.upload([box(dl, "a")])
    success, answer = dl.client_api.gen_request("post", f"/datasets/{dataset.id}/export", json_req={})
    assert success
    output = dl.items.get(item_id=answer.json()["spec"]["outputItemId"])
    with zipfile.ZipFile(output.download(save_locally=False)) as archive:
        assert archive.namelist() == ["d/0000.json"]
        assert json.loads(archive.read("d/0000.json"))["annotations"][0]["label"] == "a"


def test_download_with_items(dl, dataset, fill, tmp_path):
    first, second = fill(2)
    first.annotations.upload([box(dl, "a")])
    dataset.items.download(local_path=str(tmp_path / "all"), annotation_options=dl.ViewAnnotationOptions.JSON)
    names = sorted(path.name for path in (tmp_path / "all").rglob("*.*"))
    assert names == ["0000.json", "0000.png", "0001.json", "0001.png"]

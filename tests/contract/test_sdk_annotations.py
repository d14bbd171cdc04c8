"""Many annotations at once: uploaded, deleted, downloaded and exported."""

import json
import pathlib
import zipfile


def box(dl, label, left=0, **options):
    return dl.Annotation.new(
        annotation_definition=dl.Box(left=left, top=1, right=left + 2, bottom=3, label=label), **options
    )


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

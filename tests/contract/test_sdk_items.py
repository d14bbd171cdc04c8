"""Items: upload, read, change, move, delete, download."""

import io
import os

import numpy as np
import pytest
from helpers_contract import (
    MISSING,
    annotate,
    classify,
    fails,
    get_json,
    not_found,
    paths,
    png,
    refused,
    send,
    written,
)


def test_upload_fills_in_what_the_platform_knows(dataset, fill):
    (item,) = fill(names=["cat.png"], remote_path="/animals/tame")
    assert (item.filename, item.dir, item.name) == ("/animals/tame/cat.png", "/animals/tame", "cat.png")
    assert (item.width, item.height, item.mimetype) == (6, 8, "image/png")
    assert item.metadata["system"]["channels"] == 3
    assert not item.hidden and not item.annotated and item.annotations_count == 0
    assert item.download(save_locally=False).read() == png(np.zeros((8, 6, 3), np.uint8))


def test_what_the_sdk_writes_equals_what_the_platform_sent(dl, dataset, item, project, fill):
    annotation = annotate(dl, item, dl.Box(1, 1, 2, 2, label="x"))[0]
    for entity, path in (
        (dl.items.get(item_id=item.id), f"/items/{item.id}"),
        (dl.datasets.get(dataset_id=dataset.id), f"/datasets/{dataset.id}"),
        (dl.projects.get(project_id=dataset.project.id), f"/projects/{dataset.project.id}"),
        (annotation, f"/annotations/{annotation.id}"),
    ):
        assert written(entity) == get_json(dl, path)
    assert not {"projectId", "description", "srcItem"} & get_json(dl, f"/items/{item.id}").keys()
    keys = get_json(dl, f"/datasets/{dataset.id}").keys()
    assert {"updatedBy", "isSyncing", "readonly", "annotated"} <= keys
    assert not {"srcDataset", "expirationOptions"} & keys
    keys = get_json(dl, f"/projects/{project.id}").keys()
    assert {"systemProject", "contributors", "role", "org"} <= keys


def test_an_update_sends_what_has_changed_and_changes_nothing_else(dl, dataset, item):
    calls = dl.client_api.calls_counter.number
    assert item.update() is item
    assert dl.client_api.calls_counter.number == calls
    before = item.to_json()
    item.metadata["user"] = {"a": 1}
    after = item.update().to_json()
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {"metadata", "updatedAt"} and before.keys() == after.keys()
    assert after["metadata"] == before["metadata"] | {"user": {"a": 1}}


def test_user_and_system_metadata(dl, dataset, item):
    item.metadata["user"] = {"site": {"city": "Bern", "zip": 3000}}
    item.metadata["system"]["tags"] = {"train": True}
    item.update()
    read = dataset.items.get(item_id=item.id)
    assert read.metadata["user"] == {"site": {"city": "Bern", "zip": 3000}}
    assert "tags" not in read.metadata["system"]
    read.metadata["system"]["tags"] = {"train": True}
    del read.metadata["user"]["site"]["zip"]
    read.update(system_metadata=True)
    read = dataset.items.get(item_id=item.id)
    assert read.metadata["system"]["tags"] == {"train": True}
    assert read.metadata["user"] == {"site": {"city": "Bern"}}


def test_what_the_platform_computed_cannot_be_lost(dl, dataset, item):
    size = item.size
    item.metadata = {"system": {"size": 3}}
    item.update(system_metadata=True)
    read = dataset.items.get(item_id=item.id)
    assert read.size == size and read.width == 6 and read.mimetype == "image/png"
    assert read.download(save_locally=False).getbuffer().nbytes == size


def test_upload_modes(dl, dataset):
    def upload(content, **options):
        return dataset.items.upload(
            io.BytesIO(content), remote_name="a.bin", remote_path="/d", raise_on_error=True, **options
        )

    first = upload(b"one", item_metadata={"user": {"a": 1}}, item_description="old")
    again = upload(b"two", item_description="new", item_metadata={"user": {"a": 2}})
    assert again.id == first.id and dataset.items.get(item_id=first.id).metadata["user"] == {"a": 1}
    assert dataset.items.get(item_id=first.id).description == "old"
    over = upload(b"three", overwrite=True, item_description="new", item_metadata={"user": {"b": 2}})
    assert over.id == first.id and over.size == 5 and over.metadata["user"] == {"a": 1, "b": 2}
    assert dataset.items.get(item_id=first.id).description == "new"
    assert over.download(save_locally=False).read() == b"three"
    other = upload(b"of another size")
    assert other.id != first.id
    assert dataset.items.list().items_count == 1


def test_a_broken_image_and_an_empty_file(dataset, tmp_path):
    item = dataset.items.upload(io.BytesIO(b"\x89PNG broken"), remote_name="b.png", raise_on_error=True)
    assert item.mimetype == "image/png" and item.width is None and item.size == 11
    item = dataset.items.upload(io.BytesIO(b""), remote_name="empty.txt", raise_on_error=True)
    assert item.size == 0
    assert item.download(save_locally=False).read() == b""


def test_odd_names_and_paths_that_would_leave_the_dataset(platform, dataset):
    item = dataset.items.upload(
        io.BytesIO(b"x"), remote_name="../../../etc/passwd", remote_path="/a", raise_on_error=True
    )
    assert item.filename == "/etc/passwd"
    assert not (platform.state_dir.parent / "etc").exists()
    name = 'a b%2F "q" é漢.png'
    item = dataset.items.upload(io.BytesIO(b"x"), remote_name=name, raise_on_error=True)
    assert item.name == name
    assert dataset.items.get(filepath=f"/{name}").id == item.id


def test_a_resumed_download_gets_the_rest_and_a_large_file_is_streamed(dl, dataset):
    item = dataset.items.upload(io.BytesIO(bytes(range(100))), remote_name="r.bin", raise_on_error=True)

    def part(bounds):
        path, headers = f"/items/{item.id}/stream", {"Range": f"bytes={bounds}"}
        success, answer = dl.client_api.gen_request("get", path, headers=headers, stream=True)
        assert success
        return answer.status_code, answer.content

    for bounds, expected in (("90-", slice(90, None)), ("0-", slice(None)), ("3-4", slice(3, 5))):
        assert part(bounds)[1] == bytes(range(100))[expected]
    content = bytes(range(256)) * 4000
    item = dataset.items.upload(io.BytesIO(content), remote_name="large.bin", raise_on_error=True)
    assert item.download(save_locally=False).read() == content
    assert part("1000000-") == (206, content[1_000_000:])


def test_directories(dl, dataset, fill):
    fill(1, remote_path="/a/b")
    fill(2, remote_path="/a/.c")
    assert dataset.directory_tree.dir_names == ["/a/.c", "/a/b", "/a", "/"]
    assert dataset.items.get(filepath="/a/b", is_dir=True).type == "dir"
    made = dataset.items.make_dir("/new/deep")
    assert made.type == "dir" and made.filename == "/new/deep"
    assert dl.datasets.get(dataset_id=dataset.id).items_count == 1
    dataset.items.get(filepath="/a", is_dir=True).delete()
    assert dataset.items.list(dl.Filters(use_defaults=False)).items_count == 2


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        *((there, "/there/0000.png") for there in ("/there", "there", "/there/", "there/")),
        ("/new/", "/new/0000.png"),
        ("/new", "/new"),
        ("/new/deep/renamed.png", "/new/deep/renamed.png"),
        ("/there/renamed.png", "/there/renamed.png"),
        ("renamed.png", "/renamed.png"),
    ],
)
def test_move(dataset, fill, destination, expected):
    (item,) = fill(1, remote_path="/here")
    dataset.items.make_dir("/there")
    moved = item.move(destination)
    read = dataset.items.get(item_id=item.id)
    assert moved.filename == read.filename == expected
    assert (read.dir, read.name) == tuple(os.path.split(expected))
    assert dataset.items.get(filepath=read.dir, is_dir=True) if read.dir != "/" else True
    assert read.download(save_locally=False).getbuffer().nbytes == item.size


def test_moves_that_cannot_be(dl, dataset, fill):
    first, second = fill(2)
    fails(dl.exceptions.BadRequest, "'/0001.png' exists", first.move, "/0001.png")
    read = dataset.items.get(item_id=first.id)
    read.filename = " / "
    fails(dl.exceptions.BadRequest, "needs a path", read.update)
    assert paths(dataset) == ["/0000.png", "/0001.png"]
    assert second.move("/0001.png").filename == "/0001.png"  # where it is


def test_a_renamed_item_becomes_hidden_with_its_folder(dataset, item):
    item.filename = "/.secret/x.png"
    assert item.update().hidden is True
    assert dataset.items.list().items_count == 0


def test_a_directory_moves_with_what_is_in_it(dl, dataset, fill):
    (item,) = fill(1, remote_path="/a/b")
    fill(1, remote_path="/ab")
    directory = dataset.items.get(filepath="/a", is_dir=True)
    directory.move("/new/place")
    assert dataset.items.get(item_id=item.id).filename == "/new/place/b/0000.png"
    names = dl.datasets.get(dataset_id=dataset.id).directory_tree.dir_names
    assert names == ["/ab", "/new/place/b", "/new/place", "/new", "/"]
    directory = dataset.items.get(filepath="/new", is_dir=True)
    directory.filename = "/new/place/inside"
    fails(dl.exceptions.BadRequest, "into itself", directory.update)
    directory.filename = "/ab/new"
    directory.update()
    assert dataset.items.get(item_id=item.id).filename == "/ab/new/place/b/0000.png"


def test_move_many(dl, dataset, fill):
    first, second, third = fill(3)
    assert dataset.items.move_items(destination="/to", items=[first, second]) is True
    assert dataset.items.move_items(destination="/to", filters=dl.Filters(field="name", values="0002.png"))
    assert paths(dataset) == ["/to/0000.png", "/to/0001.png", "/to/0002.png"]
    with pytest.raises(dl.exceptions.NotFound):
        dataset.items.move_items(destination="/to", items=[dl.Item.from_json({"id": MISSING}, dl.client_api)])
    assert third.id == dataset.items.get(filepath="/to/0002.png").id


def test_bulk_update_and_delete(dl, dataset, fill):
    fill(3)
    filters = dl.Filters(field="name", values=["0000.png", "0002.png"], operator=dl.FiltersOperations.IN)
    dataset.items.update(
        filters=filters,
        update_values={"seen": True},
        system_update_values={"tags": {"train": True}},
        system_metadata=True,
    )
    tagged = dl.Filters(field="metadata.system.tags.train", values=True)
    tagged.sort_by("name")
    found = list(dataset.items.list(tagged).all())
    assert [item.name for item in found] == ["0000.png", "0002.png"]
    assert found[0].metadata["user"] == {"seen": True} and found[0].size is not None
    dataset.items.update(
        filters=filters, update_values={"seen": None}, system_update_values={"tags": {"train": False}}
    )
    assert dataset.items.list(tagged).items_count == 2
    dataset.items.delete(filters=dl.Filters(field="name", values="000[01].png"))
    assert dataset.items.list().items_count == 3
    dataset.items.delete(filters=dl.Filters(field="name", values="0001*"))
    assert paths(dataset) == ["/0000.png", "/0002.png"]


def test_an_unknown_field_of_an_item_is_dropped(dl, item):
    answer = send(dl, "patch", f"/items/{item.id}", {"colour": "red", "description": "mine"})
    assert "colour" not in answer and dl.items.get(item_id=item.id).description == "mine"
    send(dl, "patch", f"/items/{item.id}", {"description": ""})
    assert dl.items.get(item_id=item.id).description is None


def test_missing_items(dl, dataset):
    for repository in (dataset.items, dl.items):
        not_found(dl, lambda repository=repository: repository.get(item_id=MISSING))
        fails(dl.exceptions.BadRequest, "not an id", repository.get, item_id="nonsense")
    with pytest.raises(dl.exceptions.BadRequest):
        dataset.items.delete(item_id="nonsense")
    not_found(dl, lambda: dataset.items.delete(item_id=MISSING))
    for path in ("/none.png", "none.png", "/"):
        with pytest.raises(dl.exceptions.NotFound):
            dataset.items.get(filepath=path)
        with pytest.raises(dl.exceptions.NotFound):
            dataset.items.delete(filename=path)
    with pytest.raises(dl.exceptions.BadRequest):
        dataset.items.get()
    with pytest.raises(dl.exceptions.BadRequest):
        dataset.items.delete()


def test_an_item_is_found_by_its_path(dl, dataset, fill):
    (top,) = fill(names=["same.png"])
    (deep,) = fill(names=["same.png"], remote_path="/deep/er")
    assert dataset.items.get(filepath="/same.png").id == top.id
    assert dataset.items.get(filepath="/deep/er/same.png").id == deep.id
    assert dataset.items.get(filepath="/deep/**").id == deep.id
    fails(dl.exceptions.NotFound, "More than one item", dataset.items.get, filepath="**/same.png")
    not_found(dl, lambda: dataset.items.get(filepath="/deep"))
    assert dataset.items.get(filepath="/deep", is_dir=True).type == "dir"
    assert dl.items.get(item_id=deep.id).dataset.id == dataset.id


def test_an_item_has_an_address_in_its_dataset(dl, project, dataset, item):
    other = project.datasets.create("other")
    assert get_json(dl, f"/datasets/{dataset.id}/items/{item.id}") == item.to_json()
    refused(dl, "get", f"/datasets/{other.id}/items/{item.id}", None, status=404)
    assert dataset.collections.list_all_collections() == []


def test_an_item_is_deleted_by_id_name_or_filter(dl, dataset, fill):
    first, second, third, fourth = fill(4)
    assert first.delete() is True
    assert dataset.items.delete(item_id=second.id) is True
    assert dataset.items.delete(filename="0002.png") is True
    not_found(dl, first.delete)
    classify(dl, fourth, "x")
    assert dataset.items.delete(filters=dl.Filters()) is True
    assert dataset.items.list().items_count == 0 == dl.datasets.get(dataset_id=dataset.id).annotations_count


def test_descriptions(dl, dataset, item):
    assert item.description is None and "description" not in item.to_json()
    item.description = "blurred"
    assert dataset.items.get(item_id=item.id).description == "blurred"
    item.set_description("sharp")
    read = dataset.items.get(item_id=item.id)
    assert read.description == "sharp" and read.to_json() == get_json(dl, f"/items/{item.id}")
    read.set_description(None)
    assert "description" not in get_json(dl, f"/items/{item.id}")
    fails(ValueError, "must get string", read.set_description, 3)


def test_metadata_is_merged_as_a_difference(dl, dataset, item):
    other = dataset.items.get(item_id=item.id)
    item.metadata["user"] = {"list": [1, {"a": 1}], "deep": {"x": 1, "y": 2}, "text": "é"}
    item = item.update()
    other.metadata["user"] = {"mine": True}
    other.update()
    read = dataset.items.get(item_id=item.id)
    assert read.metadata["user"] == item.metadata["user"] | {"mine": True}
    read.metadata["user"]["deep"] = {"y": 3}
    del read.metadata["user"]["list"]
    read.update()
    read = dataset.items.get(item_id=item.id)
    assert read.metadata["user"] == {"deep": {"y": 3}, "text": "é", "mine": True}
    for path in ("id", "createdAt", "creator", "datasetId", "type", "annotationsCount", "stream"):
        dl.client_api.gen_request("patch", f"/items/{item.id}", json_req={path: "changed"})
    after = dataset.items.get(item_id=item.id).to_json()
    assert {key: value for key, value in after.items() if value == "changed"} == {}
    assert after["updatedBy"] == item.creator and after["updatedAt"] > item.created_at


def test_updates_that_cannot_be(dl, dataset, item):
    for arguments in ({}, {"filters": dl.Filters()}, {"item": item, "update_values": {"a": 1}}):
        with pytest.raises(dl.exceptions.BadRequest):
            dataset.items.update(**arguments)
    for patch in ({"metadata": 3}, {"metadata": {"system": 3}}, [1]):
        refused(dl, "patch", f"/items/{item.id}?system=true", patch)
    assert dataset.items.get(item_id=item.id).metadata == item.metadata


def test_clone_an_item(dl, project, dataset, fill):
    (item,) = fill(1, remote_path="/x")
    item.metadata["user"] = {"a": 1}
    item.update()
    classify(dl, item, "cat")
    copy = item.clone(remote_filepath="/y/copy.png", metadata={"user": {"b": 2}})
    assert copy.to_json() == get_json(dl, f"/items/{copy.id}") and copy.to_json()["srcItem"] == item.id
    assert copy.filename == "/y/copy.png" and copy.id != item.id and copy.annotations_count == 1
    assert copy.metadata["user"] == {"a": 1, "b": 2}
    other = project.datasets.create("other")
    assert item.clone(dst_dataset_id=other.id, remote_filepath="/in/").filename == "/in/0000.png"
    other.items.delete(filters=dl.Filters())
    bare = item.clone(dst_dataset_id=other.id, with_annotations=False, with_metadata=False)
    assert (bare.dataset_id, bare.filename, bare.annotations_count) == (other.id, "/x/0000.png", 0)
    assert "user" not in bare.metadata and bare.width == item.width
    item.delete()
    assert copy.download(save_locally=False).getbuffer().nbytes == copy.size


def test_clones_that_cannot_be(dl, dataset, item):
    fails(dl.exceptions.BadRequest, "has an item there already", item.clone)
    first = item.clone(remote_filepath="/1.png")
    fails(dl.exceptions.BadRequest, "allow_many=True", item.clone, remote_filepath="/2.png")
    assert item.clone(remote_filepath="/2.png", allow_many=True).id != first.id
    not_found(dl, lambda: item.clone(dst_dataset_id=MISSING))
    directory = dataset.items.make_dir("/d")
    fails(dl.exceptions.BadRequest, "is a directory", directory.clone, remote_filepath="/e")
    assert dataset.items.list().items_count == 3


def test_a_name_is_changed_in_its_folder(dl, dataset, fill):
    (item,) = fill(1, remote_path="/a")
    item.name = "new.png"
    assert item.update().filename == "/a/new.png"
    item = dataset.items.get(item_id=item.id)
    item.name = "b/c.png"
    fails(dl.exceptions.BadRequest, "without '/'", item.update)

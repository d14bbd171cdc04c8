"""Items: upload, read, change, move, delete, download."""

import io
import os

import numpy as np
import pytest
from helpers_contract import png


def test_upload_fills_in_what_the_platform_knows(dataset, fill):
    (item,) = fill(names=["cat.png"], remote_path="/animals/tame")
    assert (item.filename, item.dir, item.name) == ("/animals/tame/cat.png", "/animals/tame", "cat.png")
    assert (item.width, item.height, item.mimetype) == (6, 8, "image/png")
    assert item.metadata["system"]["channels"] == 3
    assert not item.hidden and not item.annotated and item.annotations_count == 0
    assert item.download(save_locally=False).read() == png(np.zeros((8, 6, 3), np.uint8))


def test_what_the_sdk_writes_equals_what_the_platform_sent(dl, dataset, fill):
    (item,) = fill(1)
    item.annotations.upload(dl.Annotation.new(annotation_definition=dl.Box(1, 1, 2, 2, label="x"), item=item))
    annotation = item.annotations.list()[0]
    for entity, path in (
        (dl.items.get(item_id=item.id), f"/items/{item.id}"),
        (dl.datasets.get(dataset_id=dataset.id), f"/datasets/{dataset.id}"),
        (dl.projects.get(project_id=dataset.project.id), f"/projects/{dataset.project.id}"),
        (annotation, f"/annotations/{annotation.id}"),
    ):
        _, answer = dl.client_api.gen_request("get", path)
        assert entity.to_json() == answer.json()


def test_update_sends_no_spurious_difference(dl, dataset, fill):
    (item,) = fill(1)
    calls = dl.client_api.calls_counter.number
    assert item.update() is item
    assert dl.client_api.calls_counter.number == calls


def test_user_and_system_metadata(dl, dataset, fill):
    (item,) = fill(1)
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


def test_what_the_platform_computed_cannot_be_lost(dl, dataset, fill):
    (item,) = fill(1)
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
    again = upload(b"two", item_description="new")
    assert again.id == first.id
    assert dataset.items.get(item_id=first.id).description == "old"
    over = upload(b"three", overwrite=True, item_description="new")
    assert over.id == first.id and over.size == 5
    assert dataset.items.get(item_id=first.id).description == "new"
    assert over.download(save_locally=False).read() == b"three"
    other = upload(b"of another size")
    assert other.id != first.id
    assert dataset.items.list().items_count == 1


def test_a_broken_image_is_an_item_without_size(dataset):
    item = dataset.items.upload(io.BytesIO(b"\x89PNG broken"), remote_name="b.png", raise_on_error=True)
    assert item.mimetype == "image/png" and item.width is None and item.size == 11


def test_an_empty_file(dataset, tmp_path):
    item = dataset.items.upload(io.BytesIO(b""), remote_name="empty.txt", raise_on_error=True)
    assert item.size == 0
    assert item.download(save_locally=False).read() == b""


def test_a_path_cannot_leave_the_dataset(platform, dataset):
    item = dataset.items.upload(
        io.BytesIO(b"x"), remote_name="../../../etc/passwd", remote_path="/a", raise_on_error=True
    )
    assert item.filename == "/etc/passwd"
    assert not (platform.state_dir.parent / "etc").exists()


def test_names_with_odd_characters(dataset):
    name = 'a b%2F "q" é漢.png'
    item = dataset.items.upload(io.BytesIO(b"x"), remote_name=name, raise_on_error=True)
    assert item.name == name
    assert dataset.items.get(filepath=f"/{name}").id == item.id


def test_a_resumed_download_gets_the_rest(dl, dataset):
    item = dataset.items.upload(io.BytesIO(bytes(range(100))), remote_name="r.bin", raise_on_error=True)
    for header, expected in (
        ("bytes=90-", slice(90, None)),
        ("bytes=0-", slice(None)),
        ("bytes=3-4", slice(3, 5)),
    ):
        success, answer = dl.client_api.gen_request(
            "get", f"/items/{item.id}/stream", headers={"Range": header}, stream=True
        )
        assert success and answer.content == bytes(range(100))[expected]


def test_a_large_file_is_streamed(dl, dataset):
    content = bytes(range(256)) * 4000
    item = dataset.items.upload(io.BytesIO(content), remote_name="large.bin", raise_on_error=True)
    assert item.download(save_locally=False).read() == content
    path = f"/items/{item.id}/stream"
    success, answer = dl.client_api.gen_request("get", path, headers={"Range": "bytes=1000000-"}, stream=True)
    assert success and answer.status_code == 206 and answer.content == content[1_000_000:]


def test_paging_by_id_and_by_page(dl, dataset, fill):
    items = fill(7)
    pages = dataset.items.list(page_size=3)
    assert pages.items_count == 7 and pages.total_pages_count == 3
    assert sorted(item.id for item in pages.all()) == sorted(item.id for item in items)
    filters = dl.Filters()
    filters.sort_by("name", dl.FiltersOrderByDirection.DESCENDING)
    names = [item.name for item in dataset.items.list(filters, page_size=3).all()]
    assert names == sorted((item.name for item in items), reverse=True)
    counted = dl.Filters(page_size=0)
    pages = dataset.items.list(counted)
    assert pages.items_count == 7 and len(pages.items) == 0


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


def test_move(dl, dataset, fill):
    first, second = fill(2)
    fill(1, names=["keep.png"], remote_path="/there")
    first.move("/there")
    assert dataset.items.get(item_id=first.id).filename == "/there/0000.png"
    second.move("/elsewhere/renamed.png")
    read = dataset.items.get(item_id=second.id)
    assert (read.dir, read.name) == ("/elsewhere", "renamed.png")
    with pytest.raises(dl.exceptions.BadRequest, match="keep.png"):
        read.move("/there/keep.png")


def test_bulk_update_with_system_metadata(dl, dataset, fill):
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


def test_bulk_delete(dl, dataset, fill):
    fill(3)
    dataset.items.delete(filters=dl.Filters(field="name", values="000[01].png"))
    assert dataset.items.list().items_count == 3
    dataset.items.delete(filters=dl.Filters(field="name", values="0001*"))
    assert sorted(item.name for item in dataset.items.list().all()) == ["0000.png", "0002.png"]


def test_missing_items(dl, dataset):
    for bad in ("nonsense", "0" * 24):
        with pytest.raises(dl.exceptions.NotFound):
            dataset.items.get(item_id=bad)
    with pytest.raises(dl.exceptions.BadRequest):
        dataset.items.delete(item_id="nonsense")
    with pytest.raises(dl.exceptions.NotFound):
        dataset.items.delete(item_id="0" * 24)


def test_subsets(dl, dataset, fill):
    fill(10)
    dataset.split_ml_subsets(percentages={"train": 60, "validation": 20, "test": 20})
    counts = {
        name: dataset.items.list(dl.Filters(field=f"metadata.system.tags.{name}", values=True)).items_count
        for name in ("train", "validation", "test")
    }
    assert counts == {"train": 6, "validation": 2, "test": 2}
    trained = dl.Filters(field="metadata.system.tags.train", values=True)
    list(dataset.items.list(trained).all())[0].assign_subset("test")
    assert dataset.items.list(dl.Filters(field="metadata.system.tags.test", values=True)).items_count == 3
    dataset.assign_subset_to_items("train", dl.Filters())
    assert dataset.items.list(dl.Filters(field="metadata.system.tags.train", values=True)).items_count == 10


def test_clone_items_and_datasets(dl, dataset, fill):
    (item,) = fill(1, remote_path="/x")
    item.annotations.upload(dl.Annotation.new(annotation_definition=dl.Classification("cat"), item=item))
    copy = item.clone(remote_filepath="/y/copy.png")
    assert copy.filename == "/y/copy.png" and copy.id != item.id and copy.annotations_count == 1
    other = dataset.clone(clone_name="copy")
    assert sorted(each.filename for each in other.items.list().all()) == ["/x/0000.png", "/y/copy.png"]
    assert other.labels_flat_dict == {}
    dataset.delete(sure=True, really=True)
    assert len(list(other.items.list().all())[0].download(save_locally=False).read()) > 0


def test_an_upload_over_the_limit_says_so(monkeypatch, tmp_path):
    import json
    import urllib.error
    import urllib.request

    import alhelpers.platform

    with alhelpers.platform.start(tmp_path / "state", upload_limit=10) as small:

        def send(path, data, kind):
            request = urllib.request.Request(
                small.environment + path,
                data=data,
                headers={"Authorization": f"Bearer {small.token}", "Content-Type": kind},
            )
            with urllib.request.urlopen(request) as answer:
                return json.loads(answer.read())

        project = send("/projects", b"name=p", "application/x-www-form-urlencoded")
        body = json.dumps({"name": "d", "projects": [project["id"]]}).encode()
        dataset = send("/datasets", body, "application/json")
        form = (
            b'--b\r\nContent-Disposition: form-data; name="path"\r\n\r\n/a\r\n'
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n01234567890\r\n--b--\r\n'
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            send(f"/datasets/{dataset['id']}/items", form, "multipart/form-data; boundary=b")
        assert caught.value.code == 400 and "limit of 10 bytes" in caught.value.read().decode()
        assert os.listdir(tmp_path / "state" / "incoming") == []

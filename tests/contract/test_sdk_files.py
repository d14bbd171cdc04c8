"""Uploads from everything that can be uploaded, and downloads in every form."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from helpers_contract import annotate, fails, get_json, png, refused
from PIL import Image


def _paths(dl, dataset):
    everything = dl.Filters(field="type", values="file", use_defaults=False)
    return sorted(item.filename for item in dataset.items.list(everything).all())


# ----------------------------------------------------------------------------------------------------- uploads


@pytest.fixture
def folder(tmp_path):
    """Make a folder of files of several kinds, some of them in folders of their own."""
    for path, content in (
        ("a.png", png(np.zeros((4, 5, 3), np.uint8))),
        ("notes.txt", b"hello"),
        ("empty.csv", b""),
        ("deep/b.jpg", b"no image"),
        ("deep/er/ü n.mp4", b"\0\0\0 ftyp"),
        (".hidden/c.bin", b"\1"),
    ):
        file = tmp_path / "up" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return tmp_path / "up"


ALL = ["/.hidden/c.bin", "/a.png", "/deep/b.jpg", "/deep/er/ü n.mp4", "/empty.csv", "/notes.txt"]


def test_a_folder_with_or_without_its_name(dl, dataset, folder):
    items = dataset.items.upload(f"{folder}/*", raise_on_error=True, return_as_list=True)
    assert len(items) == 6 and _paths(dl, dataset) == ALL
    again = dataset.items.upload(str(folder), remote_path="in", raise_on_error=True, return_as_list=True)
    assert len(again) == 6 and "/in/up/deep/b.jpg" in _paths(dl, dataset)
    assert dataset.items.list().items_count == 10  # the hidden ones are not shown
    top = dataset.items.list(dl.Filters(field="dir", values="/"))
    kinds = {item.name: item.mimetype for item in top.all()}
    assert kinds == {"a.png": "image/png", "notes.txt": "text/plain", "empty.csv": "text/csv"}
    video = dataset.items.get(filepath="/deep/er/ü n.mp4")
    assert (video.mimetype, video.size, video.width) == ("video/mp4", 8, None)
    hidden = dataset.items.get(filepath="/.hidden/c.bin")
    assert hidden.hidden is True and hidden.mimetype == "application/octet-stream"


def test_only_some_types(dl, dataset, folder):
    dataset.items.upload(f"{folder}/*", file_types=[".png", ".jpg"], raise_on_error=True)
    assert _paths(dl, dataset) == ["/a.png", "/deep/b.jpg"]


@pytest.mark.parametrize(
    ("remote_path", "remote_name", "expected"),
    [
        (None, None, "/a.png"),
        ("/x", None, "/x/a.png"),
        ("x/y/", None, "/x/y/a.png"),
        ("/x//y", "n.png", "/x/y/n.png"),
        ("/", "/n.png", "/n.png"),
        ("/x", "y/n.png", "/x/y/n.png"),
        ("/ x ", "n m.png", "/ x /n m.png"),
    ],
)
def test_where_a_file_goes(dl, dataset, folder, remote_path, remote_name, expected):
    item = dataset.items.upload(
        str(folder / "a.png"), remote_path=remote_path, remote_name=remote_name, raise_on_error=True
    )
    assert item.filename == expected
    assert dataset.items.get(filepath=expected).id == item.id
    assert item.to_json() == get_json(dl, f"/items/{item.id}")


def test_lists_buffers_arrays_and_frames(dl, dataset, folder):
    buffer = io.BytesIO(b"abc")
    buffer.name = "buffer.txt"
    array = np.full((7, 9, 3), 200, np.uint8)
    dataset.items.upload(array, remote_name="array.png", raise_on_error=True)
    other = io.BytesIO(b"d")
    other.name = "other.txt"
    items = dataset.items.upload([buffer, other, str(folder / "a.png")], raise_on_error=True)
    assert sorted(item.name for item in items) == ["a.png", "buffer.txt", "other.txt"]
    assert dataset.items.get(filepath="/buffer.txt").download(save_locally=False).read() == b"abc"
    back = dataset.items.get(filepath="/array.png").download(save_locally=False, to_array=True)
    assert np.array_equal(back, array)
    frame = pd.DataFrame({"remote_name": ["0.png", "1.png"]})
    frame["local_path"], frame["remote_path"] = str(folder / "a.png"), "/f"
    frame["item_metadata"] = [{"user": {"index": index}} for index in range(2)]
    dataset.items.upload(frame, raise_on_error=True)
    assert dataset.items.get(filepath="/f/1.png").metadata["user"] == {"index": 1}
    with open(folder / "notes.txt", "rb") as file:
        assert dataset.items.upload(file, remote_name="n.txt", raise_on_error=True).size == 5
    fails(dl.exceptions.BadRequest, "remote_name", dataset.items.upload, array)
    fails(dl.exceptions.NotFound, "Unknown local path", dataset.items.upload, str(folder / "none.png"))


def test_metadata_description_and_annotations_come_along(dl, dataset, folder, tmp_path):
    first = dataset.items.upload(
        str(folder / "a.png"),
        item_metadata={"user": {"site": "Bern"}, "system": {"tags": {"train": True}, "size": 1}},
        item_description="a cell",
        raise_on_error=True,
    )
    read = dataset.items.get(item_id=first.id)
    assert read.metadata["user"] == {"site": "Bern"} and read.metadata["system"]["tags"] == {"train": True}
    assert read.description == "a cell" and read.size == (folder / "a.png").stat().st_size
    annotate(dl, read, dl.Box(1, 1, 3, 3, label="cat"))
    document = get_json(dl, f"/items/{read.id}")
    document["annotations"] = [annotation.to_json() for annotation in read.annotations.list()]
    file = tmp_path / "a.json"
    file.write_text(json.dumps(document))
    second = dataset.items.upload(
        str(folder / "a.png"),
        local_annotations_path=str(file),
        remote_path="/second",
        item_metadata=dl.ExportMetadata.FROM_JSON,
        raise_on_error=True,
    )
    (annotation,) = second.annotations.list()
    assert (annotation.label, annotation.left, annotation.bottom) == ("cat", 1, 3)
    assert dataset.items.get(item_id=second.id).metadata["user"] == {"site": "Bern"}
    with pytest.raises(dl.exceptions.BadRequest, match="item_metadata"):
        dataset.items.upload(str(folder / "a.png"), item_metadata="none")


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_a_folder_comes_back_with_its_annotations(dl, project, boxed, tmp_path, version):
    options = dl.ViewAnnotationOptions
    boxed.download(local_path=str(tmp_path / "out"), annotation_options=options.JSON, export_version=version)
    other = project.datasets.create("other")
    other.items.upload(
        f"{tmp_path}/out/items/*",
        local_annotations_path=f"{tmp_path}/out/json",
        export_version=version,
        raise_on_error=True,
    )
    counts = {item.filename: item.annotations_count for item in other.items.list().all()}
    assert counts == {"/notes.txt": 0, "/pics/a.png": 1, "/pics/b.png": 0}


def test_conversion_to_coco(dl, boxed, tmp_path):
    dl.Converter().convert_dataset(dataset=boxed, to_format="coco", local_path=str(tmp_path / "out"))
    (file,) = (path for path in (tmp_path / "out").glob("*.json"))
    converted = json.loads(file.read_text())
    (annotation,) = converted["annotations"]
    assert annotation["bbox"] == [5, 5, 10, 10] and len(converted["images"]) == 3


def test_modalities(dl, dataset, folder):
    item = dataset.items.upload(str(folder / "a.png"), raise_on_error=True)
    item.modalities.create(name="depth", ref=item.id)
    item.update(system_metadata=True)
    read = dataset.items.get(item_id=item.id)
    (modality,) = read.modalities.list()
    assert (modality.name, modality.ref, modality.type) == ("depth", item.id, "overlay")
    read.modalities.delete("depth")
    read.update(system_metadata=True)
    assert dataset.items.get(item_id=item.id).modalities.list() == []


def test_a_link_says_what_it_links_to(dl, dataset, folder):
    target = dataset.items.upload(str(folder / "a.png"), raise_on_error=True)
    url = dl.UrlLink(ref="http://127.0.0.1:9/x.jpg", name="far", mimetype="image/jpeg")
    far = dataset.items.upload(url, raise_on_error=True)
    assert far.name == "far_link.json" and far.mimetype == "image/jpeg"
    assert far.resolved_stream == "http://127.0.0.1:9/x.jpg"
    near = dataset.items.upload(dl.ItemLink(item=target), raise_on_error=True)
    assert near.metadata["system"]["shebang"]["linkInfo"]["ref"] == target.id
    assert near.metadata["system"]["shebang"]["dltype"] == "link"
    again = dataset.items.get(item_id=near.id)
    assert again.update() is again and again.to_json() == get_json(dl, f"/items/{near.id}")


def test_a_prompt_item_round_trips(dl, dataset):
    prompt = dl.PromptItem(name="ask.json")
    prompt.add({"role": "user", "content": [{"mimetype": dl.PromptType.TEXT, "value": "which one?"}]})
    item = dataset.items.upload(prompt, raise_on_error=True)
    assert item.system["shebang"]["dltype"] == "prompt" and item.mimetype == "application/json"
    read = dl.PromptItem.from_item(dataset.items.get(item_id=item.id))
    assert [message["content"][0]["text"] for message in read.to_messages()] == ["which one?"]
    read.add({"role": "user", "content": [{"mimetype": dl.PromptType.TEXT, "value": "and now?"}]})
    again = dl.PromptItem.from_item(dataset.items.get(item_id=item.id))
    assert [prompt.key for prompt in again.prompts] == ["1", "2"]
    assert again.item.size == len(json.dumps(again.to_json()))
    read.add(
        {"role": "assistant", "content": [{"mimetype": dl.PromptType.TEXT, "value": "both"}]},
        model_info={"name": "m"},
    )
    answers = dl.PromptItem.from_item(dataset.items.get(item_id=item.id)).to_messages()
    assert [message["role"] for message in answers] == ["user", "user", "assistant"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'[{"shebang": "dataloop"}]',
        b'{"shebang": "dataloop"}',
        b'{"shebang": "other", "metadata": {}}',
        b'{"shebang": "dataloop", "metadata": {"linkInfo": 3}}',
        b'{"shebang":' + b"[" * 5000,
    ],
)
def test_json_that_only_looks_special_is_json(dataset, content):
    item = dataset.items.upload(io.BytesIO(content), remote_name="x.json", raise_on_error=True)
    assert item.mimetype == "application/json" and item.size == len(content)


def test_what_an_upload_is_refused_for(dl, dataset):
    with pytest.raises(dl.exceptions.BadRequest, match="an item needs a path"):
        dataset.items.upload(io.BytesIO(b"x"), remote_name=" ", remote_path="/", raise_on_error=True)
    gone = dl.datasets.get(dataset_id=dataset.id)
    dataset.delete(sure=True, really=True)
    with pytest.raises(dl.exceptions.BadRequest, match="dataset not found"):
        gone.items.upload(io.BytesIO(b"x"), remote_name="x", raise_on_error=True)
    assert gone.items.upload(io.BytesIO(b"x"), remote_name="x") is None


# --------------------------------------------------------------------------------------------------- downloads


@pytest.fixture
def boxed(dl, dataset, folder):
    """Upload two images, one with a box, and a text."""
    for name in ("a.png", "b.png"):
        array = np.full((20, 30, 3), 50, np.uint8)
        dataset.items.upload(array, remote_name=f"pics/{name}", raise_on_error=True)
    dataset.items.upload(str(folder / "notes.txt"), raise_on_error=True)
    dataset.add_labels([dl.Label(tag="cat", color=(255, 0, 0))])
    annotate(dl, dataset.items.get(filepath="/pics/a.png"), dl.Box(5, 5, 15, 15, label="cat"))
    return dl.datasets.get(dataset_id=dataset.id)


def _files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_download_a_dataset(dl, boxed, tmp_path):
    out = tmp_path / "out"
    found = boxed.items.download(local_path=str(out))
    assert len(list(found)) == 3
    assert _files(out) == ["items/notes.txt", "items/pics/a.png", "items/pics/b.png"]
    flat = tmp_path / "flat"
    boxed.items.download(local_path=str(flat), to_items_folder=False, without_relative_path=True)
    assert _files(flat) == ["a.png", "b.png", "notes.txt"]
    pictures = tmp_path / "pictures"
    boxed.download(local_path=str(pictures), file_types=["image/png"])
    assert _files(pictures) == ["items/pics/a.png", "items/pics/b.png"]
    one = tmp_path / "one"
    boxed.download(local_path=str(one), filters=dl.Filters(field="name", values="b*"))
    assert _files(one) == ["items/pics/b.png"]
    assert boxed.download(local_path=str(one), filters=dl.Filters(field="name", values="none")) == []


def test_download_one_item(dl, boxed, tmp_path):
    item = boxed.items.get(filepath="/pics/a.png")
    content = item.download(save_locally=False).read()
    path = item.download(local_path=str(tmp_path / "mine.png"))
    assert path == str(tmp_path / "mine.png") and (tmp_path / "mine.png").read_bytes() == content
    (tmp_path / "mine.png").write_bytes(b"old")
    item.download(local_path=str(tmp_path / "mine.png"))
    assert (tmp_path / "mine.png").read_bytes() == b"old"
    item.download(local_path=str(tmp_path / "mine.png"), overwrite=True)
    assert (tmp_path / "mine.png").read_bytes() == content
    with pytest.raises(dl.exceptions.BadRequest, match="image only"):
        boxed.items.get(filepath="/notes.txt").download(
            save_locally=False, to_array=True, raise_on_error=True
        )
    folder = boxed.items.get(filepath="/pics", is_dir=True)
    folder.download(local_path=str(tmp_path / "dir"))
    assert [name.rsplit("/", 1)[-1] for name in _files(tmp_path / "dir")] == ["a.png", "b.png"]


def test_download_with_annotations_as_json(dl, boxed, tmp_path):
    boxed.download(local_path=str(tmp_path / "out"), annotation_options=dl.ViewAnnotationOptions.JSON)
    assert [name for name in _files(tmp_path / "out") if name.startswith("json")] == [
        "json/notes.json",
        "json/pics/a.json",
        "json/pics/b.json",
    ]
    item = boxed.items.get(filepath="/pics/a.png")
    item.download(local_path=str(tmp_path / "one"), annotation_options=dl.ViewAnnotationOptions.JSON)
    (written,) = [name for name in _files(tmp_path / "one") if name.endswith(".json")]
    exported = json.loads((tmp_path / "one" / written).read_text())
    assert [annotation["label"] for annotation in exported["annotations"]] == ["cat"]
    options = dl.ViewAnnotationOptions.JSON
    boxed.items.download(local_path=str(tmp_path / "all"), annotation_options=options)
    names = sorted(path.name for path in (tmp_path / "all").rglob("*.*"))
    assert names == ["a.json", "a.png", "b.json", "b.png", "notes.json", "notes.txt"]


def test_download_with_annotations_drawn(dl, boxed, tmp_path):
    options = dl.ViewAnnotationOptions
    boxed.download(
        local_path=str(tmp_path / "out"),
        filters=dl.Filters(field="dir", values="/pics"),
        annotation_options=[options.JSON, options.MASK, options.INSTANCE, options.ANNOTATION_ON_IMAGE],
        thickness=-1,
        with_text=True,
    )
    assert [name for name in _files(tmp_path / "out") if name.endswith("a.png")] == [
        "img_mask/pics/a.png",
        "instance/pics/a.png",
        "items/pics/a.png",
        "mask/pics/a.png",
    ]
    exported = json.loads((tmp_path / "out/json/pics/a.json").read_text())
    assert [annotation["label"] for annotation in exported["annotations"]] == ["cat"]
    mask = np.array(Image.open(tmp_path / "out/mask/pics/a.png"))
    assert mask[10, 10, :3].tolist() == [255, 0, 0] and mask[1, 1, :3].tolist() == [0, 0, 0]
    with pytest.raises(dl.exceptions.BadRequest, match="Unknown annotation download option"):
        boxed.download(local_path=str(tmp_path / "no"), annotation_options=["painting"])


@pytest.mark.parametrize(("version", "name"), [("V1", "a.json"), ("V2", "a.png.json")])
def test_annotations_leave_and_come_back(dl, boxed, tmp_path, version, name):
    boxed.download_annotations(local_path=str(tmp_path), export_version=version)
    assert f"json/pics/{name}" in _files(tmp_path)
    item = boxed.items.get(filepath="/pics/a.png")
    boxed.upload_annotations(local_path=str(tmp_path / "json"), export_version=version)
    assert len(item.annotations.list()) == 2
    boxed.upload_annotations(local_path=str(tmp_path / "json"), clean=True, export_version=version)
    assert [annotation.label for annotation in item.annotations.list()] == ["cat"]


def test_export(dl, boxed, tmp_path):
    file = boxed.export(local_path=str(tmp_path / "json"), include_annotations=True)
    exported = {item["filename"]: item for item in json.loads(open(file).read())}
    assert sorted(exported) == ["/notes.txt", "/pics/a.png", "/pics/b.png"]
    (annotation,) = exported["/pics/a.png"].pop("annotations")
    assert annotation == get_json(dl, f"/annotations/{annotation['id']}")
    document = get_json(dl, f"/items/{boxed.items.get(filepath='/pics/a.png').id}")
    assert exported["/pics/a.png"] == {key: document[key] for key in document if key != "annotations"}
    plain = boxed.export(local_path=str(tmp_path / "plain"), filters=dl.Filters(field="dir", values="/pics"))
    assert len(json.loads(open(plain).read())) == 2
    labels = dl.Filters(resource=dl.FiltersResource.ANNOTATION, field="label", values="dog")
    options = {"include_annotations": True, "annotation_filters": labels}
    none = boxed.export(local_path=str(tmp_path / "none"), **options)
    assert all(item["annotations"] == [] for item in json.loads(open(none).read()))


def test_export_as_zip_and_folders(dl, boxed, tmp_path):
    options = {"export_type": dl.ExportType.ZIP, "output_export_type": "folders"}
    assert boxed.export(local_path=str(tmp_path / "zip"), include_annotations=True, **options)
    assert _files(tmp_path / "zip") == ["notes.json", "pics/a.json", "pics/b.json"]
    boxed.export(local_path=str(tmp_path / "folders"), output_export_type=dl.OutputExportType.FOLDERS)
    assert _files(tmp_path / "folders") == ["notes.json", "pics/a.json", "pics/b.json"]
    packed = boxed.export(local_path=str(tmp_path / "packed"), output_export_type=dl.OutputExportType.ZIP)
    assert packed.endswith(".json.zip")
    with pytest.raises(ValueError, match="export_type must be one of"):
        boxed.export(local_path=str(tmp_path), export_type="paper")
    path = f"/datasets/{boxed.id}/export"
    refused(dl, "post", path, {"exportType": "paper"}, "'exportType' must be")


def test_export_with_feature_vectors(dl, project, boxed, tmp_path):
    features = project.feature_sets.create("f", 2, "x", dl.FeatureEntityType.ITEM)
    item = boxed.items.get(filepath="/pics/a.png")
    features.features.create(value=[[0.5, 1]], entity=[item])
    file = boxed.export(local_path=str(tmp_path), include_feature_vectors=True)
    exported = {each["filename"]: each for each in json.loads(open(file).read())}
    expected = [{"featureSetId": features.id, "datasetId": boxed.id, "value": [0.5, 1]}]
    assert exported["/pics/a.png"]["itemVectors"] == expected and exported["/pics/b.png"]["itemVectors"] == []
    assert exported["/pics/a.png"]["annotations"] == item.annotations_link


# -------------------------------------------------------------------------------------------------- thumbnails


def _thumbnail(dl, item):
    return dl.client_api.gen_request("get", f"/items/{item.id}/thumbnail", stream=True)[1]


def test_a_thumbnail_is_small_and_kept_in_the_dataset(dl, project, dataset):
    item = dataset.items.upload(np.zeros((600, 900, 3), np.uint8), remote_name="big.png", raise_on_error=True)
    assert "/.dataloop" not in dataset.directory_tree.dir_names
    answer = _thumbnail(dl, item)
    picture = Image.open(io.BytesIO(answer.content))
    assert (picture.format, picture.size) == ("JPEG", (256, 171))
    assert answer.headers["Content-Type"] == "image/jpeg"
    tree = project.datasets.directory_tree(dataset_id=dataset.id)
    assert tree.dir_names == ["/.dataloop/thumbnails", "/.dataloop", "/"]
    assert _thumbnail(dl, item).content == answer.content
    assert dataset.items.list().items_count == 1
    white = np.full((30, 30, 3), 255, np.uint8)
    dataset.items.upload(white, remote_name="big.png", overwrite=True, raise_on_error=True)
    assert np.array(Image.open(io.BytesIO(_thumbnail(dl, item).content))).min() > 250
    clone = dataset.clone(clone_name="copy")
    assert clone.items.list(dl.Filters(use_defaults=False)).items_count == 1
    item.delete()
    assert dataset.items.list(dl.Filters(field="type", values="file", use_defaults=False)).items_count == 0


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "1", "I;16", "CMYK"])
def test_thumbnails_of_all_kinds_of_images(dl, dataset, mode):
    buffer = io.BytesIO()
    Image.new(mode, (20, 10)).save(buffer, format="TIFF")
    item = dataset.items.upload(io.BytesIO(buffer.getvalue()), remote_name="x.tiff", raise_on_error=True)
    assert Image.open(io.BytesIO(_thumbnail(dl, item).content)).size == (20, 10)


def test_what_has_no_thumbnail(dl, dataset):
    text = dataset.items.upload(io.BytesIO(b"x"), remote_name="x.txt", raise_on_error=True)
    broken = dataset.items.upload(io.BytesIO(b"\x89PNG"), remote_name="x.png", raise_on_error=True)
    for item, status in ((text, 404), (broken, 404), (dataset.items.make_dir("/d"), 400)):
        assert _thumbnail(dl, item).status_code == status
    assert dataset.items.list(dl.Filters(use_defaults=False)).items_count == 3

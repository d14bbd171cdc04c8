"""Annotations of every type: what goes in comes out, and what of it can be changed, found and exported."""

import io
import json
import pathlib

import numpy as np
import pytest
from helpers_contract import annotate, fails, get_json, refused, send, written


def mask(*rows):
    """A mask as large as the items of `fill`, filled in these rows."""
    filled = np.zeros((8, 6))
    filled[list(rows)] = 1
    return filled


def definitions(dl):
    corners = [[1, 1], [5, 1], [5, 5], [1, 5]]
    behind = [[x + 1, y + 1] for x, y in corners]
    return {
        "class": dl.Classification("cat"),
        "box": dl.Box(1, 2, 5, 7, label="cat"),
        "rotated box": dl.Box(1, 2, 5, 7, label="cat", angle=30),
        "segment": dl.Polygon(geo=[(1, 1), (5, 1), (5, 5)], label="cat"),
        "binary": dl.Segmentation(geo=mask(2, 3), label="cat"),
        "point": dl.Point(3, 4, label="cat"),
        "polyline": dl.Polyline(geo=[(1, 1), (5, 1), (7, 9)], label="cat"),
        "ellipse": dl.Ellipse(x=5, y=6, rx=2, ry=3, angle=20, label="cat"),
        "cube": dl.Cube("cat", *corners, *behind),
        "cube_3d": dl.Cube3d(label="cat", position=[1, 2, 3], scale=[1, 1, 1], rotation=[0, 0, 0]),
        "note": dl.Note(1, 1, 4, 4, label="cat", messages=["look here"]),
        "subtitle": dl.Subtitle("spoken", label="cat"),
        "text": dl.FreeText("written", label="cat"),
        "text_mark": dl.Text("block", 1, 2, "cat"),
        "item_description": dl.Description("what it shows"),
    }


KINDS = (
    *("class", "box", "rotated box", "segment", "binary", "point", "polyline", "ellipse", "cube", "cube_3d"),
    *("note", "subtitle", "text", "text_mark", "item_description"),
)


def platform_json(dl, annotation_id):
    return get_json(dl, f"/annotations/{annotation_id}")


def upload(dl, item, definition, **options):
    return annotate(dl, item, definition, **options)[0]


def listed(dl, repository, field=None, values=None, operator=None, sort=None, **options):
    condition = {"field": field, "values": values, "operator": operator}
    filters = dl.Filters(resource=dl.FiltersResource.ANNOTATION, **condition, **options)
    if sort:
        filters.sort_by(*sort)
    found = repository.list(filters=filters)
    return list(found.all()) if hasattr(found, "all") else list(found)


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_comes_out_as_it_went_in(dl, item, kind):
    definition = definitions(dl)[kind]
    definition.description = "seen twice"
    if kind != "item_description":
        definition.attributes = {"1": "calm", "2": ["a", "b"], "3": 4, "4": True}
    given = dl.Annotation.new(annotation_definition=definition, item=item, object_id=7).to_json()
    uploaded = upload(dl, item, definition, object_id=7)
    stored = platform_json(dl, uploaded.id)
    for field in ("type", "label", "coordinates", "description"):
        assert stored.get(field) == given.get(field), field
    assert stored["metadata"] == given["metadata"]
    read = item.annotations.get(annotation_id=uploaded.id)
    assert written(read) == stored == written(uploaded) and "attributes" not in stored
    assert (read.item_id, read.dataset_id, read.source) == (item.id, item.dataset_id, "sdk")
    assert read.creator == read.updated_by == dl.info()["user_email"]
    assert read.created_at == read.updated_at and read.object_id == "7"
    calls = dl.client_api.calls_counter.number
    read.update()
    assert dl.client_api.calls_counter.number == calls, "an annotation that did not change is not sent"


def test_what_an_annotation_is_can_be_read_from_it(dl, item):
    made = {kind: upload(dl, item, definition) for kind, definition in definitions(dl).items()}
    read = {kind: dl.annotations.get(annotation_id=each.id) for kind, each in made.items()}
    box, rotated = read["box"], read["rotated box"]
    assert (box.left, box.top, box.right, box.bottom, box.angle) == (1, 2, 5, 7, None)
    assert rotated.angle == 30
    assert read["segment"].geo.tolist() == [[1, 1], [5, 1], [5, 5]]
    assert np.array_equal(read["binary"].geo, mask(2, 3))
    assert (read["point"].x, read["point"].y) == (3, 4)
    ellipse = read["ellipse"]
    assert (ellipse.x, ellipse.y, ellipse.rx, ellipse.ry, ellipse.angle) == (5, 6, 2, 3, 20)
    assert [message.body for message in read["note"].messages] == ["look here"]
    assert read["note"].metadata["system"]["status"] == "issue"
    assert read["text"].coordinates == "written" and read["subtitle"].coordinates == {"text": "spoken"}
    assert read["item_description"].coordinates == {"text": "what it shows"}
    # The SDK's own filter leaves out notes, and the types that it does not name.
    assert len(item.annotations.list()) == len(made) - 2
    assert len(listed(dl, item.annotations, use_defaults=False)) == len(made)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"type": "box", "label": "a"}, "an annotation of type 'box' needs 'coordinates'"),
        ({"type": "point", "label": "a", "coordinates": [1]}, "needs 'coordinates', an object"),
        ({"type": "class"}, "an annotation needs a 'label'"),
        ({"type": "box", "label": ""}, "an annotation needs a 'label'"),
        ({"type": "", "label": "a"}, "an annotation needs a 'type'"),
        ({"type": "class", "label": "a", "metadata": []}, "'metadata' must be an object"),
        ("cat", "an annotation must be an object"),
    ],
)
def test_a_wrong_annotation_is_refused_with_all_that_came_with_it(dl, item, given, message):
    batch = [{"type": "class", "label": "good"}, given]
    refused(dl, "post", f"/items/{item.id}/annotations", batch, message)
    assert len(item.annotations.list()) == 0


def test_annotations_come_in_every_form(dl, item, tmp_path):
    box = dl.Annotation.new(annotation_definition=dl.Box(1, 2, 5, 7, label="one"), item=item)
    builder = item.annotations.builder()
    builder.add(dl.Box(1, 2, 5, 7, label="two"))
    builder.add([dl.Point(1, 1, label="three"), dl.Point(1, 2, label="four")])
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"annotations": [{"type": "class", "label": "five"}]}))
    uploads = [
        item.annotations.upload(box),
        item.annotations.upload([box.to_json(), json.dumps(box.to_json())]),
        builder.upload(),
        item.annotations.upload(str(path)),
        [box.upload()],
    ]
    assert [len(each) for each in uploads] == [1, 2, 3, 1, 1]
    ids = {each.id for batch in uploads for each in batch}
    assert len(ids) == 8 and dl.items.get(item_id=item.id).annotations_count == 8


def test_a_downloaded_file_is_uploaded_to_another_item(dl, fill, tmp_path):
    first, second = fill(2)
    upload(dl, first, dl.Box(1, 2, 5, 7, label="a"))
    path = first.annotations.download(str(tmp_path / "first.json"))
    content = json.loads((tmp_path / "first.json").read_text())
    assert content["_id"] == first.id and content["filename"] == first.filename
    (copied,) = second.annotations.upload(path)
    assert copied.item_id == second.id and copied.id != content["annotations"][0]["id"]
    assert (copied.label, copied.left) == ("a", 1)


def test_a_folder_of_annotations_is_downloaded_and_uploaded(dl, project, dataset, fill, tmp_path):
    for item in (*fill(1), *fill(1, remote_path="/deep", names=["other.png"])):
        upload(dl, item, dl.Box(1, 2, 5, 7, label=item.name))
    folder = dataset.download_annotations(local_path=str(tmp_path / "out"))
    read = {path.name: json.loads(path.read_text()) for path in pathlib.Path(folder).rglob("*.json")}
    assert sorted(read) == ["0000.json", "other.json"]
    assert read["other.json"]["filename"] == "/deep/other.png"
    target = project.datasets.create("target")
    for row in dataset.items.list().all():
        row.clone(dst_dataset_id=target.id, with_annotations=False)
    for clean, count in ((False, 2), (False, 4), (True, 2)):
        target.upload_annotations(local_path=str(tmp_path / "out" / "json"), clean=clean)
        assert dl.datasets.get(dataset_id=target.id).annotations_count == count
    assert {each.label for each in target.annotations.list().all()} == {"0000.png", "other.png"}


def test_items_bring_their_annotations(dl, dataset, tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "a.json").write_text(json.dumps({"annotations": [{"type": "class", "label": "a"}]}))
    paths = {"local_path": str(tmp_path / "a.txt"), "local_annotations_path": str(tmp_path / "a.json")}
    item = dataset.items.upload(**paths, raise_on_error=True)
    assert [each.label for each in item.annotations.list()] == ["a"]
    assert dataset.items.get(item_id=item.id).annotated


def test_masks_of_one_object_are_merged(dl, item):
    upload(dl, item, dl.Segmentation(geo=mask(1), label="cat"), object_id=1)
    builder = item.annotations.builder()
    builder.add(dl.Segmentation(geo=mask(3), label="cat"), object_id=1)
    builder.add(dl.Segmentation(geo=mask(5), label="dog"), object_id=2)
    item.annotations.upload(builder, merge=True)
    cat, dog = item.annotations.list()
    assert np.array_equal(cat.geo, mask(1, 3)) and np.array_equal(dog.geo, mask(5))


def test_predictions_say_which_model_made_them(dl, dataset, item):
    builder = item.annotations.builder()
    info = {"name": "net", "model_id": "5", "confidence": 0.8}
    builder.add(dl.Box(1, 2, 5, 7, label="a"), model_info=info)
    builder.add(dl.Box(1, 2, 5, 7, label="b"))
    builder.upload()
    confidence = ("metadata.user.model.confidence", 0.5)
    sure = listed(dl, dataset.annotations, *confidence, "gt")
    assert [each.label for each in sure] == ["a"]
    assert listed(dl, dataset.annotations, *confidence, "lt") == []
    assert sure[0].metadata["user"]["model"] == info


def test_children_know_their_parent(dl, dataset, item):
    parent = upload(dl, item, dl.Box(0, 0, 5, 5, label="car"))
    child = upload(dl, item, dl.Box(1, 1, 2, 2, label="wheel"), parent_id=parent.id)
    assert child.parent_id == parent.id and parent.parent_id is None
    (found,) = listed(dl, dataset.annotations, "metadata.system.parentId", parent.id)
    assert found.id == child.id
    child.parent_id = None
    child.update(system_metadata=True)
    assert dl.annotations.get(annotation_id=child.id).parent_id is None


def test_nobody_is_their_own_ancestor(dl, dataset, item):
    first = upload(dl, item, dl.Box(0, 0, 5, 5, label="car"))
    second = upload(dl, item, dl.Box(1, 1, 2, 2, label="wheel"), parent_id=first.id)
    third = upload(dl, item, dl.Box(1, 1, 2, 2, label="screw"), parent_id=second.id)
    for parent in (first, third):
        change = {"metadata": {"system": {"parentId": parent.id}}}
        refused(dl, "put", f"/annotations/{first.id}?system=true", change, "circular")
        assert dl.annotations.get(annotation_id=first.id).parent_id is None
    third.parent_id = first.id
    assert third.update(system_metadata=True).parent_id == first.id


# ---------------------------------------------------------------------------------------------------- changing


def test_every_part_of_an_annotation_can_be_changed(dl, item):
    box = upload(dl, item, dl.Box(1, 2, 5, 7, label="a", attributes={"1": "x", "2": "y"}))
    before = platform_json(dl, box.id)
    box.left, box.bottom, box.label, box.description = 0, 8, "b", "moved"
    box.attributes = {"1": "z"}
    box.metadata["mine"] = {"deep": [1, 2]}
    updated = box.update()
    assert (updated.left, updated.bottom, updated.label, updated.description) == (0, 8, "b", "moved")
    assert updated.attributes == {"1": "z"} and updated.metadata["mine"] == {"deep": [1, 2]}
    after = platform_json(dl, box.id)
    assert after["updatedAt"] > before["updatedAt"] and after["createdAt"] == before["createdAt"]
    del updated.metadata["mine"]
    updated.attributes = {}
    assert "mine" not in updated.update().metadata
    assert platform_json(dl, box.id)["metadata"]["system"]["attributes"] == {}


@pytest.mark.parametrize("kind", ["segment", "binary", "point", "ellipse", "note", "subtitle"])
def test_coordinates_of_other_types_can_be_changed(dl, item, kind):
    annotation = upload(dl, item, definitions(dl)[kind])
    changes = {
        "segment": lambda: setattr(annotation, "geo", np.array([[0, 0], [1, 1], [2, 0]])),
        "binary": lambda: setattr(annotation, "geo", mask(6)),
        "point": lambda: setattr(annotation.annotation_definition, "x", 5),
        "ellipse": lambda: setattr(annotation.annotation_definition, "rx", 5),
        "note": lambda: annotation.add_message("answered"),
        "subtitle": lambda: setattr(annotation.annotation_definition, "text", "sung"),
    }
    before = platform_json(dl, annotation.id)["coordinates"]
    changes[kind]()
    wanted = annotation.coordinates
    annotation.update()
    assert platform_json(dl, annotation.id)["coordinates"] == wanted != before


def test_system_metadata_changes_when_asked_for(dl, item):
    box = upload(dl, item, dl.Box(1, 2, 5, 7, label="a"))
    box.metadata["system"]["secret"] = 1
    assert "secret" not in box.update().metadata["system"]
    box.metadata["system"]["secret"] = 2
    box.object_id, box.automated = "9", False
    system = box.update(system_metadata=True).metadata["system"]
    assert system.items() >= {"secret": 2, "objectId": "9", "automated": False}.items()


def test_a_wrong_change_is_refused(dl, item):
    box = upload(dl, item, dl.Box(1, 2, 5, 7, label="a"))
    before = platform_json(dl, box.id)
    for change in ({"label": ""}, {"label": None}, {"type": None}, {"coordinates": None}, {"metadata": 1}):
        refused(dl, "put", f"/annotations/{box.id}", change)
    answer = send(dl, "put", f"/annotations/{box.id}", {"id": "x", "itemId": "y"})
    assert answer == before | {"updatedAt": answer["updatedAt"]} == platform_json(dl, box.id)


def test_a_collection_is_changed_and_deleted_as_one(dl, dataset, item):
    for label in "abc":
        upload(dl, item, dl.Classification(label))
    collection = item.annotations.list()
    for annotation in collection:
        annotation.label *= 2
    assert sorted(each.label for each in collection.update()) == ["aa", "bb", "cc"]
    assert item.annotations.list().delete() == [True] * 3
    read = dataset.items.get(item_id=item.id)
    assert read.annotations_count == 0 and not read.annotated


def test_many_annotations_are_changed_by_a_filter(dl, dataset, item):
    for label in "aab":
        upload(dl, item, dl.Classification(label))
    only = dl.Filters(resource=dl.FiltersResource.ANNOTATION, field="label", values="a")
    dataset.items.update(filters=only, update_values={"checked": True})
    checked = listed(dl, dataset.annotations, "metadata.user.checked", True)
    assert [each.label for each in checked] == ["a", "a"]


def test_a_missing_annotation_is_a_bad_request(dl, dataset, fill):
    first, second = fill(2)
    box = upload(dl, first, dl.Box(1, 2, 5, 7, label="a"))
    path = f"/datasets/{dataset.id}/items/{{}}/annotations/{{}}"
    assert get_json(dl, path.format(first.id, box.id))["id"] == box.id
    for missing in (path.format(second.id, box.id), path.format(first.id, "no"), "/annotations/no"):
        refused(dl, "get", missing, None, "annotation not found")
    box.delete()
    fails(dl.exceptions.BadRequest, "annotation not found", box.delete)
    for repository in (first.annotations, dl.annotations):
        fails(dl.exceptions.BadRequest, "annotation not found", repository.get, annotation_id=box.id)
    with pytest.raises(dl.exceptions.BadRequest):
        first.annotations.delete()


def test_directories_have_no_annotations(dl, dataset):
    folder = dataset.items.make_dir("/folder")
    body = {"type": "class", "label": "a"}
    refused(dl, "post", f"/items/{folder.id}/annotations", body, "'/folder' is a directory")


# ----------------------------------------------------------------------------------------------------- finding


@pytest.fixture
def mixed(dl, fill):
    """Two items: a box 'dog' and a point 'cat' on the first, a class 'dog' on the second."""
    first, second = fill(2)
    upload(dl, first, dl.Box(1, 2, 5, 7, label="dog", attributes={"1": "big"}), object_id=4)
    upload(dl, first, dl.Point(1, 2, label="cat"))
    upload(dl, second, dl.Classification("dog"))
    return first, second


def test_annotations_are_found_by_their_fields(dl, dataset, mixed):
    def found(*condition):
        return sorted((each.label, each.type) for each in listed(dl, dataset.annotations, *condition))

    box, point, whole = ("dog", "box"), ("cat", "point"), ("dog", "class")
    assert found("label", "dog") == [box, whole]
    assert found("type", ["box", "point"], "in") == found("itemId", mixed[0].id) == [point, box]
    assert found("label", "dog", "ne") == [point]
    assert found("metadata.system.objectId", "4") == found("metadata.system.attributes.1", "big") == [box]
    assert found("creator", dl.info()["user_email"]) == [point, box, whole]
    assert found("createdAt", "2999-01-01T00:00:00.000Z", "gt") == []
    assert [each.label for each in listed(dl, mixed[0].annotations, "label", "dog")] == ["dog"]


@pytest.mark.parametrize("field", ["createdAt", "type", "label"])
@pytest.mark.parametrize("page_size", [2, 1000])
def test_annotations_are_sorted_over_pages(dl, dataset, mixed, field, page_size):
    def key(each):
        return platform_json(dl, each.id)[field]

    for direction, reverse in (("ascending", False), ("descending", True)):
        found = listed(dl, dataset.annotations, sort=(field, direction), page_size=page_size)
        assert len(found) == 3
        assert [key(each) for each in found] == sorted(map(key, found), reverse=reverse)


def test_annotations_of_some_items_are_found(dl, dataset, mixed):
    filters = dl.Filters(resource=dl.FiltersResource.ANNOTATION)
    filters.add_join(field="name", values=mixed[1].name)
    assert [each.type for each in dataset.annotations.list(filters=filters).all()] == ["class"]


# ------------------------------------------------------------------------------------------------ over time


@pytest.fixture
def video(dl, dataset):
    file = io.BytesIO(b"\0" * 64)
    file.name = "film.mp4"
    item = dataset.items.upload(local_path=file, remote_name="film.mp4", raise_on_error=True)
    item.metadata["fps"] = 25
    item.metadata["system"] |= {"fps": 25, "height": 20, "width": 30}
    return item.update(system_metadata=True)


def test_annotations_of_a_video_have_frames(dl, video):
    builder = video.annotations.builder()
    for frame in range(0, 10, 2):
        box = dl.Box(frame, 1, frame + 5, 9, label="dog", attributes={"1": str(frame)})
        builder.add(box, object_id=1, frame_num=frame, end_frame_num=frame + 1)
    builder.add(dl.Classification("outdoors"), object_id=2, start_time=1, end_time=2)
    video.annotations.upload(builder)
    box, whole = sorted(video.annotations.list(), key=lambda each: each.type)
    assert (box.start_frame, box.end_frame, box.is_video) == (0, 9, True)
    assert (whole.end_frame, whole.end_time) == (50, 2)
    assert written(box) == platform_json(dl, box.id)
    for frame, left in ((0, 0), (4, 4), (5, 4), (9, 8)):
        assert box.set_frame(frame) and (box.left, box.attributes) == (left, {"1": str(left)})
    assert not box.set_frame(99)
    assert [each.left for each in video.annotations.list().get_frame(6) if each.type == "box"] == [6]
    box.add_frame(dl.Box(1, 1, 2, 2, label="wolf"), frame_num=30)
    box.update()
    read = video.annotations.get(annotation_id=box.id)
    assert read.end_frame == 30 and read.set_frame(30) and (read.label, read.right) == ("wolf", 2)


def test_subtitles_are_written_and_read(dl, video, tmp_path):
    builder = video.annotations.builder()
    builder.add(dl.Subtitle("good evening", label="speech"), object_id=1, start_time=0, end_time=2)
    builder.upload()
    path = video.annotations.download(str(tmp_path / "film.vtt"), annotation_format="vtt")
    assert "good evening" in (tmp_path / "film.vtt").read_text()
    again = video.annotations.builder()
    again.from_vtt_file(path)
    again.upload()
    texts = [each.coordinates["text"] for each in video.annotations.list()]
    assert texts == ["good evening", "good evening"]


def test_sounds_and_texts_have_annotations(dl, dataset, tmp_path):
    for name in ("sound.wav", "page.txt"):
        (tmp_path / name).write_bytes(b"\0")
    page, sound = sorted(
        dataset.items.upload(f"{tmp_path}/*", raise_on_error=True), key=lambda each: each.name
    )
    builder = sound.annotations.builder()
    builder.add(dl.Subtitle("boom", label="speech"), start_time=1, end_time=2)
    builder.upload()
    (heard,) = sound.annotations.list()
    assert (heard.start_time, heard.end_time, heard.coordinates) == (1, 2, {"text": "boom"})
    upload(dl, page, dl.Text("block", 3, 5, "word"))
    (word,) = page.annotations.list()
    assert (word.coordinates["start"], word.coordinates["end"]) == (3, 5)

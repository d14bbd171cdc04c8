"""Images with boxes, from COCO's format."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest
from PIL import Image

from alhelpers import data, evaluation
from alhelpers.cli.coco_files import read_results, read_truth
from alhelpers.protocols import Dataset

DOCUMENT = {
    "info": {"year": 2026},
    "images": [
        {"id": 70, "file_name": "b.png", "height": 20, "width": 40, "license": 1},
        {"id": 9, "file_name": "sub/a.png", "height": 20, "width": 40},
        {"id": 12, "file_name": "none.png", "height": 20, "width": 40},
    ],
    "categories": [
        {"id": 30, "name": "truck", "supercategory": "vehicle"},
        {"id": 3, "name": "car", "supercategory": "vehicle"},
    ],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 30, "bbox": [1, 2, 3.5, 4], "iscrowd": 0, "area": 14},
        {
            "id": 2,
            "image_id": 70,
            "category_id": 3,
            "bbox": [0, 0, 40.25, 20],
            "segmentation": [[0, 0, 40, 20, 1, 1]],
        },
        {"id": 3, "image_id": 9, "category_id": 3, "bbox": [0, 5, 10, 10], "iscrowd": 1},
        {"id": 4, "image_id": 9, "category_id": 3, "bbox": [10, 10, 10, 5], "iscrowd": 0},
    ],
}


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for image in DOCUMENT["images"]:
        pixels = draw.integers(0, 256, (image["height"], image["width"], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / image["file_name"])
    return folder


def write(images, document):
    path = images.parent / "instances.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def row(image_id, label, *sides):
    return {"image_id": image_id, "label": label} | dict(
        zip(("left", "top", "right", "bottom"), sides, strict=True)
    )


def test_boxes_are_rows_of_the_kit(images):
    dataset = data.coco(write(images, DOCUMENT), images)
    assert isinstance(dataset, Dataset) and dataset.task == "detection"
    assert dataset.ids.tolist() == ["b.png", "sub/a.png", "none.png"]
    assert dataset.image_ids.tolist() == [70, 9, 12]
    assert dataset.class_names == ("car", "truck") and dataset.category_ids == (3, 30)
    first = row("b.png", "car", 0, 0, 40, 20)  # cut at the edge
    second = [row("sub/a.png", "truck", 1, 2, 4.5, 6), row("sub/a.png", "car", 10, 10, 20, 15)]
    assert dataset.labels() == [first, *second]
    assert dataset.labels([2]) == [] and dataset.labels([1, 0]) == [*second, first]
    assert dataset.crowds() == [{**row("sub/a.png", "car", 0, 5, 10, 15), "iscrowd": 1}]
    assert dataset.inputs([1]).shape == (1, 3, 20, 40)
    taken = dataset.take([1])
    assert taken.image_ids.tolist() == [9] and taken.labels() == second
    assert len(dataset.labelled) == 3 and len(dataset.unlabelled) == 0
    assert evaluation.iou([[1, 2, 4.5, 6]], [[1, 2, 4.5, 6]]).item() == 1


def test_the_boxes_are_those_of_pycocotools(images):
    from pycocotools.coco import COCO

    document = copy.deepcopy(DOCUMENT)
    document["annotations"][1]["iscrowd"] = 0
    path = write(images, document)
    dataset = data.coco(path, images)
    with contextlib.redirect_stdout(io.StringIO()):
        peer = COCO(str(path))
    for place, image_id in enumerate(dataset.image_ids.tolist()):
        theirs = [
            (peer.cats[one["category_id"]]["name"], *one["bbox"])
            for one in peer.loadAnns(peer.getAnnIds(image_id, iscrowd=0))
        ]
        ours = [
            (box["label"], box["left"], box["top"], box["right"] - box["left"], box["bottom"] - box["top"])
            for box in dataset.labels([place])
        ]
        assert sorted(ours) == sorted((name, *box[:2], min(box[2], 40), box[3]) for name, *box in theirs)


def test_boxes_are_resized_with_the_images(images):
    dataset = data.coco(write(images, DOCUMENT), images, size=(10, 60))
    assert dataset.inputs([1]).shape == (1, 3, 10, 60)
    assert dataset.labels([1])[0] == row("sub/a.png", "truck", 1.5, 1, 6.75, 3)


def test_without_annotations_the_images_are_the_pool(images):
    dataset = data.coco(write(images, {key: DOCUMENT[key] for key in ("images", "categories")}), images)
    assert len(dataset.unlabelled) == 3
    with pytest.raises(ValueError, match="'b.png' has no label"):
        dataset.labels()


def test_problems_are_listed(images):
    (images / "b.png").unlink()
    Image.new("RGB", (20, 40)).save(images / "none.png")
    dataset = data.coco(write(images, DOCUMENT), images)
    ((chunk, problems),) = dataset.chunks()
    assert chunk.ids.tolist() == ["sub/a.png"] and chunk.task == "detection"
    assert [problem.id for problem in problems] == ["b.png", "none.png"]
    assert problems[0].reason == "No such file or directory"
    assert problems[1].reason.startswith(
        "it is 20 pixels wide and 40 high, but 40 and 20 where its boxes come from"
    )
    assert dataset.readable().ids.tolist() == ["sub/a.png"]


def test_the_same_image_twice_is_a_duplicate(images):
    (images / "none.png").write_bytes((images / "b.png").read_bytes())
    dataset = data.coco(write(images, DOCUMENT), images)
    ((_, problems),) = dataset.chunks()
    assert [problem.reason for problem in problems] == [
        "it has the same content as 'b.png', and another label"
    ]


def test_a_turned_image_has_the_size_of_the_upright_one(images):
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (20, 40)).save(images / "none.png", exif=turned)
    assert data.coco(write(images, DOCUMENT), images).inputs([2]).shape == (1, 3, 20, 40)


def changed(change):
    document = copy.deepcopy(DOCUMENT)
    change(document)
    return document


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d["annotations"][1].update(image_id=5),
            "annotation 2 of .* has image_id 5, .* among the images",
        ),
        (
            lambda d: d["annotations"][1].update(category_id=5),
            "annotation 2 of .* category_id 5, .* the categories",
        ),
        (
            lambda d: d["annotations"][0].update(bbox=[1, 1, 0, 5]),
            r"annotation 1 of .*, \[1, 1, 0, 5\], has no area",
        ),
        (lambda d: d["annotations"][0].update(bbox=[1, 1, 5]), "must be four finite numbers"),
        (lambda d: d["annotations"][0].update(bbox=[1, 1, float("nan"), 5]), "must be four finite numbers"),
        (lambda d: d["annotations"][0].update(bbox=[1, 1, "5", 5]), "must be four finite numbers"),
        (
            lambda d: d["annotations"][0].update(bbox=[35, 1, 9, 5]),
            "is not inside of its image 'sub/a.png', 40 wide",
        ),
        (lambda d: d["annotations"][0].update(bbox=[-0.5, 1, 0.25, 5]), "is not inside of its image"),
        (
            lambda d: d["annotations"][0].update(bbox=None),
            "bbox of id 1 is None, and must be a list",
        ),
        (lambda d: d["annotations"][0].update(id=2), "has two annotation entries with id 2"),
        (
            lambda d: d["annotations"][0].update(iscrowd=2),
            "annotation 1 of .* has iscrowd 2: it must be 0 or 1",
        ),
        (lambda d: d["annotations"][0].update(iscrowd="1"), "annotation 1 of .* has iscrowd '1'"),
        (lambda d: d["annotations"][0].update(bbox=[True, 1, 2, 3]), "must be four finite numbers"),
        (lambda d: d["images"][0].update(id=9), "has two image entries with id 9"),
        (
            lambda d: d["images"][0].update(file_name="./sub/a.png"),
            "two image entries with file_name 'sub/a.png'",
        ),
        (lambda d: d["images"][0].update(file_name="../a.png"), r"image 70 of .* has file_name '\.\./a.png'"),
        (lambda d: d["images"][0].update(height=0), "image 70 of .* is 40 wide and 0 high"),
        (
            lambda d: d["images"][0].pop("id"),
            "images of .*: id of number 0 is None, and must be a whole number",
        ),
        (lambda d: d["categories"][0].update(name="car"), "has two category entries with name 'car'"),
        (lambda d: d.update(images=[]), "lists no image"),
        (lambda d: d.pop("categories"), "has no list 'categories'"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(images, change, message):
    with pytest.raises(ValueError, match=message):
        data.coco(write(images, changed(change)), images)


def test_wrong_files_are_named(images):
    for content, message in (("{", "is not a JSON file"), ("[]", "holds a list: it must be an object")):
        with pytest.raises(ValueError, match=message):
            data.coco(write(images, content), images)
    path = write(images, DOCUMENT)
    with pytest.raises(
        FileNotFoundError, match="has none of the 3 images of .*, such as 'b.png': pass their folder"
    ):
        data.coco(path, images / "sub")
    with pytest.raises(FileNotFoundError, match=r"gone.json is not there: name a JSON file in COCO's format"):
        data.coco(images / "gone.json", images)
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        data.coco(path, images / "nowhere")


# ---------------------------------------------------------------------- masks


def with_masks():
    """Return the document with polygons, and run lengths of the crowd as numbers."""
    document = copy.deepcopy(DOCUMENT)
    truck, whole, crowd, car = document["annotations"]
    truck.update(segmentation=[[1, 2, 4.2, 2, 4.2, 6, 1, 6]])
    whole.update(iscrowd=0, segmentation=[[0, 0, 40, 0, 40, 20, 0, 20]])
    # columns 0 to 9, rows 5 to 14
    crowd.update(segmentation={"size": [20, 40], "counts": [5, *[10] * 19, 5 + 20 * 30]})
    car.update(segmentation=data.encode_mask(_filled(10, 10, 20, 15)))
    return document


def _filled(left, top, right, bottom, height=20, width=40):
    mask = np.zeros((height, width), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_masks_are_those_of_pycocotools(images):
    from pycocotools.coco import COCO

    path = write(images, with_masks())
    dataset = data.coco(path, images)
    with contextlib.redirect_stdout(io.StringIO()):
        peer = COCO(str(path))
    for place, image_id in enumerate(dataset.image_ids.tolist()):
        theirs = [peer.annToMask(one) for one in peer.loadAnns(peer.getAnnIds(image_id, iscrowd=0))]
        (ours,) = dataset.object_masks([place])
        assert ours.shape == (len(theirs), 20, 40) and (ours == np.array(theirs).reshape(ours.shape)).all()


def test_maps_of_classes_have_crowds_at_255(images):
    dataset = data.coco(write(images, with_masks()), images).segmentation()
    assert dataset.task == "segmentation" and dataset.class_names == ("background", "car", "truck")
    maps = dataset.labels()
    expected = np.where(_filled(0, 5, 10, 15), 255, 0)
    expected[2:6, 1:4] = 2  # the centres to the right are outside
    expected[10:15, 10:20] = 1
    assert (maps[1] == expected).all() and (maps[0] == 1).all() and not maps[2].any()
    loaded = dataset.load()
    assert loaded.task == "segmentation" and (loaded.labels() == maps).all()
    small = data.coco(write(images, with_masks()), images, size=(10, 20)).segmentation()
    assert small.labels([0]).shape == (1, 10, 20) and (small.labels([0]) == 1).all()
    assert small.labels([1])[0, 5:7, 5:10].tolist() == [[1] * 5] * 2
    assert (small.load().labels() == small.labels()).all()


@pytest.mark.parametrize("masks", [None, "counts", "polygons"])
def test_what_is_written_is_read_back(images, masks):
    dataset = data.coco(write(images, with_masks()), images)
    data.write_coco(images / "again.json", dataset, masks=masks)
    again = data.coco(images / "again.json", images)
    assert again.ids.tolist() == dataset.ids.tolist() and again.image_ids.tolist() == [70, 9, 12]
    assert again.category_ids == (3, 30) and again.class_names == ("car", "truck")
    assert again.labels() == dataset.labels() and again.crowds() == dataset.crowds()
    assert all(
        (one == other).all() for one, other in zip(again.object_masks(), dataset.object_masks(), strict=True)
    )
    forms = {
        type(one["segmentation"]) for one in json.loads((images / "again.json").read_text())["annotations"]
    }
    assert forms == {None: {list, dict}, "counts": {dict}, "polygons": {list}}[masks]


def test_scenes_are_read_back_with_their_images(tmp_path):
    scenes = data.scenes(6, seed=2, empty=0.5)
    data.write_coco(tmp_path / "scenes.json", scenes, images=tmp_path)
    again = data.coco(tmp_path / "scenes.json", tmp_path)
    assert [f"{one}.png" for one in scenes.ids] == again.ids.tolist()
    assert (again.inputs() == scenes.inputs()).all()
    assert (again.segmentation().labels() == scenes.segmentation().labels()).all()
    loaded = again.load()
    assert loaded.labels() == again.labels() and (loaded.images == scenes.images).all()


class Plain:
    """A data set by the contract alone."""

    ids, class_names, task = np.array([5, 7]), ("x",), "detection"

    def __len__(self):
        return 2

    def inputs(self, rows):
        return np.zeros((len(rows), 3, 8, 9), dtype=np.float32)

    def labels(self, rows):
        # 0.1 + (0.7 - 0.1) is not 0.7
        return [row(7, "x", 0.1, 0.1, 0.7, 7.9)]


def test_any_detection_data_set_is_written(tmp_path):
    data.write_coco(tmp_path / "plain.json", Plain(), images=tmp_path)
    again = data.coco(tmp_path / "plain.json", tmp_path)
    assert again.labels() == [row("7.png", "x", 0.1, 0.1, 0.7, 7.9)] and again.inputs().shape == (2, 3, 8, 9)
    with pytest.raises(ValueError, match=r"of image '7.png' has no segmentation"):
        again.object_masks()


def test_box_rows_are_written(tmp_path):
    rows = [row("b.png", "y", 1, 1, 3, 3)]
    objects = data.Objects.from_rows(
        rows, ["a.png", "b.png"], (4, 5), ["x", "y"], masks=[_filled(1, 1, 3, 3, 4, 5)]
    )
    data.write_coco(tmp_path / "rows.json", objects, ids=["a.png", "b.png"], class_names=["x", "y"])
    for name in ("a.png", "b.png"):
        Image.new("RGB", (5, 4)).save(tmp_path / name)
    again = data.coco(tmp_path / "rows.json", tmp_path)
    assert again.labels() == rows and again.object_masks()[1].sum() == 4
    for wrong, message in (
        ({}, "pass ids= and class_names="),
        ({"ids": ["../a", "b"], "class_names": "xy"}, "the id '../a.png' is no file name"),
        ({"ids": ["a"], "class_names": "xy"}, "for 1 ids: they must be as many"),
        ({"masks": "rle"}, "masks is 'rle'"),
    ):
        with pytest.raises(ValueError, match=message):
            data.write_coco(tmp_path / "rows.json", objects, **wrong)
    with pytest.raises(ValueError, match="a data set has its own ids"):
        data.write_coco(tmp_path / "rows.json", Plain(), ids=[1, 2])


def test_a_pool_is_written_without_annotations(tmp_path):
    scenes = data.scenes(4, seed=1)
    data.write_coco(tmp_path / "picked.json", scenes.take([2, 0]), images=tmp_path, annotations=False)
    assert json.loads((tmp_path / "picked.json").read_text()).keys() == {"images", "categories"}
    pool = data.coco(tmp_path / "picked.json", tmp_path)
    assert len(pool.unlabelled) == 2 and pool.class_names == scenes.class_names
    with pytest.raises(ValueError, match="images without a label: .* annotations=False"):
        data.write_coco(tmp_path / "again.json", pool)
    photos = data.folder(tmp_path)
    with pytest.raises(ValueError, match="no class names: pass class_names="):
        data.write_coco(tmp_path / "again.json", photos, annotations=False)
    data.write_coco(tmp_path / "again.json", photos, annotations=False, class_names=["cat"])
    assert data.coco(tmp_path / "again.json", tmp_path).ids.tolist() == photos.ids.tolist()
    for call in (photos.take, scenes.take, pool.inputs):
        with pytest.raises(ValueError, match="'0.png': they must be row numbers from 0 on"):
            call(["0.png"])


@pytest.mark.parametrize(
    ("ids", "names", "message"),
    [
        (["a", "a.png"], "xy", "the ids 'a' and 'a.png' are both the file 'a.png': rename one"),
        (["a", "a"], "xy", "the ids 'a' and 'a' are both"),
        (["x.png", "x.png/y.png"], "xy", "the file 'x.png/y.png' would be in 'x.png', which is an image"),
        (["", "a"], "xy", "the id '' is no file name"),
        ([".", "a"], "xy", "the id '.' is no file name"),
        (["a/", "b"], "xy", "the id 'a/' is no file name"),
        (["a", "b"], "xx", r"class names are \('x', 'x'\): they must be distinct"),
    ],
)
def test_names_that_cannot_be_written_are_refused(tmp_path, ids, names, message):
    objects = data.Objects.from_rows([], ["0", "1"], (4, 5), [])
    with pytest.raises(ValueError, match=message):
        data.write_coco(tmp_path / "no.json", objects, ids=ids, class_names=names)
    assert not [*tmp_path.iterdir()]


def test_nothing_is_written_where_the_file_cannot_be(tmp_path):
    scenes, file = data.scenes(1), tmp_path / "file"
    file.write_text("")
    for path, images in ((file / "a.json", tmp_path), (tmp_path / "a.json", file), (tmp_path, tmp_path)):
        with pytest.raises(ValueError, match="is a file: pass another path|is a folder: pass the path of a"):
            data.write_coco(path, scenes, images=images)
    both = data.load("digits")
    for source, message in (
        (both, "source is of type tuple"),
        (both[0], "is for classification, and has no"),
    ):
        with pytest.raises(ValueError, match=message):
            data.write_coco(tmp_path / "a.json", source)
    assert [*tmp_path.iterdir()] == [file]


@pytest.mark.parametrize("size", [None, 128])
def test_results_are_read_back(tmp_path, size):
    scenes = data.scenes(5, seed=3)
    data.write_coco(tmp_path / "truth.json", scenes, images=tmp_path)
    dataset = data.coco(tmp_path / "truth.json", tmp_path, size=size).take([4, 1, 0, 3, 2])
    masks = [mask for one in dataset.object_masks() for mask in one]
    rows = [
        {**row, "score": np.float32(0.5), "mask": mask}
        for row, mask in zip(dataset.labels(), masks, strict=True)
    ]
    data.write_coco_results(tmp_path / "found.json", rows, dataset)
    for masked in (False, True):
        truth, sizes, names = read_truth(tmp_path / "truth.json", masked)
        measured = evaluation.Detections(
            truth, read_results(tmp_path / "found.json", sizes, names, masked), sizes, masks=masked
        )
        assert measured.average_precision(0.5 if masked else 0.99).value == 1
    unread = [{name: value for name, value in row.items() if name != "mask"} for row in rows]
    data.write_coco_results(tmp_path / "ids.json", unread, dataset.ids, class_names=dataset.class_names)
    assert json.loads((tmp_path / "ids.json").read_text())[0]["image_id"] == 1
    for wrong, message in (
        ({"image_id": "x"}, "row 0 has image_id 'x', which is not among the ids"),
        ({"label": "x"}, "row 0 has label 'x', which is not among the class names"),
        ({"score": np.nan}, "row 0 must have a score"),
    ):
        with pytest.raises(ValueError, match=message):
            data.write_coco_results(tmp_path / "no.json", [unread[0] | wrong], dataset)
    with pytest.raises(ValueError, match="class_names are passed with ids alone"):
        data.write_coco_results(tmp_path / "no.json", unread, dataset.ids)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 1, 5, 5]], "the segmentation of annotation 1 of .* has a polygon of 4 numbers"),
        ([[1, 1, 5, 5, 60, 5]], "reaches 20 pixels beyond its image"),
        ({"size": [40, 20], "counts": [800]}, r"has a mask of size \[40, 20\], but its image has \[20, 40\]"),
        ({"size": [20, 40], "counts": "0"}, "has run lengths of 0 pixels, but its image has 800"),
    ],
)
def test_a_wrong_segmentation_is_named(images, segmentation, message):
    path = write(images, changed(lambda d: d["annotations"][0].update(segmentation=segmentation)))
    with pytest.raises(ValueError, match=message):
        data.coco(path, images)

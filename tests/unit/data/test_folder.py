"""A folder of images: labels by subfolder or table, and what is wrong with the files."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from alhelpers import data
from alhelpers.data import image_files
from alhelpers.protocols import Dataset

DRAW = np.random.default_rng(0)


def picture(height=8, width=8, channels=3):
    return DRAW.integers(0, 256, (height, width, channels), dtype=np.uint8).squeeze()


def write(path, image=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = picture() if image is None else image
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return np.asarray(image)


@pytest.fixture
def photos(tmp_path):
    """Two cats, a dog in a folder below, and a pool of two."""
    root = tmp_path / "photos"
    for name in ("cat/b.png", "cat/a.png", "dog/2024/x.png", "new.png", "unlabelled/old.png"):
        write(root / name)
    return root


IDS = ["cat/a.png", "cat/b.png", "dog/2024/x.png", "new.png", "unlabelled/old.png"]


def names_of(dataset):
    return dict(
        zip(dataset.ids.tolist(), [dataset.class_names[label] for label in dataset.labels()], strict=True)
    )


# ------------------------------------------------------------------------------------------------------ labels


def test_subfolders_are_classes_and_the_rest_is_the_pool(photos):
    (photos / "cat" / "notes.txt").write_text("no image")
    write(photos / ".thumbnails" / "a.png")
    write(photos / "cat" / ".hidden.png")
    dataset = data.folder(photos)
    assert isinstance(dataset, Dataset)
    assert dataset.ids.tolist() == IDS and len(dataset) == 5
    assert dataset.class_names == ("cat", "dog") and dataset.task == "classification"
    assert names_of(dataset.labelled) == {"cat/a.png": "cat", "cat/b.png": "cat", "dog/2024/x.png": "dog"}
    assert dataset.unlabelled.ids.tolist() == ["new.png", "unlabelled/old.png"]
    assert dataset.unlabelled.class_names == ("cat", "dog")
    assert dataset.problems == []
    assert repr(dataset).endswith("photos': 5 images, 3 labelled>")


def test_a_folder_of_images_alone_is_a_pool(tmp_path):
    write(tmp_path / "b.JPG")
    write(tmp_path / "a.png")
    dataset = data.folder(tmp_path)
    assert dataset.ids.tolist() == ["a.png", "b.JPG"]
    assert dataset.class_names is None and len(dataset.labelled) == 0 and len(dataset.unlabelled) == 2
    with pytest.raises(ValueError, match="'a.png' has no label: take the labelled images alone"):
        dataset.labels([0])


def test_a_table_labels_instead_of_subfolders(photos, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text(
        "\ufeffnote,path,label\n,cat/a.png, bird \n,./new.png,cat\n,cat/b.png,\n,new.png,cat\n",
        encoding="utf-8",
    )
    dataset = data.folder(photos, table)
    assert dataset.ids.tolist() == IDS
    assert names_of(dataset.labelled) == {"cat/a.png": "bird", "new.png": "cat"}
    assert dataset.unlabelled.ids.tolist() == ["cat/b.png", "dog/2024/x.png", "unlabelled/old.png"]


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_what_a_table_calls_discarded_is_left_out(photos, tmp_path, task):
    (photos / "cat" / "b.png").write_bytes(b"")
    table = tmp_path / "labels.csv"
    table.write_text(
        "path,label,status\ncat/a.png,cat,\n./cat/b.png,,discarded\nnew.png,cat,discarded\nunlabelled/old.png,,done\n"
    )
    dataset = data.folder(photos, table, task=task)
    assert dataset.ids.tolist() == ["cat/a.png", "dog/2024/x.png", "unlabelled/old.png"]
    assert dataset.labelled.ids.tolist() == ["cat/a.png"] and dataset.problems == []
    assert dataset.class_names == ("cat",)
    table.write_text("path,label,status\n" + "".join(f"{id},,discarded\n" for id in IDS))
    assert len(data.folder(photos, table, task=task)) == 0


def test_a_table_of_several_labels(photos, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("path,label\ncat/a.png,wet; brown\ncat/b.png,;\nnew.png,wet\n")
    dataset = data.folder(photos, table, task="multilabel")
    assert dataset.task == "multilabel" and dataset.class_names == ("brown", "wet")
    assert dataset.labelled.ids.tolist() == ["cat/a.png", "cat/b.png", "new.png"]
    np.testing.assert_array_equal(dataset.labelled.labels(), [[1, 1], [0, 0], [0, 1]])
    loaded = dataset.labelled.load()
    assert loaded.task == "multilabel"
    np.testing.assert_array_equal(loaded.labels(), [[1, 1], [0, 0], [0, 1]])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("path,label\ncat/c.png,cat\n", "line 2 of .*has the path 'cat/c.png', which is not there"),
        ("path,label\ncat/a.png,x\ncat/a.png,y\n", "line 3 of .*'cat/a.png' again, with label 'y' after 'x'"),
        ("path,label\ncat/a.png,x\ncat/a.png,\n", "again, with label '' after 'x'"),
        (
            "path,label\n../photos/new.png,x\n",
            r"has the path '\.\./photos/new.png': it must be one inside of",
        ),
        ("path,label\n/new.png,x\n", "has the path '/new.png': it must be one inside of"),
        ("path,label\n,x\n", "has the path ''"),
        ("path,label\nnotes.txt,x\n", "'notes.txt', which is not an image, by its ending"),
        ("path,label\nnew.png,x,y\n", "line 2 of .*has more values than the first line"),
        ("file,label\nnew.png,x\n", r"has no column 'path': .*it has \['file', 'label'\]"),
        ("", r"has no column 'path'"),
        (b"path,label\n\xff,x\n", "is not a CSV file in UTF-8"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(photos, tmp_path, lines, message):
    (photos / "notes.txt").write_text("no image")
    table = tmp_path / "labels.csv"
    table.write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    with pytest.raises(ValueError, match=message):
        data.folder(photos, table)


def test_wrong_folders_are_named(photos, tmp_path):
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    (tmp_path / "empty" / "a.txt").touch()
    with pytest.raises(ValueError, match="empty holds no image: pass a folder with files that end in .bmp"):
        data.folder(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        data.folder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="labels.csv is not there: pass a CSV file with the columns"):
        data.folder(photos, tmp_path / "labels.csv")
    (photos / "bird").mkdir()
    with pytest.raises(ValueError, match="bird' holds no image, but a class needs an example"):
        data.folder(photos)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size is 0"),
        ({"size": (8, 8, 3)}, r"size is \(8, 8, 3\)"),
        ({"size": "64"}, "size is '64'"),
        ({"mode": "CMYK"}, "mode is 'CMYK': it must be 'RGB'"),
        ({"task": "detection"}, "task is 'detection'"),
        ({"task": "multilabel"}, "pass labels=, a CSV file, for multilabel"),
    ],
)
def test_wrong_options_are_named(photos, options, message):
    with pytest.raises(ValueError, match=message):
        data.folder(photos, **options)


def test_links_are_followed_but_not_in_circles(photos, tmp_path):
    write(tmp_path / "elsewhere" / "z.png")
    (photos / "bird").symlink_to(tmp_path / "elsewhere")
    (photos / "cat" / "again").symlink_to(photos)
    (photos / "gone.png").symlink_to(tmp_path / "missing.png")
    dataset = data.folder(photos)
    assert dataset.ids.tolist() == ["bird/z.png", *IDS[:3], "gone.png", *IDS[3:]]
    assert [(problem.id, problem.kind) for problem in problems_of(dataset)] == [("gone.png", "unreadable")]


# ------------------------------------------------------------------------------------------------------ images


def test_inputs_are_planes_of_the_rows(tmp_path):
    images = [write(tmp_path / f"{number}.png") for number in range(100)]
    dataset = data.folder(tmp_path)
    expected = np.stack([images[int(name[:-4])] for name in dataset.ids.tolist()])
    planes = expected.transpose(0, 3, 1, 2).astype(np.float32) / 255
    np.testing.assert_array_equal(dataset.inputs(), planes)
    rows = np.array([7, 3, 99, 3])
    np.testing.assert_array_equal(dataset.inputs(rows), planes[rows])
    np.testing.assert_array_equal(dataset.take(rows[:3]).inputs([2]), planes[[99]])
    np.testing.assert_array_equal(dataset.take(slice(5, 9)).inputs(), planes[5:9])
    assert dataset.inputs(np.array([], dtype=int)).shape == (0, 3, 8, 8)
    assert dataset.inputs(rows).dtype == np.float32 and dataset.inputs(rows).flags.c_contiguous


def test_any_mode_and_turn_becomes_one(tmp_path):
    colours = picture(6, 4)
    turned = Image.Exif()
    turned[0x0112] = 6
    write(tmp_path / "a.png", colours)
    write(tmp_path / "b.png", np.rot90(colours), exif=turned)
    write(tmp_path / "c.png", Image.fromarray(colours).convert("RGBA"))
    write(tmp_path / "d.png", Image.fromarray(colours[..., 0]))
    write(tmp_path / "e.png", colours[..., 0].astype(np.uint16) * 256)
    dataset = data.folder(tmp_path)
    grey = np.stack([colours[..., 0]] * 3, axis=2)
    expected = np.stack([colours, colours, colours, grey, grey]).transpose(0, 3, 1, 2) / np.float32(255)
    np.testing.assert_array_equal(dataset.inputs(), expected)
    assert data.folder(tmp_path, mode="L").inputs().shape == (5, 1, 6, 4)
    assert data.folder(tmp_path, size=(3, 5)).inputs().shape == (5, 3, 3, 5)
    assert data.folder(tmp_path, size=5).inputs().shape == (5, 3, 5, 5)


def test_images_of_several_sizes_need_a_size(tmp_path):
    write(tmp_path / "a.png")
    write(tmp_path / "b.png", picture(9, 7))
    message = r"'a.png' has 8 x 8 pixels and 'b.png' 9 x 7 \(height x width\): pass size="
    dataset = data.folder(tmp_path)
    with pytest.raises(ValueError, match=message):
        dataset.inputs()
    with pytest.raises(ValueError, match=message):
        [*dataset.chunks()]
    with pytest.raises(ValueError, match=message):  # also if they are asked for one by one
        [dataset.inputs([row]) for row in range(2)]


def test_a_large_jpeg_is_decoded_smaller_and_stays_the_same_picture(tmp_path):
    rows, columns = np.mgrid[:512, :768]
    waves = np.stack(
        [128 + 90 * np.sin(rows / 40), 128 + 90 * np.cos(columns / 50), rows / 3 + columns / 9], axis=2
    )
    whole = write(tmp_path / "a.jpg", waves.astype(np.uint8), quality=95)
    expected = np.asarray(Image.fromarray(whole).resize((32, 32), Image.Resampling.BILINEAR)) / 255
    (found,) = data.folder(tmp_path, size=32).inputs().transpose(0, 2, 3, 1)
    assert np.abs(found - expected).max() < 0.03
    assert Image.open(tmp_path / "a.jpg").size == (768, 512)


# ---------------------------------------------------------------------------------------------------- problems


@pytest.fixture
def spoiled(photos):
    """Five good images, and one of each problem."""
    (photos / "cat" / "empty.png").touch()
    whole = io.BytesIO()
    Image.fromarray(picture(64, 64)).save(whole, "PNG")
    (photos / "cat" / "cut.png").write_bytes(whole.getvalue()[:3000])
    (photos / "text.jpg").write_text("no image")
    (photos / "same.png").write_bytes((photos / "new.png").read_bytes())
    return photos


PROBLEMS = {
    "cat/cut.png": "unreadable",
    "cat/empty.png": "empty",
    "same.png": "duplicate",
    "text.jpg": "unreadable",
}


def problems_of(dataset, size=1024):
    return [problem for _, problems in dataset.chunks(size) for problem in problems]


def test_empty_files_are_known_at_once_and_others_when_they_are_read(spoiled):
    dataset = data.folder(spoiled)
    assert dataset.problems == [("cat/empty.png", "empty", "the file has no content")]
    assert dataset.labelled.problems == dataset.problems and dataset.unlabelled.problems == []
    found = problems_of(dataset)
    assert {problem.id: problem.kind for problem in found} == PROBLEMS
    reasons = {problem.id: problem.reason for problem in found}
    assert "truncated" in reasons["cat/cut.png"] or "broken" in reasons["cat/cut.png"]
    assert reasons["text.jpg"] == "cannot identify image file"
    assert reasons["same.png"] == "it has the same content as 'new.png'"
    assert dataset.problems == found


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100])
def test_chunks_hold_what_can_be_read_in_order(spoiled, size):
    dataset = data.folder(spoiled)
    chunks, problems = zip(*dataset.chunks(size), strict=True)
    assert [id for chunk in chunks for id in chunk.ids.tolist()] == IDS
    full, last = [len(chunk) for chunk in chunks[:-1]], len(chunks[-1])
    assert set(full) <= {size} and last <= size
    assert {problem.id for part in problems for problem in part} == PROBLEMS.keys()
    images = np.concatenate([chunk.inputs() for chunk in chunks])
    np.testing.assert_array_equal(images, dataset.readable().inputs())
    assert all(chunk.class_names == ("cat", "dog") for chunk in chunks)


def test_chunks_of_labelled_images_have_labels(photos):
    (chunk, problems), *rest = data.folder(photos).labelled.chunks()
    assert chunk.labels().tolist() == [0, 0, 1] and problems == rest == []
    (chunk, _), *_ = data.folder(photos).unlabelled.chunks()
    with pytest.raises(ValueError, match="no labels"):
        chunk.labels()


def test_copies_of_labelled_files_are_no_part_of_the_pool(photos, monkeypatch):
    cat, dog = ((photos / name).read_bytes() for name in ("cat/a.png", "dog/2024/x.png"))
    (photos / "copy.png").write_bytes(cat)
    (photos / "unlabelled" / "copy.png").write_bytes(dog)
    (photos / "unlabelled" / "other.png").write_bytes(dog + b"x")
    read, content = [], image_files.Path.read_bytes
    monkeypatch.setattr(image_files.Path, "read_bytes", lambda path: read.append(path) or content(path))
    dataset = data.folder(photos)
    pool = dataset.unlabelled
    found = {problem.id: problem.reason for problem in problems_of(pool)}
    assert found == {
        "copy.png": "it has the same content as 'cat/a.png', which has a label",
        "unlabelled/copy.png": "it has the same content as 'dog/2024/x.png', which has a label",
    }
    assert len(read) == len(set(read)) <= 3, "those alone that have as many bytes as one of the pool"
    assert len(problems_of(pool.unlabelled)) == 2
    assert len(pool) - len(pool.readable()) == 2 and len(dataset.labelled.readable()) == len(dataset.labelled)


def test_each_file_is_read_once(photos, monkeypatch):
    read = []
    original = image_files.FolderDataset._read
    monkeypatch.setattr(
        image_files.FolderDataset, "_read", lambda self, row: (read.append(row), original(self, row))[1]
    )
    [*data.folder(photos).chunks(2)]
    assert sorted(read) == [0, 1, 2, 3, 4]


def test_chunks_read_not_far_ahead(tmp_path, monkeypatch):
    for number in range(400):
        write(tmp_path / f"{number:03}.png", picture(2, 2))
    monkeypatch.setattr(image_files, "_cores", lambda: 2)
    read = []
    original = image_files.FolderDataset._read
    monkeypatch.setattr(
        image_files.FolderDataset, "_read", lambda self, row: (read.append(row), original(self, row))[1]
    )
    chunks = data.folder(tmp_path).chunks(32)
    next(chunks)
    assert len(read) <= 32 * 4
    chunks.close()
    assert len(read) <= 32 * 6


def test_problem_files_are_left_out_or_refused(spoiled):
    dataset = data.folder(spoiled)
    with pytest.raises(ValueError, match=r"4 of 9 files in .* cannot be used, the first is 'cat/"):
        dataset.readable(refuse=True)
    assert dataset.readable().ids.tolist() == IDS
    assert dataset.readable().readable(refuse=True).ids.tolist() == IDS
    assert {problem.id: problem.kind for problem in dataset.problems} == PROBLEMS
    with pytest.raises(ValueError, match=r"cut.png is not an image that can be read \(.*\.readable\(\)"):
        dataset.inputs()
    with pytest.raises(
        ValueError, match=r"empty.png is not an image that can be read \(the file has no content\)"
    ):
        dataset.inputs([dataset.ids.tolist().index("cat/empty.png")])


def test_load_holds_what_can_be_read(spoiled):
    dataset = data.folder(spoiled)
    with pytest.warns(UserWarning, match=r"2 of 5 files in .* are left out, the first is 'cat/cut.png'"):
        labelled = dataset.labelled.load()
    assert labelled.ids.tolist() == IDS[:3] and labelled.labels().tolist() == [0, 0, 1]
    pool = dataset.unlabelled
    with pytest.warns(UserWarning, match="'same.png' .duplicate: .*: .problems lists all"):
        assert pool.load().ids.tolist() == IDS[3:]
    assert [problem.id for problem in pool.problems] == ["same.png", "text.jpg"]
    with pytest.raises(ValueError, match="images with labels and without: load one of them"):
        dataset.load()


def test_a_class_without_a_readable_example_is_named(photos):
    (photos / "dog" / "2024" / "x.png").write_text("no image")
    for read in (data.folder(photos).readable, data.folder(photos).labelled.load):
        with pytest.raises(
            ValueError, match="no image of class 'dog' in .* can be used: a class needs an example"
        ):
            read()
    dataset = data.folder(photos)
    dog = dataset.take([2])
    nothing = data.folder(photos).take([])
    for read in (nothing.readable, nothing.load):
        with pytest.raises(
            ValueError, match="none of the images in .* is in this data set: for .labelled, put"
        ):
            read()
    with pytest.raises(ValueError, match="no image of 1 in .* can be used: 'dog/2024/x.png' is unreadable"):
        dog.readable()
    ((chunk, problems),) = dog.chunks()
    assert len(chunk) == 0 and len(problems) == 1


def test_of_the_same_content_the_labelled_image_stays(photos):
    (photos / "a.png").write_bytes((photos / "cat" / "b.png").read_bytes())
    (photos / "dog" / "z.png").write_bytes((photos / "cat" / "b.png").read_bytes())
    dataset = data.folder(photos)
    assert dataset.readable().ids.tolist() == IDS
    reasons = {problem.id: problem.reason for problem in dataset.problems}
    assert reasons == {
        "a.png": "it has the same content as 'cat/b.png'",
        "dog/z.png": "it has the same content as 'cat/b.png', and another label",
    }


@pytest.mark.skipif(os.name == "nt", reason="names of files are text there")
def test_a_name_that_is_not_text_is_named(tmp_path):
    write(tmp_path / "a.png")
    try:
        open(os.fsencode(tmp_path) + b"/\xff.png", "wb").close()
    except OSError:
        pytest.skip("this file system takes only names that are text")
    with pytest.raises(
        ValueError, match=r"the name of b'\\xff.png' in .* is not text in UTF-8: rename the file"
    ):
        data.folder(tmp_path)


def test_reading_a_folder_imports_nothing_heavy(photos):
    code = (
        f"import sys\nfrom alhelpers import data\ndata.folder({str(photos)!r}).inputs()\n"
        "print({'torch', 'pandas', 'pyarrow', 'sklearn', 'dtlpy'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"

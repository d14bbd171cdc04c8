"""The command that picks pictures of a folder: what it writes, and that wrong input writes nothing."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from alhelpers import data
from alhelpers.cli import main
from alhelpers.data.folder import folder
from alhelpers.learners import photo_classifier

MODEL = """
import torch
from torch import nn

def build():
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, 2))

def other():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 12), nn.ReLU(), nn.Linear(12, 3))

def broken():
    raise KeyError("nothing")

number = 3

def text():
    return "a model"
"""


def picture(path, seed, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Twelve unlabelled pictures beside four labelled ones, a model, and its weights."""
    monkeypatch.chdir(tmp_path)
    for row in range(12):
        picture(tmp_path / "photos" / f"p{row:02}.png", row)
    for row, name in enumerate(["cat", "cat", "dog", "dog"]):
        picture(tmp_path / "photos" / name / f"{row}.png", 100 + row)
    (tmp_path / "my_model.py").write_text(MODEL)
    network = namespace()["build"]()
    with torch.no_grad():
        network[1].weight += 0.1
    torch.save(network.state_dict(), "w.pt")
    return tmp_path


def namespace():
    found = {}
    exec(MODEL, found)  # noqa: S102
    return found


def arguments(*more, output="to_label.csv", model="my_model.py:build", weights="w.pt"):
    return ["pick", "photos", "--model", model, "--weights", weights, "-n", "5", "-o", output, *more]


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def probabilities(names, transform=lambda inputs: inputs):
    network = namespace()["build"]().eval()
    network.load_state_dict(torch.load("w.pt"))
    images = [np.asarray(Image.open(f"photos/{name}").convert("RGB")) for name in names]
    inputs = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / 255)
    with torch.inference_mode():
        return network(transform(inputs)).softmax(1).numpy().astype(np.float64)


def by_hand(transform=lambda inputs: inputs, size=5):
    """Return path and entropy of the pictures beside the class folders, the most uncertain first."""
    names = sorted(name for name in os.listdir("photos") if name.endswith(".png"))
    found = probabilities(names, transform)
    scores = -(found * np.log(found)).sum(1) / np.log(2)
    return sorted(zip(names, scores, strict=True), key=lambda pair: -pair[1])[:size]


def test_the_table_holds_what_a_plain_loop_would_pick(photos, capsys):
    assert main(arguments()) == 0
    said = capsys.readouterr()
    rows, expected = rows_of("to_label.csv"), by_hand()
    assert list(rows[0]) == ["path", "rank", "score"]
    assert [row["path"] for row in rows] == [path for path, _ in expected]
    assert [int(row["rank"]) for row in rows] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(
        [float(row["score"]) for row in rows], [score for _, score in expected], rtol=1e-4
    )
    assert said.out == "picked 5 of 12 pictures by entropy; written: to_label.csv\n"
    assert said.err == (
        "pictures become RGB, 0 to 1, as they are; classes in the order of the outputs: cat, dog (sorted; --classes"
        " A,B,C changes it)\n"
    )


def test_json_and_the_files_that_cannot_be_read(photos, capsys):
    (photos / "photos" / "a.png").write_bytes(b"no picture")
    (photos / "photos" / "b.png").touch()
    picture(photos / "photos" / "z.png", 0)  # as p00.png
    assert main(arguments("--json")) == 0
    said = capsys.readouterr()
    content = json.loads(said.out)
    assert {problem["id"]: problem["kind"] for problem in content["problems"]} == {
        "a.png": "unreadable",
        "b.png": "empty",
        "z.png": "duplicate",
    }
    for name in ("a.png", "b.png", "z.png"):
        os.remove(f"photos/{name}")
    assert content["pool"] == 12 and content["picked"] == 5
    assert [pick["path"] for pick in content["picks"]] == [path for path, _ in by_hand()]
    assert "left out: a.png (unreadable: cannot identify image file)" in said.err
    assert "left out: z.png (duplicate: it has the same content as 'p00.png')" in said.err


def test_preprocess_class_names_and_size(photos, capsys):
    with open("my_model.py", "a") as file:
        file.write("\nclass_names = ['dog', 'cat']\npreprocess = lambda batch: batch * 0 + batch ** 2\n")
    assert main(arguments()) == 0
    assert [row["path"] for row in rows_of("to_label.csv")] == [path for path, _ in by_hand(lambda x: x**2)]
    err = capsys.readouterr().err
    assert "then through preprocess of my_model.py; classes in the order of the outputs: dog, cat\n" in err
    picture(photos / "photos" / "large.png", 50, (16, 12))
    assert main(arguments(output="more.csv")) == 1
    err = capsys.readouterr().err
    assert "(height x width): pass --size, such as --size 64, to make all images of one size\n" in err
    assert main(arguments("--size", "8x8", "--classes", "cat,dog", output="more.csv")) == 0
    assert "0 to 1, 8 x 8 pixels, then" in (err := capsys.readouterr().err) and "outputs: cat, dog\n" in err


def test_labels_in_a_table_are_never_picked_and_are_the_reference(photos, capsys):
    (photos / "labels.csv").write_text("path,label\np00.png,dog\np01.png,cat\n")
    more = ("--labels", "labels.csv", "--strategy", "embedding_distance", "-n", "20", "--json")
    assert main(arguments(*more)) == 0
    content = json.loads(capsys.readouterr().out)
    picked = {pick["path"] for pick in content["picks"]}
    assert content["pool"] == 14 and not picked & {"p00.png", "p01.png"} and "cat/0.png" in picked


def test_copies_links_and_the_page(photos, capsys):
    picture(photos / "photos" / "unlabelled" / "x & <y>.png", 77)
    more = ("-n", "13", "--copy-to", "picks", "--sheet", "picks.html", "--force")
    assert main(arguments(*more)) == 0
    paths = [row["path"] for row in rows_of("to_label.csv")]
    assert len(paths) == 13 and "unlabelled/x & <y>.png" in paths
    for path in paths:
        assert (photos / "picks" / path).read_bytes() == (photos / "photos" / path).read_bytes()
    text = (photos / "picks.html").read_text()
    images = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            found = dict(attributes)
            assert tag != "script" and not {"href", "srcset", "loading"} & found.keys()
            if tag == "img":
                images.append((found["alt"], found["src"]))

    Reader().feed(text)
    assert [alt for alt, _ in images] == paths and "<y>" not in text
    assert all(source.startswith("data:image/jpeg;base64,") for _, source in images)
    assert re.search(r"<b>13</b> &middot; \d", text) and "13 picks of photos by entropy" in text
    assert main(arguments("--copy-to", "links", "--link", "--force")) == 0
    links = [path for path in (photos / "links").rglob("*") if path.is_symlink()]
    assert len(links) == 5 and all(link.resolve().is_relative_to(photos / "photos") for link in links)


def test_nothing_is_overwritten(photos, capsys):
    main(arguments("--sheet", "picks.html", "--copy-to", "picks"))
    before = {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    capsys.readouterr()
    for more, message in (
        ((), "to_label.csv is there already: choose another name, or replace it with --force"),
        (("-o", "b.csv", "--sheet", "picks.html"), "picks.html is there already"),
        (
            ("-o", "b.csv", "--copy-to", "picks"),
            "picks is there already and is not empty: choose a new folder",
        ),
        (
            ("-o", "b.csv", "--copy-to", "photos/new"),
            "photos/new is inside of photos, where it would be a class",
        ),
        (("-o", "b.csv", "--sheet", "./b.csv"), "-o and --sheet are both b.csv: choose two names"),
        (("-o", "b.csv", "--link"), "--link makes links in a folder: name it with --copy-to"),
    ):
        assert main(arguments(*more)) == 2
        assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()} == before
    assert main(arguments("--force", "-n", "3")) == 0 and len(rows_of("to_label.csv")) == 3


def empty_class(photos):
    (photos / "photos" / "fox").mkdir()


def no_pool(photos):
    for path in (photos / "photos").glob("*.png"):
        path.unlink()


def no_images(photos):
    for path in (photos / "photos").rglob("*.png"):
        path.rename(path.with_suffix(".txt"))


def all_broken(photos):
    for path in (photos / "photos").glob("*.png"):
        path.write_bytes(b"broken")


def nan_weights(photos):
    state = torch.load("w.pt")
    state["4.bias"][0] = float("nan")
    torch.save(state, "w.pt")


def other_weights(photos):
    torch.save(namespace()["other"]().state_dict(), "w.pt")


def checkpoint(photos):
    torch.save({"epoch": 3, "model": torch.load("w.pt")}, "w.pt")


def whole_model(photos):
    torch.save(namespace()["build"](), "w.pt")


def syntax_error(photos):
    (photos / "my_model.py").write_text("def build(:\n")


@pytest.mark.parametrize(
    ("change", "more", "code", "message"),
    [
        (empty_class, {}, 1, "'photos/fox' holds no image, but a class needs an example: add one, or remove"),
        (no_pool, {}, 3, "nothing is left to pick: all 4 records have a label"),
        (no_images, {}, 1, "photos holds no image: pass a folder with files that end in"),
        (
            all_broken,
            {},
            3,
            "none of 12 records can be used, the first is 'p00.png' (unreadable: cannot identify",
        ),
        (nan_weights, {}, 1, "of record p00.png are not finite: check its input"),
        (
            other_weights,
            {},
            1,
            "w.pt holds the weights of another network: it has no '4.weight', which the model",
        ),
        (
            checkpoint,
            {},
            1,
            "w.pt holds a dict of epoch, model, not a state dict: write it with torch.save(model",
        ),
        (
            whole_model,
            {},
            1,
            "w.pt does not hold weights alone, or is damaged: write it with torch.save(model.",
        ),
        (syntax_error, {}, 1, "my_model.py cannot be run: SyntaxError: invalid syntax"),
        (None, {"weights": "gone.pt"}, 2, "gone.pt is not there: name the file that torch.save("),
        (None, {"model": "gone.py"}, 2, "gone.py is not a file of Python: name one, as FILE.py:NAME"),
        (None, {"model": "w.pt"}, 2, "w.pt is not a file of Python: name one"),
        (
            None,
            {"model": "my_model.py:make"},
            1,
            "my_model.py does not define 'make', but build, other, broken, text: define make(), or",
        ),
        (None, {"model": "my_model.py:broken"}, 1, "broken of my_model.py failed: KeyError: 'nothing'"),
        (None, {"model": "my_model.py:number"}, 1, "number of my_model.py is 3: it must be a function that"),
        (
            None,
            {"model": "my_model.py:text"},
            1,
            "text of my_model.py returned a str: it must return a torch.nn",
        ),
        (
            None,
            {"more": ["--classes", "dog,fox"]},
            2,
            "--classes dog,fox lacks the label 'cat': add it, or correct the label in photos",
        ),
        (
            None,
            {"more": ["--size", "9"]},
            1,
            "failed on these pictures: mat1 and mat2 shapes cannot be multiplied",
        ),
        (None, {"more": ["--strategy", "entropi"]}, 2, "did you mean 'entropy'?"),
        (None, {"more": ["--labels", "gone.csv"]}, 2, "gone.csv is not there: name a CSV file"),
    ],
)
def test_wrong_input_is_one_sentence_and_writes_nothing(photos, capsys, change, more, code, message):
    if change is not None:
        change(photos)
    before = sorted(photos.rglob("*"))
    extra = [*more.pop("more", []), "--sheet", "a.html", "--copy-to", "copies"]
    assert main(arguments(*extra, **more)) == code
    said = capsys.readouterr()
    last = said.err.splitlines()[-1]
    assert message in last and last.startswith("error: ") == (code != 3) and said.out == ""
    assert [path for path in sorted(photos.rglob("*")) if "__pycache__" not in path.parts] == before


def test_nothing_left_in_json(photos, capsys):
    no_pool(photos)
    assert main(arguments("--json")) == 3
    assert json.loads(capsys.readouterr().out) == {"output": "to_label.csv", "picked": 0, "picks": []}


def test_an_interrupt_writes_nothing(photos, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("alhelpers.loop.pick", interrupted)
    assert main(arguments()) == 1
    assert capsys.readouterr().err.endswith("error: interrupted: nothing was written\n")
    assert not os.path.exists("to_label.csv")


@pytest.mark.parametrize(
    "more",
    [
        ["--size", "0"],
        ["--size", "1x2x3"],
        ["--classes", "a,a"],
        ["--classes", "a,"],
        ["-n", "0"],
        ["-o"],
        ["-o", "-"],
        ["--seed", "-1"],
    ],
)
def test_wrong_usage(photos, more):
    with pytest.raises(SystemExit) as stopped:
        main(arguments(*more))
    assert stopped.value.code == 2


def test_class_names_give_the_order_of_a_folder(photos):
    found = folder("photos", class_names=["fox", "dog", "cat"]).labelled
    assert found.class_names == ("fox", "dog", "cat") and found.labels().tolist() == [2, 2, 1, 1]
    for names, message in (
        (["cat"], "'dog/2.png' has the label 'dog'"),
        (["cat", "cat"], "must be distinct"),
    ):
        with pytest.raises(ValueError, match=message):
            data.folder("photos", class_names=names)


@pytest.mark.process
def test_help_does_not_wait_for_torch(photos):
    code = (
        "import sys\nfrom alhelpers.cli import main\ntry:\n    main(['pick', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'pyarrow', 'dtlpy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]" and "to_label" not in done.stdout


def test_a_function_of_ones_own_is_the_strategy(photos, capsys):
    (photos / "own.py").write_text("def doubt(confidences):\n    return 1 - confidences.max(1)\n")
    assert main(arguments("--strategy", "own.py:doubt")) == 0
    paths = sorted(name for name in os.listdir("photos") if name.endswith(".png"))
    found = 1 - probabilities(paths).max(1)
    assert [row["path"] for row in rows_of("to_label.csv")] == [paths[row] for row in np.argsort(-found)[:5]]
    assert "12 pictures by own.py:doubt" in capsys.readouterr().out
    assert main(arguments("--strategy", "own.py:other", "--force")) == 2
    assert "own.py has no function 'other'; it has: doubt" in capsys.readouterr().err


def test_without_a_model_a_layer_on_the_photo_network_is_trained(photos, capsys):
    assert main(["pick", "photos", "-n", "3", "-o", "picks.csv"]) == 0
    said = capsys.readouterr()
    assert "one layer trained on 4 labelled pictures; picks by entropy" in said.err
    labelled, pool = (getattr(folder("photos", size=224), name) for name in ("labelled", "unlabelled"))
    learner = photo_classifier(2)
    learner.fit(labelled)
    confidences = learner.predict(pool).confidences
    entropy = -(confidences * np.log(confidences)).sum(1)
    best = [pool.ids[row] for row in np.argsort(-entropy, kind="stable")[:3]]
    assert [row["path"] for row in rows_of("picks.csv")] == best


def test_without_a_model_and_labels_the_typical_pictures_are_picked(photos, capsys):
    shutil.rmtree("photos/cat")
    shutil.rmtree("photos/dog")
    assert main(["pick", "photos", "-n", "4", "-o", "picks.csv"]) == 0
    assert "untrained, as no two classes are labelled; picks by typicality" in capsys.readouterr().err
    assert len({row["path"] for row in rows_of("picks.csv")}) == 4


def test_weights_without_a_model_are_refused(photos, capsys):
    assert main(["pick", "photos", "--weights", "w.pt", "-o", "picks.csv"]) == 2
    assert "name its file with --model" in capsys.readouterr().err
    assert not os.path.exists("picks.csv")

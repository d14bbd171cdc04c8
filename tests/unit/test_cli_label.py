"""The command that labels: in the terminal, and on the platform's page."""

import csv
import io
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from bs4 import BeautifulSoup
from page_browser import Browser, fields
from PIL import Image

from alhelpers import data
from alhelpers.cli import main


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Four pictures without a label beside two with one, and an empty file."""
    monkeypatch.chdir(tmp_path)
    for row, name in enumerate(["a", "b", "c", "d", "cat/1", "dog/2"]):
        picture(tmp_path / "photos" / f"{name}.png", row)
    (tmp_path / "photos" / "e.png").touch()
    return tmp_path


@pytest.fixture
def said(monkeypatch, capsys):
    """Answer in the terminal; return the exit code, the object printed, and what went to stderr."""

    def run(answers, *more, code=0):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answers))
        assert main(["label", "photos", "-o", "labels.csv", "--terminal", "--json", *more]) == code
        found = capsys.readouterr()
        return json.loads(found.out) if found.out else None, found.err

    return run


def table(path="labels.csv"):
    with open(path, newline="") as file:
        return {row["path"]: row["label"] for row in csv.DictReader(file)}


BEFORE = {"cat/1.png": "cat", "dog/2.png": "dog"}


def test_answers_by_number_and_name_skips_and_undo(photos, said):
    found, err = said("1\n\ndog\nu\ncat\n2\n")
    assert table() == BEFORE | {"a.png": "cat", "c.png": "cat", "d.png": "dog"}
    assert found == {
        "output": "labels.csv",
        "labelled": 3,
        "left": 1,
        "total": 5,
        "class_names": ["cat", "dog"],
    }
    assert "1 cat, 2 dog; number or name of a class" in err and "[1/4] a.png file:///" in err


def test_labelling_again_continues_and_the_folder_reads_the_table(photos, said):
    said("1\nq\n")
    assert table() == BEFORE | {"a.png": "cat"}
    _, err = said("2\n2\n")  # the input ends here
    assert "[1/3] b.png" in err and table() == BEFORE | {"a.png": "cat", "b.png": "dog", "c.png": "dog"}
    read = data.folder("photos", labels="labels.csv")
    assert read.labelled.ids.tolist() == sorted(table()) and read.unlabelled.ids.tolist() == [
        "d.png",
        "e.png",
    ]
    said("2\n")
    _, err = said("", code=3)
    assert err == "nothing is left to label: every picture in photos has a label\n"


def test_picks_come_first_in_their_order(photos, said):
    (photos / "to_label.csv").write_text("path,rank,score\nd.png,1,0.9\nb.png,2,0.8\n")
    _, err = said("1\n2\nq\n", "--picks", "to_label.csv", "--classes", "fox,cat")
    assert "1 fox, 2 cat, 3 dog" in err and table() == BEFORE | {"d.png": "fox", "b.png": "cat"}
    _, err = said("9\nfix\n", "-n", "1")
    assert "[1/1] a.png" in err and "'fix' is none of them" in err and len(table()) == 4


def test_undo_goes_back_over_what_was_skipped_and_no_further(photos, said):
    said("u\n1\n\nu\nu\n2\nq\n")
    assert table() == BEFORE | {"a.png": "dog"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "labels.csv",
            "path,label\nz.png,cat\n",
            "labels.csv has the path 'z.png', which is no picture in photos",
        ),
        ("labels.csv", "path,rank\n", "labels.csv has no column 'label'"),
        (
            "labels.csv",
            "path,label,by\na.png,cat,ann\n",
            "labels.csv has the column 'by', which would be lost",
        ),
        (
            "picks.csv",
            "path,rank\nz.png,1\n",
            "picks.csv has the path 'z.png', which is no picture in photos",
        ),
    ],
)
def test_what_is_wrong_is_named_and_nothing_changes(photos, said, name, content, message):
    (photos / name).write_text(content)
    more = ("--picks", name) if name == "picks.csv" else ()
    _, err = said("1\n", *more, code=1)
    assert message in err and err.count("\n") == 1 and (photos / name).read_text() == content


def test_without_classes_or_pictures(photos, said):
    for name in BEFORE:
        os.remove(photos / "photos" / name)
        os.rmdir((photos / "photos" / name).parent)
    assert "there are no classes: name them with --classes" in said("", code=1)[1]
    for name in "abcde":
        os.remove(photos / "photos" / f"{name}.png")
    assert "photos holds no image" in said("", code=1)[1]
    assert not os.path.exists("labels.csv")


def test_labels_given_on_the_page_are_in_the_table(photos):
    (photos / "to_label.csv").write_text("path,rank,score\nd.png,1,0.9\nb.png,2,0.8\n")
    command = [
        sys.executable,
        "-m",
        "alhelpers.cli",
        "label",
        "photos",
        "-o",
        "labels.csv",
        "--picks",
        "to_label.csv",
    ]
    environment = os.environ | {"BROWSER": "true"}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, "-n", "3"], text=True, env=environment, **pipes) as process:
        try:
            lines = iter(process.stderr.readline, "")
            link = next(line for line in lines if line.startswith("http://127.0.0.1")).strip()
            url = link[: link.index("/tasks/")]
            browser = Browser(url)
            address = browser.send("GET", link.removeprefix(url)).headers["Location"]
            address = browser.send("GET", address).headers["Location"]
            for name, label in (("d.png", "dog"), ("b.png", "cat")):
                page = BeautifulSoup(browser.send("GET", address).text, "html.parser")
                assert name in page.text
                answer = browser.send("POST", address, fields(page.find(id="label")) | {"label": label})
                assert answer.status == 303, answer.text
                address = answer.headers["Location"]
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert said == "labelled 2 pictures, 1 of these 3 are left; labels.csv holds 4\n"
    assert table() == BEFORE | {"d.png": "dog", "b.png": "cat"}

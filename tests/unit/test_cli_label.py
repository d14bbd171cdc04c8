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
        "discarded": 0,
        "left": 1,
        "total": 5,
        "class_names": ["cat", "dog"],
    }
    assert "1 cat, 2 dog; number or name of a class" in err and "[1/4] a.png\n  file:///" in err


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
    last = "nothing is left to label: every picture in photos that can be read has a label, or is put aside"
    assert err.splitlines() == ["left out: e.png (empty: the file has no content)", last]


def test_only_the_picks_are_asked_for_in_their_order(photos, said):
    (photos / "to_label.csv").write_text("path,rank,score\nd.png,1,0.9\nb.png,2,0.8\n")
    _, err = said("1\n2\nq\n", "--picks", "to_label.csv", "--classes", "fox,cat")
    assert "1 fox, 2 cat, 3 dog" in err and table() == BEFORE | {"d.png": "fox", "b.png": "cat"}
    with open("to_label.csv", "a") as file:
        file.write("c.png,3,0.7\n")
    found, err = said("q\n", "--picks", "to_label.csv")
    assert "2 of the pictures in to_label.csv have a label already" in err and "[1/1] c.png" in err
    said("fox\n", "--picks", "to_label.csv", "--classes", "fox")
    _, err = said("", "--picks", "to_label.csv", code=3)
    assert err.startswith(
        "nothing is left to label: every picture in to_label.csv that can be read has a label"
    )
    _, err = said("9\nfix\n", "-n", "1")
    assert "[1/1] a.png" in err and "'fix' is none of them" in err and len(table()) == 5


def test_undo_goes_back_over_what_was_skipped_and_no_further(photos, said):
    said("u\n1\n\nu\nu\n2\nq\n")
    assert table() == BEFORE | {"a.png": "dog"}


def test_what_cannot_be_read_is_left_out_and_named_and_copies_are_not(photos, said):
    (photos / "photos" / "a.png").write_text("no image")
    (photos / "photos" / "b.png").write_bytes((photos / "photos" / "d.png").read_bytes())
    (photos / "photos" / "c.png").write_bytes((photos / "photos" / "c.png").read_bytes()[:60])
    (photos / "to_label.csv").write_text("path\nd.png\nb.png\nc.png\ne.png\na.png\n")
    _, err = said("1\n1\n", "--picks", "to_label.csv")
    for name, kind in (("a.png", "unreadable"), ("c.png", "unreadable"), ("e.png", "empty")):
        assert f"left out: {name} ({kind}: " in err
    assert err.count("left out") == 3 and table() == BEFORE | {"b.png": "cat", "d.png": "cat"}
    _, err = said("", "--picks", "to_label.csv", code=3)
    assert err.count("left out") == 3


def test_what_is_put_aside_is_not_asked_for_again_and_no_part_of_the_data_set(photos, said):
    found, _ = said("d\nu\nd\n2\nd\nq\n")
    assert (found["labelled"], found["discarded"], found["left"], found["total"]) == (1, 2, 1, 3)
    assert (photos / "labels.csv").read_text().splitlines() == [
        *("path,label,status", "a.png,,discarded", "b.png,dog,", "c.png,,discarded"),
        *("cat/1.png,cat,", "dog/2.png,dog,"),
    ]
    read = data.folder("photos", labels="labels.csv")
    assert read.unlabelled.ids.tolist() == ["d.png", "e.png"] and len(read.labelled) == 3
    _, err = said("1\n")
    assert "put aside: 2, as labels.csv has them as discarded" in err and "[1/1] d.png" in err
    _, err = said("", code=3)
    assert "has a label, or is put aside" in err and list(table()) == sorted(
        ["a.png", "b.png", "c.png", "d.png", *BEFORE]
    )
    (photos / "labels.csv").write_text("path,label,status\na.png,cat,discarded\n")
    assert "has the status 'discarded' and the label 'cat' for a.png" in said("", code=1)[1]


def test_names_that_are_numbers_are_chosen_by_name_alone(photos, said):
    _, err = said("1\n3\nq\n", "--classes", "2,1")
    assert err.splitlines()[1].startswith("2, 1, cat, dog; a class, Enter") and "'3' is none of them" in err
    assert table() == BEFORE | {"a.png": "1"}


def test_an_interrupt_in_the_terminal_keeps_the_answers_and_is_no_failure(photos, monkeypatch, capsys):
    answers = iter(["1\n"])

    class Keyboard(io.StringIO):
        def readline(self):
            try:
                return next(answers)
            except StopIteration:
                raise KeyboardInterrupt from None

    monkeypatch.setattr(sys, "stdin", Keyboard())
    assert main(["label", "photos", "-o", "labels.csv", "--terminal"]) == 0
    assert capsys.readouterr().out == "labelled 1 pictures, 3 of these 4 are left; labels.csv holds 3\n"
    assert table() == BEFORE | {"a.png": "cat"}


def test_the_table_is_there_without_an_answer(photos, said):
    said("")
    assert table() == BEFORE


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
        ("labels.csv", "path;label\na.png;cat\n", "names path;label; write commas between the columns"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_changes(photos, said, name, content, message):
    (photos / name).write_text(content)
    more = ("--picks", name) if name == "picks.csv" else ()
    _, err = said("1\n", *more, code=1)
    assert message in err and err.count("\n") == 1 and (photos / name).read_text() == content


def test_picks_that_are_missing_are_named_with_what_to_pass(photos, said):
    message = "none.csv is not there: name a CSV file with the column path"
    assert message in said("", "--picks", "none.csv", code=1)[1] and not os.path.exists("labels.csv")


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
    strange = "unlabelled/e\r\n%\\f.png"  # a line break, and what may be taken for another name
    picture(photos / "photos" / strange, 9)
    (photos / "to_label.csv").write_text(f'path,rank\nd.png,1\nb.png,2\n"{strange}",3\na.png,4\n')
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
    with subprocess.Popen(command, text=True, env=environment, **pipes) as process:
        try:
            lines = iter(process.stderr.readline, "")
            link = next(line for line in lines if line.startswith("http://127.0.0.1")).strip()
            url = link[: link.index("/tasks/")]
            browser = Browser(url)
            address = browser.send("GET", link.removeprefix(url)).headers["Location"]
            address = browser.send("GET", address).headers["Location"]
            given = {
                "d.png": {"label": "dog"},
                "b.png": {"label": "cat"},
                "e%0D%0A%25%5Cf.png": {"status": "discard"},
            }
            for name, answer in given.items():
                page = BeautifulSoup(browser.send("GET", address).text, "html.parser")
                assert page.h1.text == name
                answer = browser.send("POST", address, fields(page.find(id="label")) | answer)
                assert answer.status == 303, answer.text
                address = answer.headers["Location"]
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert said == "labelled 2 pictures, put 1 aside, 1 of these 4 are left; labels.csv holds 4\n"
    assert table() == BEFORE | {"d.png": "dog", "b.png": "cat", strange: ""}
    assert strange not in data.folder("photos", labels="labels.csv").ids

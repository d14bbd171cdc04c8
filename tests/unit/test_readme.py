"""The scripts of the README run as they stand there, and are as short as it promises."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from alhelpers import data
from alhelpers.cli import main
from alhelpers.forking import NUMERICAL, ServerProcess

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
SCRIPTS = dict(BLOCKS)

#: Runs a script whose labelling is answered from the names of the files, or by a person who stops after some.
ANSWERING = """
import csv, io, runpy, sys
from alhelpers import cli
main, (script, stop) = cli.main, sys.argv[1:]
class Answers(io.StringIO):
    def readline(self):
        line = super().readline()
        if line == "stop":
            raise KeyboardInterrupt
        return line
def answer(arguments):
    with open("to_label.csv") as file:
        answers = [row["path"].split("-")[0] + chr(10) for row in csv.DictReader(file)]
    sys.stdin = Answers("".join(answers if stop == "0" else [*answers[: int(stop)], "stop"]))
    return main([*arguments, "--terminal"])
cli.main = answer
runpy.run_path(script, run_name="__main__")
"""


def draw(path, kind, seed):
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 80, (40, 40, 3), dtype=np.uint8))
    left, top = rng.integers(4, 16, 2).tolist()
    shape = getattr(ImageDraw.Draw(image), "ellipse" if kind == "disc" else "rectangle")
    shape((left, top, left + 18, top + 18), fill=tuple(rng.integers(100, 256, 3).tolist()))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photos of discs and squares: few labelled ones and a pool; train and test folders with all labels."""
    root = tmp_path_factory.mktemp("own")
    for name, counts in {"photos": (8, 40), "train": (40, 0), "test": (25, 0)}.items():
        for place, kind in enumerate(("disc", "square")):
            for row in range(counts[0]):
                draw(root / name / kind / f"{row}.png", kind, (place, row, len(name)))
            for row in range(counts[1]):
                draw(root / name / f"{kind}-{row}.png", kind, (place, row, 99))
    for name, text in SCRIPTS.items():
        # How well it learns does not matter.
        text = text.replace("steps=100", "steps=10")
        (root / name).write_text(text.replace("TorchClassifier(build)", "TorchClassifier(build, steps=10)"))
    return root


ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "unit")])}


@pytest.fixture(scope="module")
def run(folder):
    """Runs a script in a fork of a process that has torch imported, which takes longer than most scripts."""
    server = ServerProcess("helpers_scripts", NUMERICAL, ENVIRONMENT)

    def run_script(*command):
        request = {"fork": True, "folder": str(folder), "command": list(map(str, command))}
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            pid = server.request(request, [output.fileno(), errors.fileno()])
            assert pid is not None, "the process with torch has died"
            code = server.request({"reap": pid})
            output.seek(0), errors.seek(0)
            assert code == 0, errors.read()
            return output.read()

    yield run_script
    server.close()


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("my_model.py", 12),
        ("pick.py", 10),
        ("rounds.py", 20),
        ("curve.py", 12),
        ("tables.py", 12),
        ("boxes.py", 12),
    ],
)
def test_scripts_are_short(name, most):
    lines = [line for line in SCRIPTS[name].splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= most and max(map(len, lines)) <= 110
    assert len(SCRIPTS) == len(BLOCKS)


def test_picks_then_the_command_with_the_saved_weights(folder, monkeypatch, capsys):
    command = [sys.executable, "pick.py"]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    pool = {path.name for path in (folder / "photos").glob("*.png")}
    assert len(set(printed)) == 50 and set(printed) <= pool
    monkeypatch.chdir(folder)
    (command,) = re.findall(r"^alhelpers (pick .*)$", README, re.MULTILINE)
    assert main([*command.split(), "--strategy", "margin", "--force"]) == 0
    table = (folder / "to_label.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in table[1:]] == printed and (folder / "picks.html").is_file()


def test_rounds_end_with_a_decision_and_go_on_from_the_labels(folder, run, monkeypatch, capsys):
    answering = folder / "answering.py"
    answering.write_text(ANSWERING)
    asked = []
    # A person stops after 7 labels; then one round labels the picks of the pool, and one the 23 that are left.
    for stop, total in ((7, 23), (0, 73), (0, 96)):
        action, reason = run(answering, "rounds.py", stop).splitlines()[-2:]
        assert action in ("update model", "discard") and reason.endswith(f": {action}")
        assert re.search(r"on 50 test items: a difference of \S+ \(.*\)", reason)
        labels = (folder / "labels.csv").read_text().splitlines()
        assert len(labels) == 1 + total
        picks = [row.split(",")[0] for row in (folder / "to_label.csv").read_text().splitlines()[1:]]
        asked += picks[: stop or None]
    assert len(asked) == len(set(asked)) == 80
    monkeypatch.chdir(folder)
    run("tables.py")
    (command,) = re.findall(r"^alhelpers (compare .*)$", README, re.MULTILINE)
    assert main([*command.split(), "--min-confidence", "0.95"]) == 0
    said = capsys.readouterr().out
    assert f"decision: {action}" in said and "'new.csv'" in said


def test_a_curve_against_chance_over_three_seeds(run):
    printed = run("curve.py")
    assert len(re.findall(r"(?:margin|random) +(?:20|40|60)\.0 .* 3$", printed, re.MULTILINE)) == 6
    assert "| against | margin | random |" in printed


def test_images_with_expected_errors_and_a_comparison_of_detectors(folder, run):
    for name, count, subset in (("labelled", 12, "train"), ("test", 6, "test"), ("pool", 5, "train")):
        scenes = data.scenes(count, seed=len(name), size=32, subset=subset, class_names=["0", "1"])
        images = folder / ("pool" if name == "pool" else "images")
        data.write_coco(folder / f"{name}.json", scenes, images=images)
    output = run("boxes.py")
    assert 1 <= output.count(".png\n") <= 5
    assert "average precision" in output and ("update model" in output or "discard" in output)

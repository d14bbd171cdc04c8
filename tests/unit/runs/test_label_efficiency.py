"""The page of the record: what a sweep's table gives, and settings that notebook 11 takes."""

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from alhelpers.runs.notebooks import parameters_of
from alhelpers.runs.parameters import check

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import commits
import label_efficiency

CONTENDER = "mc_dropout > typicality"


def table(state="done"):
    """A run whose contender reaches 95 % at 30 and 50 labels, and whose chance does at 60 and never."""
    curves = {
        ("random", 0): [0.5, 0.85, 0.95],
        ("random", 1): [0.5, 0.75, 0.85],
        (CONTENDER, 0): [0.95, 0.97, 0.99],
        (CONTENDER, 1): [0.75, 0.95, 0.99],
    }
    points = [
        {"strategy": name, "race_seed": seed, "labels": labels, "accuracy": value}
        for (name, seed), values in curves.items()
        for labels, value in zip((30, 50, 60), values, strict=True)
    ]
    run = pd.DataFrame(points).to_dict("list")
    return pd.DataFrame([run | {"run.name": "a1", "run.state": state, "run.error": "it broke"}])


@pytest.fixture
def swept(monkeypatch):
    asked = []

    def sweep(notebook, grid, output, workers):
        asked.append((notebook.stem, grid, output, workers))
        return swept.table

    monkeypatch.setattr(label_efficiency, "sweep", sweep)
    monkeypatch.setattr(commits, "code_commit", lambda: "abc1234")
    swept.asked, swept.table = asked, table()
    return swept


def test_the_page_says_what_the_table_gave(swept, tmp_path):
    curves = tmp_path / "curves.parquet"
    label_efficiency.measure(tmp_path / "out", curves, ["digits"], 2)
    text = label_efficiency.page(curves)
    ((notebook, grid, output, workers),) = swept.asked
    assert (notebook, output, workers) == ("11_compare_strategies", tmp_path / "out" / "digits", 2)
    assert [run["seed"] for run in grid] == [0, 5]
    # Medians of (30, 50) and of (60, never); at 90 % of (30, 45) and of (55, never).
    assert f"| {CONTENDER} | 38 (30 to 45) | 40 (30 to 50) | 1.0% |" in text
    assert (
        "| random | more than 60 (55 to more than 60) | more than 60 (60 to more than 60) | 10.0% |" in text
    )
    assert "At 5% error chance needs more than the budget." in text
    assert "MNIST, no augmentation" not in text
    assert "| BatchBALD 2019, 5 at a time | 90 | 190 |" in text
    assert "Measured at commit abc1234." in text


def test_how_many_times_as_many_labels_chance_needs(swept, tmp_path):
    run = swept.table.iloc[0]
    run["accuracy"][3:6] = [0.5, 0.75, 0.95]
    label_efficiency.measure(tmp_path, tmp_path / "curves.parquet", ["digits"])
    assert "At 5% error chance needs 1.5 times as many labels." in label_efficiency.page(
        tmp_path / "curves.parquet"
    )


def test_a_setting_that_is_measured_again_replaces_its_curves(swept, tmp_path, monkeypatch):
    curves = tmp_path / "curves.parquet"
    for commit, name in (("abc1234", "digits"), ("abc1234", "mnist_plain"), ("def5678", "digits")):
        monkeypatch.setattr(commits, "code_commit", lambda commit=commit: commit)
        label_efficiency.measure(tmp_path / commit, curves, [name])
    kept = pd.read_parquet(curves).groupby("setting").agg({"commit": set, "accuracy": "size"})
    assert kept.commit.to_dict() == {"digits": {"def5678"}, "mnist_plain": {"abc1234"}}
    assert set(kept.accuracy) == {12}
    text = label_efficiency.page(curves)
    assert "Measured at commits abc1234, def5678." in text
    assert text.index("## MNIST, no augmentation") < text.index("## Digits")


def test_what_two_commits_measured_is_not_mixed(swept, tmp_path, monkeypatch):
    label_efficiency.measure(tmp_path, tmp_path / "curves.parquet", ["digits"])
    monkeypatch.setattr(commits, "code_commit", lambda: "def5678")
    with pytest.raises(RuntimeError, match="holds what commit abc1234 measured, and this is def5678"):
        label_efficiency.measure(tmp_path, tmp_path / "curves.parquet", ["digits"])
    monkeypatch.setattr(commits, "code_commit", lambda: "def5678+")
    with pytest.raises(RuntimeError, match="commit it first"):
        label_efficiency.measure(tmp_path / "new", tmp_path / "curves.parquet", ["digits"])
    assert not (tmp_path / "new").exists()


def test_a_failed_run_keeps_no_curves(swept, tmp_path):
    swept.table = table(state="failed")
    with pytest.raises(RuntimeError, match="digits: a1: it broke"):
        label_efficiency.measure(tmp_path, tmp_path / "curves.parquet", ["digits"])
    assert not (tmp_path / "curves.parquet").exists()


@pytest.mark.parametrize("setting", label_efficiency.SETTINGS, ids=lambda setting: setting.name)
def test_notebook_11_takes_the_settings(setting):
    declared = parameters_of(label_efficiency._NOTEBOOK)
    check(declared, dict(setting.parameters) | {"seed": 0}, where="notebook 11")
    assert len(setting.first_seeds) * setting.parameters["seeds"] >= 5
    steps = range(0, max(setting.first_seeds) + 1, setting.parameters["seeds"])
    assert setting.first_seeds == tuple(steps), "no seed twice, none left out"


def committed_section(setting):
    page = label_efficiency._PAGE.read_text()
    return page.split(f"## {setting.title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("setting", label_efficiency.SETTINGS, ids=lambda setting: setting.name)
def test_the_committed_page_shows_every_setting_as_the_module_has_it_now(setting):
    section = committed_section(setting)
    assert setting.what in section
    assert f"`{json.dumps(dict(setting.parameters))}`" in section


def test_the_readme_says_what_the_committed_page_says():
    readme = (label_efficiency._ROOT / "README.md").read_text()
    ours, chance = re.search(r"(\d+) labels reach 5 % error where chance takes (\d+)", readme).groups()
    (setting,) = [one for one in label_efficiency.SETTINGS if one.name == "mnist_augmented"]
    medians = {row[1]: row[3].split()[0] for row in table_rows(committed_section(setting))}
    assert (medians[CONTENDER], medians["random"]) == (ours, chance)


def table_rows(text):
    return [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.startswith("|")]

"""Scores of one's own: a number that each record has, and a function, wherever a strategy's name may stand."""

import functools
import json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers_mining import same

from alhelpers import mining, records
from alhelpers.cli import main
from alhelpers.mining import MiningError, MissingField, UnknownOption, UnknownStrategy, combine, mine
from alhelpers.records import RecordError

BLUR = np.random.default_rng(3).normal(size=60).round(1)  # some are equal


@pytest.fixture
def blurred(pool):
    documents = [
        {"blur": float(blur), "size": k % 7, "night": k % 2 == 0, "camera": "a"}
        for k, blur in enumerate(BLUR)
    ]
    return pool.append_column("metadata", pa.array(documents))


def by(table, values, size=12):
    """The ids of the highest values; ties go to the smaller id."""
    ids = table["id"].to_pylist()
    return [ids[k] for k in sorted(range(len(ids)), key=lambda k: (-values[k], ids[k]))[:size]]


def doubt(confidences):
    """Doubt of the kind that the caller prefers."""
    return 1 - confidences.max(axis=1)


def mixed(confidences, embeddings, power=1.0, *, of="mean"):
    return doubt(confidences) ** power * getattr(np.abs(embeddings), of)(axis=1)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("metadata.blur", BLUR),
        ("metadata.size", np.arange(60) % 7),
        ("metadata.night", np.arange(60) % 2 == 0),
    ],
)
def test_a_number_of_the_records_is_a_score(name, values, blurred, tmp_path):
    found = mine(blurred, name, 12)
    assert found.ids == by(blurred, values.astype(float))
    np.testing.assert_array_equal(found.scores, np.sort(values.astype(np.float32))[::-1][:12])
    assert found.meta["strategy"] == name and json.loads(json.dumps(found.meta)) == found.meta
    records.write(tmp_path / "0.parquet", blurred.slice(0, 25))
    records.write(tmp_path / "1.parquet", blurred.slice(25))
    same(found, mine(tmp_path / "*.parquet", name, 12))
    same(found, mine(blurred.to_pylist()[::-1], name, 12))
    with ThreadPoolExecutor(2) as engine:
        same(found, mine(blurred, name, 12, engine=engine))


def test_a_number_that_a_record_lacks_is_named(blurred):
    rows = blurred.to_pylist()
    for value, problem in ((None, "missing or NaN"), (np.nan, "missing or NaN"), (np.inf, "inf, beyond"),
                           (-1e39, "-1e.39, beyond")):  # fmt: skip
        broken = [row | {"metadata": {"blur": value if k == 9 else 1.0}} for k, row in enumerate(rows)]
        message = (
            f"record '{rows[9]['id']}' cannot be scored by 'metadata.blur': its metadata.blur is {problem}"
        )
        with pytest.raises(RecordError, match=message) as error:
            mine(broken, "metadata.blur", 3)
        assert error.value.record == rows[9]["id"]
    lacking = [
        row if k != 9 else {key: row[key] for key in row if key != "metadata"} for k, row in enumerate(rows)
    ]
    with pytest.raises(RecordError, match=f"'{rows[9]['id']}' .*is missing"):
        mine(lacking, "metadata.blur", 3)


def test_what_is_no_number_is_named(blurred, pool):
    with pytest.raises(MiningError, match="metadata.camera must be a number in each record.* holds string"):
        mine(blurred, "metadata.camera", 3)
    with pytest.raises(RecordError, match=r"'metadata.blurr' is unknown \(did you mean 'metadata.blur'\?\)"):
        mine(blurred, "metadata.blurr", 3)
    with pytest.raises(MissingField, match="strategy 'metadata.blur' needs metadata in the records"):
        mine(pool, "metadata.blur", 3)
    with pytest.raises(UnknownOption, match="'metadata.blur' has no option 'over'; its options are: none"):
        mine(blurred, "metadata.blur", 3, over="max")
    with pytest.raises(UnknownStrategy, match="numbers of the records such as 'metadata.blur'"):
        mine(blurred, "metadata.", 3)


def test_a_function_is_a_score(pool, reference, tmp_path):
    confidences, embeddings = (records.column(pool, name) for name in ("confidences", "embeddings"))
    found = mine(pool, doubt, 12)
    assert found.ids == by(pool, 1 - confidences.max(axis=1)) == mine(pool, "confidence", 12).ids
    assert found.meta["strategy"] == "doubt" and json.loads(json.dumps(found.meta)) == found.meta
    expected = (1 - confidences.max(axis=1)) ** 2 * np.abs(embeddings).max(axis=1)
    own = mine(pool, mixed, 12, power=2, of="max")
    assert own.ids == by(pool, expected) and own.meta["options"] == {"power": 2, "of": "max"}
    assert mine(pool, functools.partial(mixed, power=2, of="max"), 12).ids == own.ids
    records.write(tmp_path / "pool.parquet", pool)
    same(found, mine(tmp_path / "pool.parquet", doubt, 12))
    same(found, mine(pool.to_pylist(), doubt, 12, reference=reference))
    with ProcessPoolExecutor(1) as engine:
        same(found, mine(pool, doubt, 12, engine=engine))


def test_a_function_may_list_its_fields(blurred):
    def score(blur, early):
        assert blur.dtype == np.float64 and early.dtype == np.float32
        return blur + early[:, 0]

    score.columns = ("metadata.blur", "embeddings:early")
    assert mine(blurred, score, 12).ids == by(
        blurred, BLUR + records.column(blurred, "embeddings:early")[:, 0]
    )

    def of_documents(metadata, id):
        return [document["size"] + (name > "r0030") for document, name in zip(metadata, id, strict=True)]

    more = np.array([name > "r0030" for name in blurred["id"].to_pylist()])
    assert mine(blurred, of_documents, 12).ids == by(blurred, np.arange(60) % 7 + more)


def test_what_a_function_returns_is_checked(pool):
    ids = pool["id"].to_pylist()
    with pytest.raises(
        MiningError, match=r"'short' must return one number .* shape \(60,\), got float64 of shape \(3,\)"
    ):
        mine(pool, named("short", lambda confidences: np.zeros(3)), 3)
    for wrong in (lambda confidences: None, lambda confidences: confidences, lambda confidences: ["a"] * 60):
        with pytest.raises(MiningError, match="function 'wrong' must return one number for each record"):
            mine(pool, named("wrong", wrong), 3)
    with pytest.raises(
        RecordError, match=f"record '{ids[5]}' cannot be scored by 'hole': its hole is missing or NaN"
    ):
        mine(pool, named("hole", lambda confidences: np.where(np.arange(60) == 5, np.nan, 1)), 3)


def named(name, function):
    function.__name__ = name
    return function


def test_the_parameters_of_a_function_are_checked(pool):
    message = (
        "the parameters of function 'f' must be fields of records.* but it has {}; give options a default"
    )
    with pytest.raises(MiningError, match=message.format("'part', which is no field of records")):
        mine(pool, named("f", lambda part: 1), 3)
    with pytest.raises(MiningError, match=message.format("none")):
        mine(pool, named("f", lambda *fields: 1), 3)
    with pytest.raises(MissingField, match="strategy 'f' needs detections in the records"):
        mine(pool.drop_columns(["detections"]), named("f", lambda detections: 1), 3)
    with pytest.raises(UnknownOption, match="'doubt' has no option 'over'; its options are: none"):
        mine(pool, doubt, 3, over="max")


def test_own_scores_stand_in_plans(blurred):
    plan = [
        {"cascade": [{"strategy": doubt, "keep": "3x"}, {"strategy": "coreset"}], "size": 5},
        {"weights": [{"strategy": "metadata.blur", "weight": 2}, {"strategy": mixed, "weight": 1,
                                                                 "options": {"power": 3}}], "size": 4},
        {"strategy": "metadata.size", "size": 3},
    ]  # fmt: skip
    found = combine(blurred, plan, 12)
    names = ["doubt > coreset"] * 5 + ["metadata.blur + mixed"] * 4 + ["metadata.size"] * 3
    assert list(found.meta["strategies"].values()) == names
    assert json.loads(json.dumps(found.meta)) == found.meta
    kept = mine(blurred, doubt, 15).ids
    first = mine(records.query(blurred, [{"left": "id", "op": "in", "right": kept}]), "coreset", 5).ids
    assert found.ids[:5] == first


def test_own_scores_stand_in_configurations(blurred):
    config = mining.parse_config({"strategy": "metadata.blur", "size": 7})
    assert mining.run(config, blurred).ids == by(blurred, BLUR, 7) and config.strategies == ("metadata.blur",)
    assert mining.run({"strategy": doubt, "size": 7}, blurred).ids == mine(blurred, doubt, 7).ids
    digests = {
        mining.parse_config({"strategy": each}).digest for each in (doubt, mixed, "metadata.blur", "margin")
    }
    assert len(digests) == 4
    with pytest.raises(
        UnknownStrategy, match="function in a file, which configurations never load: .* by --strategy"
    ):
        mining.parse_config({"strategy": "score.py:doubt"})


def test_what_is_needed_is_known_before_there_are_records():
    needed = mining.needed_fields
    assert needed("margin")[0].fields == mining.needed_fields({"strategy": "margin"})[0].fields
    assert needed(doubt) == [("doubt", (("confidences",),), "none", (), (), ())]
    assert needed("metadata.blur") == [
        ("metadata.blur", (("metadata",),), "none", (), ("metadata.blur",), ())
    ]
    plan = {
        "cascade": [{"strategy": mixed, "keep": "2x"}, {"strategy": "novelty", "options": {"layer": "early"}}]
    }
    assert needed(plan) == [
        ("mixed", (("confidences",), ("embeddings",)), "none", (), (), ()),
        ("novelty", (("embeddings:early",),), "required", (), (), (("embeddings:early",),)),
    ]
    assert [each.strategy for each in needed([{"strategy": name} for name in mining.strategies()])] == [
        *mining.strategies()
    ]


def test_workers_compute_functions_of_modules_alone(pool):
    with (
        ProcessPoolExecutor(1) as engine,
        pytest.raises(MiningError, match="workers .* cannot get a function"),
    ):
        mine(pool, lambda confidences: confidences[:, 0], 3, engine=engine)


# ------------------------------------------------------------------------------
# the command line
# ------------------------------------------------------------------------------

CODE = """
from neighbour import POWER

def doubt(confidences, power=POWER):
    return (1 - confidences.max(axis=1)) ** power

THRESHOLD = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, blurred):
    monkeypatch.chdir(tmp_path)
    records.write("pool.parquet", blurred)
    Path("config.json").write_text('{"size": 7}')
    Path("own").mkdir()
    Path("own/score.py").write_text(CODE)
    Path("own/neighbour.py").write_text("POWER = 2")
    return tmp_path


def run(*more):
    return main(["mine", "config.json", "pool.parquet", "-o", "picks.parquet", *more])


def test_the_command_line_names_a_column_or_a_function(folder, blurred, capsys):
    assert run("--strategy", "metadata.blur") == 0
    picks = mining.read_picks("picks.parquet")
    assert picks["id"].to_pylist() == by(blurred, BLUR, 7)
    assert run("--strategy", "own/score.py:doubt") == 0
    picked = mining.read_picks("picks.parquet").slice(7)
    left = blurred.filter(pa.array([id not in picks["id"].to_pylist() for id in blurred["id"].to_pylist()]))
    assert picked["id"].to_pylist() == mine(left, doubt, 7).ids and set(picked["strategy"].to_pylist()) == {
        "doubt"
    }
    Path("config.json").write_text('{"strategy": "metadata.size", "size": 3}')
    assert run() == 0 and "3 by metadata.size" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["own/score.py:dout"], "own/score.py has no function 'dout'; it has: doubt"),
        (["own/score.py:THRESHOLD"], "own/score.py has no function 'THRESHOLD'"),
        (["own/scores.py:doubt"], "own/scores.py is not a file of Python: name one, as FILE.py:NAME"),
        (["own/score.py:"], "'own/score.py:' must be a file and a function in it"),
        (["own/broken.py:f"], "own/broken.py cannot be run: ZeroDivisionError: division by zero"),
        (["own/score.py:doubt", "--workers", "2"], "is computed in this process: leave out --workers"),
        (["margn"], "strategy 'margn' is unknown; did you mean 'margin'?"),
    ],
)
def test_what_is_wrong_with_a_function_is_one_sentence(more, message, folder, capsys):
    Path("own/broken.py").write_text("1 / 0")
    assert run("--strategy", *more) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not Path("picks.parquet").exists()


def test_a_configuration_never_loads_code(folder, capsys):
    Path("config.json").write_text('{"strategy": "own/broken.py:f"}')
    Path("own/broken.py").write_text("open('ran', 'w')")
    assert run() == 2 and "configurations never load" in capsys.readouterr().err and not Path("ran").exists()


def test_the_strategy_of_the_command_line_takes_the_place_of_a_plan(folder, capsys):
    Path("config.json").write_text('{"plan": {"strategy": "margin"}}')
    assert run("--strategy", "metadata.blur") == 0
    found = capsys.readouterr()
    assert "left out of the configuration, as --strategy takes its place: plan" in found.err
    assert "by metadata.blur" in found.out and "margin" not in found.out

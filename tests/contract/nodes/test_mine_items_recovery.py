"""Rounds of mining that died, or whose items went or were refused meanwhile, and what the next one does."""

import signal
import subprocess
import sys

import pytest
from mining_samples import context, ids, marks, mine, names, predict_all
from node_samples import upload

from alhelpers import mining
from alhelpers.dataloop import mine_items


@pytest.fixture
def die(dl, monkeypatch):
    """Run a round, under the id "first", that dies when it comes to mark the item after a rank."""

    def run(rank, dataset, model, config):
        def write_mark(item, mark):
            if mark["rank"] > rank:
                raise KeyboardInterrupt
            return write(item, mark)

        write = mine_items.write_mark
        with monkeypatch.context() as patched:
            patched.setattr(mine_items, "write_mark", write_mark)
            with pytest.raises(KeyboardInterrupt):
                mine(dataset, model, config, context=context(dl, "first"))
        return set(marks(dataset))

    return run


def test_a_round_that_died_is_taken_up_again(dl, make_pool, die, progress):
    dataset, _, model, records = make_pool(25)
    config = {"strategy": "mc_dropout", "options": {"score": "bald"}, "size": 10}
    expected = mining.mine(records, "mc_dropout", 10, score="bald").ids
    assert die(3, dataset, model, config) == set(expected[:3])
    again = mine(dataset, model, config, context=context(dl, "first"), progress=progress)
    assert ids(again) == expected and set(marks(dataset)) == set(expected)
    assert [item.metadata["user"]["mining"]["rank"] for item in again] == list(range(1, 11))
    assert {(mark["round"], mark["pool"]) for mark in marks(dataset).values()} == {(1, 25)}
    before = marks(dataset)
    # what is done is done: another try changes nothing, and another round takes none of it
    assert ids(mine(dataset, model, config, context=context(dl, "first"), progress=progress)) == expected
    assert progress.action == "mined" and marks(dataset) == before
    following = mine(dataset, model, config, context=context(dl, "second"))
    assert not set(ids(following)) & set(expected)
    assert {item.metadata["user"]["mining"]["round"] for item in following} == {2}
    assert ids(mine(dataset, model, config, context=context(dl, "first"))) == expected


KILLED = """
import os, signal, sys
import dtlpy as dl
from alhelpers.dataloop import ItemMiner, mine_items

write, calls = mine_items.write_mark, []

def write_mark(item, mark):
    calls.append(item)
    if len(calls) > 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(item, mark)

mine_items._PARALLEL_UPDATES, mine_items.write_mark = 1, write_mark
dataset, model = dl.datasets.get(dataset_id=sys.argv[1]), dl.models.get(model_id=sys.argv[2])
context = dl.Context(execution_dict={"id": "killed"}, sdk=dl)
ItemMiner.mine_items(dataset, model, miner_configuration={"size": 10}, context=context)
"""


def test_a_process_that_is_killed_leaves_a_round_that_can_be_taken_up(dl, make_pool):
    dataset, _, model, records = make_pool(25)
    expected = mining.mine(records, "margin", 10).ids
    command = [sys.executable, "-c", KILLED, dataset.id, model.id]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(marks(dataset)) == 3 and set(marks(dataset)) < set(expected)
    again = mine(dataset, model, {"size": 10}, context=context(dl, "killed"))
    assert ids(again) == expected and set(marks(dataset)) == set(expected)
    assert [item.metadata["user"]["mining"]["rank"] for item in again] == list(range(1, 11))


def test_a_round_of_all_that_waits_takes_no_more_when_it_is_run_again(dl, make_pool, die):
    dataset, _, model, records = make_pool(6)
    tagged = die(4, dataset, model, {"size": 10})
    late = list(upload(dataset, names(5, start=10)).values())
    predict_all(dl, [dataset.items.get(f"/{name}") for name in names(5, start=10)], model, first_seed=50)
    config = {"size": 10, "wait_for": 50}
    again = mine(dataset, model, config, context=context(dl, "first"))
    assert len(late) == 11 and tagged < set(ids(again)) and len(again) == 6
    assert len(mine(dataset, model, {"size": 10})) == 5


def test_a_round_that_died_leaves_alone_what_another_took_meanwhile(dl, make_pool, die):
    dataset, _, model, records = make_pool(30)
    tagged = die(3, dataset, model, {"size": 10})
    other = mine(dataset, model, {"size": 10}, context=context(dl, "second"))
    again = mine(dataset, model, {"size": 10}, context=context(dl, "first"))
    assert len(again) == len(set(ids(again))) == 10 and tagged <= set(ids(again))
    assert not set(ids(again)) & set(ids(other)) and len(marks(dataset)) == 20


def test_items_that_go_meanwhile_are_dropped(dl, make_pool, monkeypatch, progress):
    dataset, _, model, records = make_pool(9)
    expected = mining.mine(records, "margin", 5).ids
    run, write = mine_items.choose, mine_items.write_mark

    def choose(*arguments):
        choice = run(*arguments)
        dataset.items.delete(item_id=expected[0])
        mark = {"round": 7, "rank": 1, "score": 0.0, "strategy": "random", "pool": 1}
        write(dataset.items.get(item_id=expected[1]), mark)
        return choice

    def write_mark(item, mark):
        if item.id == expected[2]:
            dataset.items.delete(item_id=item.id)
        return write(item, mark)

    monkeypatch.setattr(mine_items, "choose", choose)
    monkeypatch.setattr(mine_items, "write_mark", write_mark)
    chosen = mine(dataset, model, {"size": 5}, progress=progress)
    assert ids(chosen) == expected[3:] and progress.action == "mined"
    assert "2 chosen items were deleted meanwhile" in progress.message
    assert "1 chosen items were taken by another round meanwhile" in progress.message
    assert marks(dataset)[expected[1]]["round"] == 7


def test_a_mark_that_is_refused_says_how_to_go_on(dl, make_pool, monkeypatch):
    dataset, _, model, records = make_pool(4)
    write = mine_items.write_mark

    def write_mark(item, mark):
        if mark["rank"] == 2:
            raise dl.exceptions.BadRequest("400", "no")
        return write(item, mark)

    monkeypatch.setattr(mine_items, "write_mark", write_mark)
    with pytest.raises(RuntimeError, match="could not be marked: run this same execution again"):
        mine(dataset, model, context=context(dl, "first"))
    monkeypatch.undo()
    assert len(marks(dataset)) == 3
    again = mine(dataset, model, context=context(dl, "first"))
    assert ids(again) == mining.mine(records, "margin", 4).ids

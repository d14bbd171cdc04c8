"""The queue of a labelling panel: answers, skips and undo, alone and beside others on the same task."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alhelpers.notebook.labelling_queue import LabellingQueue


class Memory:
    """A store in memory: answers by item, of all queues that use it."""

    def __init__(self):
        self.answers = {}
        self.written = 0

    def still_open(self, item_id):
        return item_id not in self.answers

    def write(self, item_id, answer):
        assert item_id not in self.answers
        self.answers[item_id] = answer
        self.written += 1
        return answer

    def erase(self, item_id, receipt):
        assert self.answers.pop(item_id) == receipt


def queue_of(count, store=None):
    names = [f"i{number}" for number in range(count)]
    return LabellingQueue(store or Memory(), names, count)


def seen(queue):
    """All that a person or another kernel can notice."""
    return list(queue._waiting), dict(queue._store.answers), queue.done


def do(queue, action):
    if action == "undo":
        queue.undo()
    elif queue.current is not None:
        queue.skip() if action == "skip" else queue.answer(action)


actions = st.lists(st.sampled_from(["cat", "dog", "skip", "undo"]), max_size=30)


@given(st.integers(1, 6), actions)
def test_undo_is_the_inverse_of_the_last_action(count, before):
    queue = queue_of(count)
    for action in before:
        do(queue, action)
    if queue.current is None:
        return
    start = seen(queue)
    for action in ("cat", "skip"):
        do(queue, action)
        assert queue.undo()
        assert seen(queue) == start


@given(st.integers(1, 6), actions)
def test_undoing_everything_leads_to_the_beginning(count, before):
    queue = queue_of(count)
    start = seen(queue)
    for action in before:
        do(queue, action)
    while queue.undo():
        pass
    assert seen(queue) == start
    assert not queue.undo()


@given(st.integers(1, 6), actions)
def test_every_item_is_answered_once_in_the_end(count, before):
    queue = queue_of(count)
    for action in before:
        do(queue, action)
        assert queue.done == len(queue._store.answers) == count - queue.waiting
    while queue.current is not None:
        queue.answer("cat")
    assert len(queue._store.answers) == count == queue.done
    with pytest.raises(ValueError, match="all items are answered"):
        queue.answer("cat")
    with pytest.raises(ValueError, match="all items are answered"):
        queue.skip()


@given(st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from(["cat", "skip", "undo"])), max_size=40))
def test_two_queues_on_one_store_overwrite_nothing(turns):
    store = Memory()  # which refuses a second answer
    queues = [queue_of(5, store), queue_of(5, store)]
    for who, action in turns:
        do(queues[who], action)
    for queue in queues:
        while queue.current is not None:
            queue.answer("dog")
    assert len(store.answers) == 5


def test_skipped_items_come_back_at_the_end():
    queue = queue_of(3)
    queue.skip()
    queue.answer("cat")
    queue.answer("cat")
    assert (queue.current, queue.done, queue.total) == ("i0", 2, 3)


def test_an_item_that_was_answered_elsewhere_is_passed_over():
    store = Memory()
    mine, theirs = queue_of(3, store), queue_of(3, store)
    assert theirs.answer("dog")
    assert not mine.answer("cat")
    assert store.answers == {"i0": "dog"}
    assert (mine.current, mine.done) == ("i1", 1)
    assert not mine.undo(), "it has answered nothing"


def test_an_answer_that_is_not_stored_leaves_the_queue_as_it_was():
    class Broken(Memory):
        def write(self, item_id, answer):
            raise RuntimeError("no platform")

    queue = queue_of(2, Broken())
    with pytest.raises(RuntimeError):
        queue.answer("cat")
    assert (queue.current, queue.done) == ("i0", 0)
    assert not queue.undo()

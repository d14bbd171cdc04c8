"""Forecasts and stops on the learning curves that the repository keeps."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import stopping
import stopping_curves


@pytest.fixture(scope="module")
def curves():
    return stopping.curves()


def test_the_record_is_small_and_has_all_data_sets(curves):
    assert stopping_curves.CURVES.stat().st_size < 100_000 and stopping.RUNS.stat().st_size < 100_000
    assert {curve.name[:3] for curve in curves} == {setting[:3] for setting in stopping_curves.settings()}
    counts = stopping_curves.label_counts()
    assert all(curve.labels.tolist() == counts for curve in curves)


def test_the_interval_of_80_percent_covers_75_of_what_was_held_out(curves):
    held_out = stopping.left_out(curves[::2])
    assert len(held_out) == 3
    values = [
        v
        for name, _, found in held_out
        for of, v in zip(found.dataset, found.values, strict=True)
        if of == name
    ]
    needed = [inside for name, _, found in held_out for of, _, inside, _ in found.needed if of == name]
    assert np.mean(values) >= 0.75
    assert np.mean(needed) >= 0.75


def test_the_advised_stop_buys_at_most_a_tenth_too_many(curves):
    stops = stopping.check_stops(curves[::6])
    assert len(stops) >= 20
    assert stopping.overshoot(stops) <= 0.1
    assert np.mean([stop.later < -0.01 for stop in stops]) <= 0.1, "and does not stop too early either"


def test_asking_again_is_no_worse_than_activelab():
    for duel in stopping.duels():
        assert duel.ours.mean() >= duel.peer.mean() - 0.005, duel.task


def test_the_page_follows_from_the_record():
    page = stopping._PAGE.read_text()
    assert stopping._annotator_section() in page and stopping._criteria_section() in page

"""The cost of mining on a cluster: limits that are known without a model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alhelpers.mining import MiningError, cluster_cost

NUMBERS = {
    "records": st.integers(1, 10**9),
    "bytes_each": st.floats(1, 1e4),
    "seconds_each": st.floats(1e-8, 1e-3),
    "workers": st.integers(1, 100),
    "threads": st.integers(1, 16),
    "bandwidth": st.floats(1e6, 1e10),
    "passes": st.integers(1, 20),
}


@given(st.fixed_dictionaries(NUMBERS))
def test_it_lies_between_its_bounds(numbers):
    found = cluster_cost(**numbers)
    total = numbers["passes"] * numbers["records"]
    most = total * (numbers["bytes_each"] / numbers["bandwidth"] + numbers["seconds_each"])
    assert (
        found.seconds * (1 + 1e-9)
        >= total * numbers["bytes_each"] / numbers["bandwidth"] / numbers["workers"]
    )
    assert (
        found.seconds * (1 + 1e-9)
        >= total * numbers["seconds_each"] / numbers["workers"] / numbers["threads"]
    )
    assert found.seconds <= most * (1 + 1e-9) + found.coordinating


@given(st.fixed_dictionaries(NUMBERS))
def test_one_worker_with_one_thread_reads_then_computes(numbers):
    found = cluster_cost(**numbers | {"workers": 1, "threads": 1, "overhead": 0, "merging_each": 0})
    assert found.seconds == pytest.approx(found.reading + found.computing)


@given(st.fixed_dictionaries(NUMBERS))
def test_more_workers_are_never_slower(numbers):
    more = cluster_cost(**numbers | {"workers": 2 * numbers["workers"]})
    assert more.seconds <= cluster_cost(**numbers).seconds * (1 + 1e-9)


def test_the_bound_and_the_price():
    given = {"records": 10**8, "bytes_each": 50, "seconds_each": 1e-6, "part": 10**6}
    assert cluster_cost(**given, workers=2, bandwidth=1e9).bound == "computing"
    assert cluster_cost(**given, workers=2, bandwidth=1e6).bound == "reading"
    assert cluster_cost(**given, workers=1000, bandwidth=1e9).bound == "coordinating"
    found = cluster_cost(**given, workers=2, start=60, price=3, overhead=0, merging_each=0, bandwidth=100e6)
    assert found.seconds == pytest.approx(60 + 50 * (0.5 + 1)) and found.price == pytest.approx(
        2 * 3 * 135 / 3600
    )


COUNTS = ("records", "workers", "threads", "part", "passes")
AMOUNTS = ("bytes_each", "seconds_each", "bandwidth", "overhead", "merging_each", "start", "price")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *((name, wrong) for name in COUNTS for wrong in (0, 2.5, True, float("inf"), "3", None)),
        *((name, wrong) for name in AMOUNTS for wrong in (-1, float("nan"), float("inf"), 1j, "3", None)),
        ("bandwidth", 0),
    ],
)
def test_what_is_no_number_of_something_is_named(name, wrong):
    numbers = {"records": 1, "bytes_each": 1, "seconds_each": 1, "workers": 1}
    with pytest.raises(MiningError, match=f"^{name} must be"):
        cluster_cost(**numbers | {name: wrong})

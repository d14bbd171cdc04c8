import pytest
from helpers_mining import make_table


@pytest.fixture
def pool():
    return make_table()


@pytest.fixture
def reference():
    return make_table(25, seed=1, prefix="ref")


@pytest.fixture(scope="module")
def table():
    return make_table(240)


@pytest.fixture(scope="module")
def labelled():
    return make_table(40, seed=1, prefix="ref")

"""Fixtures of the platform's unit tests."""

import pytest

from alhelpers.platform.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.close()

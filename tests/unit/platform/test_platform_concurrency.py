"""Sixteen processes read and write the same things at once: nothing is lost, nothing is locked, all of them finish."""

import itertools
import threading

import pytest
from platform_client import Client
from platform_load import at_once

import alhelpers.platform


@pytest.fixture(scope="module")
def platform():
    with alhelpers.platform.start() as platform:
        yield platform


def test_sixteen_processes_at_once(platform):
    at_once(platform, plain=14, sdk=2)


def test_downloads_never_fail_while_the_item_is_overwritten(platform):
    client = Client(platform.url, platform.token)
    dataset = client.dataset("overwritten")["id"]
    contents = [bytes([number]) * size for number in range(3) for size in (2_000, 400_000)]
    item = client.upload(dataset, "/x.bin", contents[0])["id"]
    stop = threading.Event()

    def overwrite():
        for content in itertools.takewhile(lambda _: not stop.is_set(), itertools.cycle(contents)):
            client.upload(dataset, "/x.bin", content, mode="overwrite")

    thread = threading.Thread(target=overwrite)
    thread.start()
    try:
        for _ in range(300):
            assert client.stream(item) in contents
    finally:
        stop.set()
        thread.join()

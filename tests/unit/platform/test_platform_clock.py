"""Cron triggers and the clock: on time, at once when it is moved, and once for all that was missed."""

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from platform_client import Client, Refused

import alhelpers.platform
from alhelpers.platform.clock import Alarm, Clock
from alhelpers.platform.errors import ApiError

MONDAY = datetime(2026, 1, 5, 8, 30, tzinfo=UTC)


def standing(time):
    return Clock(lambda: time)


def test_a_clock_moves_ahead_only():
    clock = standing(MONDAY)
    assert clock.advance(90.5) == MONDAY + timedelta(seconds=90.5) == clock.now()
    for seconds in (-1, None, "1", True, float("nan"), float("inf")):
        with pytest.raises(ApiError, match="moves ahead by a number of seconds"):
            clock.advance(seconds)
    assert clock.now() == MONDAY + timedelta(seconds=90.5)


def test_an_alarm_rings_in_time_or_when_it_is_rung():
    async def main():
        alarm = Alarm(standing(MONDAY))
        await asyncio.wait_for(alarm.wait(MONDAY - timedelta(hours=1)), 5)
        alarm.ring()
        await asyncio.wait_for(alarm.wait(None), 5)
        await asyncio.wait_for(alarm.wait(MONDAY + timedelta(seconds=0.05)), 5)

    asyncio.run(main())


def installed(client, cron="0 9 * * 1"):
    """Install a pipeline whose only node does nothing but is started by the clock."""
    node = {"id": "n", "name": "n", "type": "updateVariable", "inputs": [], "outputs": []}
    start = {"nodeId": "n", "type": "root", "trigger": {"type": "Cron", "spec": {"cron": cron}}}
    body = {"name": "p", "projectId": client.project()["id"], "nodes": [node], "startNodes": [start]}
    pipeline = client.send("POST", "/pipelines", body)["id"]
    client.send("POST", f"/pipelines/{pipeline}/install", {})
    return pipeline


def cycles(client):
    body = {"resource": "pipelineState", "filter": {}}
    return client.send("POST", "/pipelines/query", body)["totalItemsCount"]


def test_what_is_missed_while_nothing_runs_fires_once(tmp_path):
    with alhelpers.platform.start(tmp_path, clock=standing(MONDAY)) as platform:
        client = Client(platform.url, platform.token)
        installed(client)
        assert cycles(client) == 0
        platform.advance_clock(29 * 60)
        assert cycles(client) == 0
        assert platform.advance_clock(60) == "2026-01-05T09:00:00+00:00"
        assert cycles(client) == 1
    three_weeks_later = MONDAY + timedelta(days=21, hours=1)
    with alhelpers.platform.start(tmp_path, clock=standing(three_weeks_later)) as platform:
        client = Client(platform.url, platform.token)
        # The server fires on its own thread after it has begun to serve; moving the clock by nothing waits for that.
        platform.advance_clock(0)
        assert cycles(client) == 2
        platform.advance_clock(3600)
        assert cycles(client) == 2
        platform.advance_clock(6 * 24 * 3600)
        assert cycles(client) == 2
        platform.advance_clock(24 * 3600)
        assert cycles(client) == 3


def test_one_bad_trigger_harms_only_itself(tmp_path, caplog):
    with alhelpers.platform.start(tmp_path, clock=standing(MONDAY)) as platform:
        client = Client(platform.url, platform.token)
        pipeline = installed(client, "0 * * * *")
        first, *_ = client.send("POST", "/query/faas", {"resource": "triggers", "filter": {}})["items"]
        body = {
            "projectId": first["projectId"],
            "name": "x",
            "type": "Cron",
            "spec": first["spec"] | {"input": [1]},
        }
        with pytest.raises(Refused, match="'input' is an object"):
            client.send("POST", "/triggers", body)
        spec = first["spec"] | {"operation": {"type": "pipeline", "id": pipeline, "nodeId": "n"}}
        for name in ("bad-1", "bad-2"):
            client.send("POST", "/triggers", body | {"name": name, "spec": spec | {"input": {}}})
    database = sqlite3.connect(tmp_path / "platform.sqlite")
    with database:  # as an earlier version stored it
        database.execute(
            "UPDATE documents SET doc = replace(doc, '\"input\":{}', '\"input\":[1]') WHERE name LIKE 'bad%'"
        )
    database.close()
    with alhelpers.platform.start(tmp_path, clock=standing(MONDAY)) as platform:
        client = Client(platform.url, platform.token)
        for hour in (1, 2):
            platform.advance_clock(3600)
            assert cycles(client) == hour
    assert caplog.text.count("the cron trigger") >= 4


def test_the_clock_stops_before_the_last_year():
    clock = standing(MONDAY)
    with pytest.raises(ApiError, match="beyond the year 9000"):
        for _ in range(30):
            clock.advance(9.9e9)
    assert clock.now().year < 9001


def test_the_real_clock_needs_no_push(tmp_path):
    begun = datetime.now(UTC)
    # One second before a full hour, and it runs.
    clock = Clock(lambda: MONDAY + timedelta(minutes=29, seconds=59) + (datetime.now(UTC) - begun))
    with alhelpers.platform.start(tmp_path, clock=clock) as platform:
        client = Client(platform.url, platform.token)
        installed(client)
        deadline = datetime.now(UTC) + timedelta(seconds=20)
        while not cycles(client):
            assert datetime.now(UTC) < deadline
        assert cycles(client) == 1

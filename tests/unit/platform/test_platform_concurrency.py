"""Sixteen processes read and write the same things at once: nothing is lost, nothing is locked, all of them finish."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from platform_client import Client
from platform_load import find

import alhelpers.platform

PLAIN, SDK = 14, 2
ROUNDS, SDK_ROUNDS = 8, 4
LOAD = Path(__file__).with_name("platform_load.py")


@pytest.fixture(scope="module")
def platform():
    with alhelpers.platform.start() as platform:
        yield platform


def test_sixteen_processes_at_once(platform):
    client = Client(platform.url, platform.token)
    dataset = client.dataset("shared")
    project = dataset["projects"][0]
    model = client.send("POST", "/ml/models", {"name": "m", "projectId": project})["id"]
    for number in range(3):
        client.upload(dataset["id"], f"/shared/{number}.bin", b"x")
    clients = [(f"plain{number}", ROUNDS, "plain") for number in range(PLAIN)]
    clients += [(f"sdk{number}", SDK_ROUNDS, "sdk") for number in range(SDK)]
    fixed = [sys.executable, str(LOAD), platform.url, platform.token, dataset["id"], model, project]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    commands = [[*fixed, name, str(rounds), kind] for name, rounds, kind in clients]
    processes = [subprocess.Popen(command, **pipes) for command in commands]
    won = 0
    for process in processes:
        output, errors = process.communicate(timeout=120)  # a deadlock ends here
        assert process.returncode == 0, errors
        won += json.loads(output.splitlines()[-1])["won"]

    # Of all that wanted a name, one got it.
    assert won == ROUNDS
    # Every client's keys are in the items that all of them changed.
    shared = [find(client, dataset["id"], f"/shared/{number}.bin") for number in range(3)]
    users = [found["metadata"]["user"] for found in shared]
    for name, rounds, _ in clients:
        for number in range(rounds):
            assert users[number % 3][f"{name}-{number}"] == number
    for user in users:
        assert all(user[f"bulk-plain{number}"] == ROUNDS - 1 for number in range(PLAIN))
    # What each of them added adds up.
    annotations = sum(found["annotationsCount"] for found in shared)
    assert annotations == PLAIN * ROUNDS + SDK * SDK_ROUNDS
    metrics = client.send("POST", "/ml/metrics/query", {"filter": {"modelId": model}, "pageSize": 0})
    assert metrics["totalItemsCount"] == PLAIN * ROUNDS * 3
    kept = PLAIN * (ROUNDS - len(range(0, ROUNDS, 3))) + SDK * SDK_ROUNDS
    query = {"filter": {"filename": "/deep/**", "type": "file"}, "pageSize": 0}
    assert client.send("POST", f"/datasets/{dataset['id']}/query", query)["totalItemsCount"] == kept
    # Directories that all of them needed were made once.
    query = {"filter": {"type": "dir"}, "pageSize": 1000}
    found = client.send("POST", f"/datasets/{dataset['id']}/query", query)["items"]
    directories = [each["filename"] for each in found]
    expected = {"/shared", "/deep"} | {f"/deep/{number}" for number in range(4)}
    assert len(directories) == len(set(directories)) and expected <= set(directories)

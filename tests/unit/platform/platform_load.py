"""Many clients that work on the same things at once, each a process of its own that runs this file.

``python platform_load.py URL TOKEN DATASET MODEL PROJECT NAME ROUNDS plain|sdk``: the plain ones speak HTTP with the
standard library, the others are the SDK.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from platform_client import Client, Refused


def plain(client, dataset, model, project, name, rounds):
    shared = [f"/shared/{number}.bin" for number in range(3)]
    ids = [find(client, dataset, path)["id"] for path in shared]
    won = 0
    for number in range(rounds):
        item = ids[number % len(ids)]
        client.send("PATCH", f"/items/{item}", {"metadata": {"user": {f"{name}-{number}": number}}})
        client.send("POST", f"/items/{item}/annotations", [{"type": "class", "label": name}])
        content = f"{name} {number}".encode()
        mine = client.upload(dataset, f"/deep/{number % 4}/er/{name}-{number}.bin", content)
        assert client.stream(mine["id"]) == content
        change = {"filter": {"filename": "/shared/**", "type": "file"}, "resource": "items"}
        change["update"] = {"metadata": {"user": {f"bulk-{name}": number}}}
        assert client.send("POST", f"/datasets/{dataset}/query", change)["updatedCount"] == 3
        query = {"filter": {f"metadata.user.{name}-{number}": number}}
        found = client.send("POST", f"/datasets/{dataset}/query", query)
        assert [each["id"] for each in found["items"]] == [item]
        sample = {"modelId": model, "figure": "f", "legend": name, "data": {"x": number, "y": 0}}
        client.send("POST", "/ml/metrics/publish", [sample] * 3)
        won += made(client, project, f"race-{number}")
        if number % 3 == 0:
            client.send("DELETE", f"/items/{mine['id']}")
    return {"won": won}


def made(client, project, name):
    """Say whether this client was the one that made a dataset with a name that all of them want."""
    try:
        client.send("POST", "/datasets", {"name": name, "projects": [project]})
    except Refused as error:
        assert error.status == 400 and name in str(error)
        return 0
    return 1


def find(client, dataset, path):
    return client.send("POST", f"/datasets/{dataset}/query", {"filter": {"filename": path}})["items"][0]


def sdk(url, token, dataset_id, name, rounds):
    folder = Path(tempfile.mkdtemp())
    os.environ["DATALOOP_PATH"] = str(folder)
    environment = f"{url}/api/v1"
    login = {"alias": "local", "token": token, "gate_url": url, "url": f"{environment}/", "verify_ssl": True}
    content = {"url": environment, "login_parameters": {environment: login}}
    (folder / "cookie.json").write_text(json.dumps(content))
    import dtlpy

    dataset = dtlpy.datasets.get(dataset_id=dataset_id)
    for number in range(rounds):
        item = dataset.items.get(filepath=f"/shared/{number % 3}.bin")
        item.metadata.setdefault("user", {})[f"{name}-{number}"] = number
        item.update()
        item.annotations.upload([{"type": "class", "label": name}])
        file = folder / f"{name}-{number}.txt"
        file.write_text(name)
        dataset.items.upload(local_path=str(file), remote_path=f"/deep/{number % 4}/er", raise_on_error=True)
        assert dataset.items.list(filters=dtlpy.Filters(field="name", values=file.name)).items_count == 1
    return {"won": 0}


def at_once(platform, plain, sdk, dataset_name="shared", rounds=8, sdk_rounds=4):
    """Let this many processes work on the same things, and check that nothing that one of them did is lost."""
    client = Client(platform.url, platform.token)
    dataset = client.dataset(dataset_name)
    project = dataset["projects"][0]
    model = client.send("POST", "/ml/models", {"name": "m", "projectId": project})["id"]
    for number in range(3):
        client.upload(dataset["id"], f"/shared/{number}.bin", b"x")
    clients = [(f"plain{number}", rounds, "plain") for number in range(plain)]
    clients += [(f"sdk{number}", sdk_rounds, "sdk") for number in range(sdk)]
    fixed = [sys.executable, __file__, platform.url, platform.token, dataset["id"], model, project]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    commands = [[*fixed, name, str(count), kind] for name, count, kind in clients]
    processes = [subprocess.Popen(command, **pipes) for command in commands]
    won = 0
    for process in processes:
        output, errors = process.communicate(timeout=120)  # a deadlock ends here
        assert process.returncode == 0, errors
        won += json.loads(output.splitlines()[-1])["won"]

    # Of all that wanted a name, one got it.
    assert won == rounds
    # Every client's keys are in the items that all of them changed.
    shared = [find(client, dataset["id"], f"/shared/{number}.bin") for number in range(3)]
    users = [found["metadata"]["user"] for found in shared]
    for name, count, _ in clients:
        for number in range(count):
            assert users[number % 3][f"{name}-{number}"] == number
    for user in users:
        assert all(user[f"bulk-plain{number}"] == rounds - 1 for number in range(plain))
    # What each of them added adds up.
    annotations = sum(found["annotationsCount"] for found in shared)
    assert annotations == plain * rounds + sdk * sdk_rounds
    metrics = client.send("POST", "/ml/metrics/query", {"filter": {"modelId": model}, "pageSize": 0})
    assert metrics["totalItemsCount"] == plain * rounds * 3
    kept = plain * (rounds - len(range(0, rounds, 3))) + sdk * sdk_rounds
    query = {"filter": {"filename": "/deep/**", "type": "file"}, "pageSize": 0}
    assert client.send("POST", f"/datasets/{dataset['id']}/query", query)["totalItemsCount"] == kept
    # Directories that all of them needed were made once.
    query = {"filter": {"type": "dir"}, "pageSize": 1000}
    found = client.send("POST", f"/datasets/{dataset['id']}/query", query)["items"]
    directories = [each["filename"] for each in found]
    expected = {"/shared", "/deep"} | {f"/deep/{number}" for number in range(4)}
    assert len(directories) == len(set(directories)) and expected <= set(directories)


def main():
    url, token, dataset, model, project, name, rounds, kind = sys.argv[1:]
    if kind == "sdk":
        result = sdk(url, token, dataset, name, int(rounds))
    else:
        result = plain(Client(url, token), dataset, model, project, name, int(rounds))
    print(json.dumps(result))


if __name__ == "__main__":
    main()

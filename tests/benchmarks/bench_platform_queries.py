"""A selective query over 100,000 items: the platform against a plain Python scan of parsed documents, and mongomock.

The limits: a filter on tags and metadata that 1 % of the items match is answered over HTTP at least 3.8 times faster
than a hand-written predicate over documents that are parsed already, and 26 times faster than by mongomock; with the
same matches, four times as many items cost at most twice as much. The first two are what was reached on the processor
on which plain Python is fastest, divided by 1.1; on a slower one they were above 5 and 50.
"""

import http.client
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import mongomock
from measuring import Report, interleaved

import alhelpers.platform
from alhelpers.platform.store import Store

FASTER_THAN_SCAN, FASTER_THAN_MONGOMOCK = 3.8, 26
GROWTH = 2.0
SIZES = (25_000, 50_000, 100_000)
MATCHES = (100, 1_000, 10_000)
FIXED = 250
TIME = "2026-01-01T00:00:00.000Z"


def documents(store: Store, dataset: str, number: int) -> list[dict[str, Any]]:
    """Make items as an upload of images leaves them, with tags and metadata."""
    chance = random.Random(0)
    made = []
    for place in range(number):
        name = f"{place:06}.png"
        tags = {"rare": True} if place % 10 == 0 else {chance.choice(["train", "validation", "test"]): True}
        tags |= {f"of{FIXED}": True} if place < FIXED else {}
        tags |= {f"of{matches}": True for matches in MATCHES if place < matches}
        system = {"tags": tags, "size": 1000 + place % 500, "mimetype": "image/png", "originalname": name}
        user = {
            "batch": place // 10 % 10,
            "score": chance.random(),
            "camera": f"camera-{chance.randrange(20)}",
        }
        made.append(
            {
                **{"id": store.new_id(), "datasetId": dataset, "filename": f"/{place % 50}/{name}"},
                **{"dir": f"/{place % 50}", "name": name, "hidden": False, "type": "file"},
                **{"annotated": False, "annotationsCount": 0, "creator": "me", "updatedBy": "me"},
                **{"createdAt": TIME, "updatedAt": TIME},
                "metadata": {"user": user, "system": system | {"width": 28, "height": 28, "channels": 1}},
            }
        )
    return made


def wanted(document: dict[str, Any]) -> bool:
    """Say what the query asks, by hand."""
    metadata = document["metadata"]
    return (
        not document["hidden"]
        and document["type"] == "file"
        and metadata["system"]["tags"].get("rare") is True
        and metadata["user"].get("batch") == 3
    )


def query(*conditions: dict[str, Any]) -> dict[str, Any]:
    """Write a query as the SDK sends it."""
    return {
        "filter": {"$and": [{"hidden": False}, {"type": "file"}, *conditions]},
        "page": 0,
        "pageSize": 100,
    }


class Caller:
    """Sends queries over one connection."""

    def __init__(self, platform: alhelpers.platform.Platform) -> None:
        self.connection = http.client.HTTPConnection(platform.url.removeprefix("http://"))
        self.headers = {"Authorization": f"Bearer {platform.token}", "Content-Type": "application/json"}

    def __call__(self, dataset: str, body: dict[str, Any]) -> dict[str, Any]:
        self.connection.request("POST", f"/api/v1/datasets/{dataset}/query", json.dumps(body), self.headers)
        return json.loads(self.connection.getresponse().read())


def main() -> int:
    """Print the times and ratios; return 1 if a limit is broken."""
    with tempfile.TemporaryDirectory() as folder:
        parsed, datasets = fill(Path(folder))
        # A process of its own, as notebooks have it: here it would share an interpreter with its rivals.
        with alhelpers.platform.ensure(folder) as platform:
            ask = Caller(platform)
            report = Report(__file__)
            compare(report, ask, datasets[SIZES[-1]], parsed)
            grow(report, ask, datasets)
    return report.code()


def fill(folder: Path) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """Write datasets of all sizes; return the largest one's documents, and the id of each."""
    store, datasets, made = Store(folder), {}, []
    for size in SIZES:
        with store.transaction():
            datasets[size] = store.new_id()
            store.put(
                "datasets",
                {"id": datasets[size], "name": str(size), "projects": ["p"], "metadata": {"system": {}}},
            )
            made = documents(store, datasets[size], size)
            started = time.perf_counter()
            store.put_all("items", made)
            each = 1e6 * (time.perf_counter() - started) / size
        print(f"wrote {size} items in bulk, {each:.0f} us each")
    store.close()
    return [json.loads(json.dumps(document)) for document in made], datasets


def compare(report: Report, ask: Caller, dataset: str, parsed: list[dict[str, Any]]) -> None:
    """Compare the platform with the others."""
    body = query({"metadata.system.tags.rare": True}, {"metadata.user.batch": 3})
    collection = mongomock.MongoClient().db.items
    collection.insert_many([document | {"_id": document["id"]} for document in parsed])
    flat = {key: value for part in body["filter"]["$and"] for key, value in part.items()}
    matches = [document["id"] for document in parsed if wanted(document)]
    assert len(matches) == len(parsed) // 100
    # All give the same answer: how many there are, and which; the platform shows the newest hundred.
    answer = ask(dataset, body)
    assert answer["totalItemsCount"] == len(matches)
    assert [item["id"] for item in answer["items"]] == matches[:-101:-1]
    assert [item["id"] for item in collection.find(flat)] == matches
    times = interleaved(
        {
            "platform, over HTTP": lambda: ask(dataset, body),
            "plain Python scan": lambda: [document for document in parsed if wanted(document)],
            "mongomock": lambda: list(collection.find(flat)),
        },
        rounds=5,
        clock=time.perf_counter,
    )
    for name, value in times.items():
        print(f"1 % of {len(parsed)} items: {name:<20} {1000 * value:9.1f} ms")
    ours = times["platform, over HTTP"]
    report.at_least(
        "a selective query, over a plain Python scan", times["plain Python scan"] / ours, FASTER_THAN_SCAN
    )
    report.at_least("a selective query, over mongomock", times["mongomock"] / ours, FASTER_THAN_MONGOMOCK)


def grow(report: Report, ask: Caller, datasets: dict[int, str]) -> None:
    """Show that the cost follows the matches, not the items."""
    fixed = query({f"metadata.system.tags.of{FIXED}": True}, {"metadata.user.score": {"$gt": 0.5}})
    by_size = interleaved(
        {f"{size} items": lambda size=size: ask(datasets[size], fixed) for size in SIZES},
        rounds=15,
        clock=time.perf_counter,
    )
    by_matches = interleaved(
        {
            f"{matches} matches": lambda matches=matches: ask(
                datasets[SIZES[-1]], query({f"metadata.system.tags.of{matches}": True})
            )
            for matches in MATCHES
        },
        rounds=7,
        clock=time.perf_counter,
    )
    for name, value in (by_size | by_matches).items():
        of = f"{FIXED} tagged" if name in by_size else f"{SIZES[-1]} items"
        print(f"{of:<13} {name:<15} {1000 * value:9.1f} ms")
    values = list(by_size.values())
    report.at_most(f"{SIZES[-1] // SIZES[0]} times the items, time", values[-1] / values[0], GROWTH, "x")


if __name__ == "__main__":
    raise SystemExit(main())

"""The page of a dataset of 100,000 labelled items: from the request to the whole HTML, over a connection that is open.

The first view comes right after the server's start; then the newest page, one in the middle, and filters that half of
the items match. The floor is a page without anything to look up: the log-in form.
"""

import http.client
import sys
import tempfile
import time
from pathlib import Path

from bench_platform_queries import TIME, documents
from measuring import Report, interleaved

from alhelpers import platform
from alhelpers.platform.store import Store

ITEMS, LIMIT = 100_000, 0.3


def fill(folder: Path) -> str:
    """Write a dataset of items with one label each; return its id."""
    store = Store(folder)
    with store.transaction():
        project, dataset = {"id": store.new_id(), "name": "p"}, store.new_id()
        store.put("projects", project | {"createdAt": TIME})
        about = {"name": "large", "projects": [project["id"]], "createdAt": TIME, "metadata": {"system": {}}}
        store.put("datasets", {"id": dataset} | about)
        items = documents(store, dataset, ITEMS)
        store.put_all("items", items)
        common = {"datasetId": dataset, "type": "class", "metadata": {"system": {}}}
        labels = ("cat", "dog")
        made = ({"id": store.new_id(), "itemId": item["id"]} for item in items)
        store.put_all("annotations", (new | common | {"label": labels[n % 2]} for n, new in enumerate(made)))
    store.close()
    return dataset


def main() -> int:
    """Print the seconds of each view; return 1 if a limit is broken."""
    report = Report(__file__)
    with tempfile.TemporaryDirectory() as folder:
        dataset = fill(Path(folder))
        with platform.ensure(folder) as server:
            connection = http.client.HTTPConnection(server.url.removeprefix("http://"))

            def view(path: str) -> None:
                connection.request("GET", path, headers={"Authorization": f"Bearer {server.token}"})
                answer = connection.getresponse()
                assert answer.status == 200 and answer.read()

            begun = time.perf_counter()
            view(f"/datasets/{dataset}")
            first = time.perf_counter() - begun
            queries = {"newest": "", "middle": "?page=1000", "by tag": "?tag=train", "by label": "?label=dog"}
            views = {
                name: lambda query=query: view(f"/datasets/{dataset}{query}")
                for name, query in queries.items()
            }
            times = interleaved(views | {"log-in": lambda: view("/login")}, clock=time.perf_counter)
    floor = {"floor": times.pop("log-in"), "why": "the log-in form"}
    for name, seconds in ({"first": first} | times).items():
        report.at_most(f"page of a dataset of {ITEMS} items, {name}", seconds, LIMIT, **floor)
    return report.code()


if __name__ == "__main__":
    sys.exit(main())

"""What a call of the SDK costs in a Jupyter kernel, with and without the walk over the call stack that connect() skips.

The floor is a GET of the same item from the platform over a connection that is open: the SDK opens one for each call.
"""

import json
import sys
import tempfile

from jupyter_client.manager import start_new_kernel
from measuring import Report

LIMIT_MS = 2.0
CODE = """
import http.client, inspect, json, statistics, time
from types import SimpleNamespace
from alhelpers import data, notebook
dl = notebook.connect(project="bench", state_dir=STATE)
import tempfile
pool, _ = data.load("digits")
dataset = dl.projects.get(project_name="bench").datasets.create("bench")
with tempfile.TemporaryDirectory() as folder:
    data.write_folder(pool.part(20), folder, labelled=False)
    dataset.items.upload(local_path=folder + "/items/*", raise_on_error=True)
ids = [item.id for item in dataset.items.list().all()]
namespace = type(dl.client_api).token_expired.__globals__
variants = {"as the SDK is": inspect, "with connect()": namespace["inspect"]}
times = {name: [] for name in (*variants, "GET")}
root = dl.client_api.environment
connection = http.client.HTTPConnection(root.split("/")[2])
headers = {"Authorization": "Bearer " + dl.client_api.token}
for item_id in ids * 5:  # interleaved, so that the machine's mood meets all alike
    started = time.perf_counter()
    connection.request("GET", "/api/v1/items/" + item_id, headers=headers)
    connection.getresponse().read()
    times["GET"].append(1000 * (time.perf_counter() - started))
    for name, module in variants.items():
        namespace["inspect"] = module
        started = time.perf_counter()
        dataset.items.get(item_id=item_id)
        times[name].append(1000 * (time.perf_counter() - started))
print(json.dumps({name: statistics.median(values) for name, values in times.items()}))
"""


def measure() -> dict[str, float]:
    """Return the median milliseconds of an ``items.get`` in a kernel, by variant."""
    manager, client = start_new_kernel(kernel_name="python3")
    printed = []
    try:
        with tempfile.TemporaryDirectory() as state:
            reply = client.execute_interactive(
                CODE.replace("STATE", repr(state)),
                output_hook=lambda message: printed.append(message["content"].get("text", "")),
                timeout=300,
            )
            if reply["content"]["status"] != "ok":
                raise RuntimeError("\n".join(reply["content"]["traceback"]))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return json.loads("".join(printed).strip().splitlines()[-1])


def main() -> int:
    """Print the medians, and whether the limit holds; return 1 if it does not."""
    report, medians = Report(__file__), measure()
    print(f"items.get in Jupyter, as the SDK is: {medians['as the SDK is']:.1f} ms")
    floor = {"floor": medians["GET"], "why": "a GET over an open connection"}
    report.at_most("an SDK call in Jupyter", medians["with connect()"], LIMIT_MS, " ms", **floor)
    return report.code()


if __name__ == "__main__":
    sys.exit(main())

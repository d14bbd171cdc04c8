"""Twenty settings of a typical notebook: a sweep with two workers against calls of papermill, one after another.

The notebook does what those of the kit do: it imports torch, scikit-learn and the kit, trains a small network on
digits, mines by its doubts, draws and records. The calls of papermill are fewer, and their time is scaled to
twenty; a sweep is whole. Both run in turn in this benchmark, in wall time, which is what a reader waits; processor
time is printed beside it, as other work on the machine changes it less. Limit: eight times, by wall time.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from alhelpers import runs
from alhelpers.runs.notebooks import nbformat

SETTINGS, CALLS, WORKERS, LIMIT = 20, 3, 2, 8.0

PARAMETERS = """seed: int = 0  # draws the labels and the weights
strategy: str = "margin"  # how to mine
labels: int = 60  # labels bought at the start
"""

CELLS = [
    "import numpy as np\nimport pandas as pd\nimport torch\nfrom matplotlib import pyplot as plt\n"
    "from sklearn.decomposition import PCA\nfrom sklearn.linear_model import LogisticRegression",
    "from alhelpers import data, learners, mining, notebook, records",
    "notebook.check_parameters()\npool, test = data.load('digits', seed=seed)\n"
    "chosen = np.random.default_rng(seed).choice(len(pool), labels, replace=False)",
    "flat = pool.images.reshape(len(pool), -1) / 255\nplaces = PCA(2, random_state=0).fit_transform(flat)\n"
    "simple = LogisticRegression(max_iter=200).fit(flat[chosen], pool.labels()[chosen])\n"
    "print(simple.score(flat, pool.labels()))",
    "network = learners.build_network(pool.images.shape[1], len(pool.class_names), seed=seed)\n"
    "learner = learners.TorchClassifier(network, steps=60)\nlearner.fit(pool.take(chosen), seed=seed)",
    "prediction = learner.predict(test)\n"
    "accuracy = float((prediction.confidences.argmax(1) == test.labels()).mean())",
    "rest = np.setdiff1d(np.arange(len(pool)), chosen)\n"
    "doubts = learner.predict(pool.take(rest), embeddings=True)\n"
    "table = records.from_arrays(rest, confidences=doubts.confidences, embeddings=doubts.embeddings)\n"
    "picks = mining.mine(table, strategy, 20, seed=seed)\npd.Series(picks.scores).describe()",
    "figure, axis = plt.subplots(figsize=(4, 3), layout='constrained')\n"
    "axis.scatter(*places.T, s=4, c=pool.labels())\naxis.scatter(*places[list(picks.ids)].T, s=20, c='black')\n"
    "notebook.show(figure, alt='dots', caption='the picks in black')",
    "notebook.record('accuracy', accuracy)\nnotebook.record('classes', len(set(pool.labels()[list(picks.ids)])))",
]


def write_notebook(path: Path) -> None:
    """Write the notebook that both run."""
    new = nbformat.v4
    cells = [new.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}), *map(new.new_code_cell, CELLS)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new.new_notebook(cells=cells, metadata=kernel), path)


def measured(run: Callable[[], None]) -> tuple[float, float]:
    """Return wall and processor seconds, those of child processes included."""
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - started, used


def call_papermill(notebook: Path, folder: Path, settings: list[dict[str, object]]) -> None:
    """Run the command line of papermill once for each setting."""
    for number, setting in enumerate(settings):
        options = [word for name, value in setting.items() for word in ("-p", name, str(value))]
        subprocess.run(
            [
                sys.executable,
                "-m",
                "papermill",
                notebook,
                folder / f"{number}.ipynb",
                "-k",
                "python3",
                *options,
            ],
            check=True,
            stderr=subprocess.DEVNULL,
        )


def main() -> int:
    """Print the times and the ratio; return 1 if the limit is broken or a recorded value differs."""
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    strategies = ["margin", "entropy", "random", "coreset"]
    grid = {"strategy": strategies, "seed": list(range(SETTINGS // len(strategies)))}
    settings = [{"strategy": name, "seed": 0} for name in strategies][:CALLS]
    with tempfile.TemporaryDirectory() as temporary:
        folder, tables = Path(temporary), []
        notebook = folder / "typical.ipynb"
        write_notebook(notebook)
        theirs, their_cpu = measured(lambda: call_papermill(notebook, folder, settings))
        ours, our_cpu = measured(
            lambda: tables.append(runs.sweep(notebook, grid, folder / "sweep", WORKERS, say=lambda _: None))
        )
        (table,) = tables
        values = table.set_index(["strategy", "seed"])
        same = all(
            runs.recorded(folder / f"{number}.ipynb")
            == {name: values.loc[tuple(setting.values()), name] for name in ("accuracy", "classes")}
            for number, setting in enumerate(settings)
        )
    scale = SETTINGS / CALLS
    done = int((table["run.state"] == "done").sum())
    print(
        f"papermill, command line: {CALLS} calls {theirs:.1f} s; {SETTINGS} calls would take {theirs * scale:.0f} s"
    )
    print(f"sweep, {WORKERS} workers: {SETTINGS} settings {ours:.1f} s, {done} done")
    ratio, cpu_ratio = theirs * scale / ours, their_cpu * scale / our_cpu
    held = ratio >= LIMIT
    print(f"    {ratio:.1f}x faster; the limit of {LIMIT:g}x is {'held' if held else 'BROKEN'}")
    print(f"    processor time: {their_cpu * scale:.0f} s against {our_cpu:.0f} s, {cpu_ratio:.1f}x")
    print(f"    recorded values are {'the same' if same else 'NOT the same'} as papermill's")
    return 0 if held and same and done == SETTINGS else 1


if __name__ == "__main__":
    raise SystemExit(main())

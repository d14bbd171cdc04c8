"""Write docs/methods.md: the strategies with what each answers, needs and costs, and where it fails.

    python docs/write_methods.py

Names, fields, failures and texts are those of the code; the columns of ``ROWS`` are written by hand.
"""

import inspect
import re
from pathlib import Path
from typing import NamedTuple

from alhelpers import mining
from alhelpers.mining._registry import STRATEGIES

PAGE = Path(__file__).with_name("methods.md")

LEWIS = "[Lewis and Gale 1994](https://arxiv.org/abs/cmp-lg/9407020)"
SETTLES = "[Settles 2009](https://burrsettles.com/pub/settles.activelearning.pdf)"
LOF = "[Breunig et al. 2000](https://doi.org/10.1145/342009.335388)"


class Row(NamedTuple):
    """What is written by hand of a strategy; ``milliseconds`` are what tests/benchmarks/bench_mining.py prints."""

    answers: str
    cost: str
    milliseconds: str
    source: str


ROWS = {
    "confidence": Row("chance spends labels on what the model knows already", "N C", "1", LEWIS),
    "margin": Row(
        "a low confidence does not say whether one other class competes, or all do",
        "N C",
        "1",
        "[Scheffer et al. 2001](https://doi.org/10.1007/3-540-44816-0_31)",
    ),
    "entropy": Row("margin sees the first two classes only", "N C", "2", SETTLES),
    "weighted_entropy": Row("rare classes stay rare among the picks", "N C", "4", "of the kit"),
    "query_by_committee": Row(
        "one model may be certain and wrong; others of its kind then disagree",
        "N K C, and K trainings",
        "10",
        "[Seung et al. 1992](https://doi.org/10.1145/130385.130417)",
    ),
    "mc_dropout": Row(
        "a committee costs K trainings; dropout makes many models of one",
        "N T C, and T predictions",
        "7",
        "[Gal et al. 2017](https://arxiv.org/abs/1703.02910)",
    ),
    "embedding_distance": Row(
        "uncertainty stays near the boundary that the model knows",
        "N M D",
        "90",
        "Hu et al. 2010",
    ),
    "nearest_neighbors": Row(
        "a rare class that is never predicted is never uncertain either",
        "N M D",
        "100",
        "[Coleman et al. 2022](https://arxiv.org/abs/2007.00077)",
    ),
    "novelty": Row("a distance takes every thin region for a new one", "(N + M) M D", "270", LOF),
    "outlier": Row("novelty needs labelled records", "N² D", "2000", LOF),
    "activation": Row(
        "confidences sum to 1, also for an image of no class at all",
        "N D or N C",
        "5",
        "[Dhamija et al. 2018](https://arxiv.org/abs/1811.04110), [Liu et al. 2020](https://arxiv.org/abs/2010.03759)",
    ),
    "coreset": Row(
        "the best single records are often one record many times",
        "N B D, and N M D",
        "130",
        "[Sener and Savarese 2018](https://arxiv.org/abs/1708.00489)",
    ),
    "badge": Row(
        "coreset covers the pool wherever the model is certain, too",
        "N B (C + D)",
        "270",
        "[Ash et al. 2020](https://arxiv.org/abs/1906.03671)",
    ),
    "typicality": Row(
        "with hardly any labels, uncertainty means nothing",
        "N (B + M) D, by k-means",
        "1700",
        "[Hacohen et al. 2022](https://arxiv.org/abs/2202.02794)",
    ),
    "random": Row("nothing: it measures what the others are worth", "N", "3", ""),
}

HEAD = """# Methods

Each strategy answers a weakness of another; read the table downwards. Begin with `margin`, or with `typicality`
while there are hardly any labels, and always run `random` beside it.
[6. Mine the pool](../notebooks/06_mine_pool.ipynb) shows what each picks, and
[11. Compare strategies](../notebooks/11_compare_strategies.ipynb) measures them. `mining.combine` puts them behind or
beside each other.

This page is generated from the code by `python docs/write_methods.py`.

| strategy | answers this weakness | needs | costs | fails | source |
|---|---|---|---|---|---|
"""

NOTES = """
*Needs*: fields of the [records](glossary.md#record); one of those that "or" connects is enough. *Costs*: what the time
grows with, of N records in the pool, M in the [reference](glossary.md#reference), C classes, T
[passes](glossary.md#pass), K [members](glossary.md#member), D numbers in an [embedding](glossary.md#embedding) and B
picks; and the milliseconds of one core for 100 picks out of N = 20,000 with M = 1,000, C = T = K = 10 and D = 64, as
`python tests/benchmarks/bench_mining.py` prints them, without training and predicting.
"""


def needs(name: str) -> str:
    """Return the fields that a strategy needs, in words."""
    entry = mining.strategies()[name]
    fields = [
        " or ".join(f"`{field}`" for field in need if not field.startswith("detections."))
        for need in entry["fields"]
    ]
    if any(field.startswith("detections.") for need in entry["fields"] for field in need):
        fields[0] += ", or `detections` with it"
    if entry["reference"] != "none":
        fields.append("a reference" if entry["reference"] == "required" else "a reference if there is one")
    return "; ".join(fields) or "ids"


def text_of(name: str) -> str:
    """Return the docstring of a strategy as Markdown."""
    return inspect.getdoc(STRATEGIES[name].run).replace("``", "`")


def fails(name: str) -> str:
    """Return when a strategy fails, as its docstring says it."""
    text = " ".join(text_of(name).split())
    found = re.search(r"It (?:fails |(?=never fails))(.+?)\.(?= [A-Z]|$)", text)
    return found[1]


def page() -> str:
    """Return the whole page."""
    rows, sections = [], []
    for name in STRATEGIES:
        answers, cost, milliseconds, source = ROWS[name]
        costs = f"{cost}; {milliseconds} ms"
        cells = [f"[{name}](#{name})", answers, needs(name), costs, fails(name), source]
        rows.append(f"| {' | '.join(cells)} |\n")
        sections.append(f"\n## {name}\n\n{text_of(name)}\n")
    return "".join([HEAD, *rows, NOTES, *sections])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

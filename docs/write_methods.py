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
    "label_uncertainty": Row(
        "confidences of labels that do not exclude each other do not sum to 1",
        "N C",
        "2",
        "[Esuli and Sebastiani 2009](https://doi.org/10.1007/978-3-642-00958-7_12)",
    ),
    "box_uncertainty": Row(
        "the confidence of a box says nothing of its place, nor whether it comes and goes",
        "N O, and T predictions",
        "8",
        "[Blok et al. 2022](https://arxiv.org/abs/2112.06586)",
    ),
    "weighted_box_uncertainty": Row(
        "doubt gathers where objects are common, and rare classes stay rare", "N O", "20", "of the kit"
    ),
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
    "spread": Row(
        "numbers have no confidence; passes and members that predict different numbers show the doubt",
        "N T O",
        "7",
        "[Gal and Ghahramani 2016](https://arxiv.org/abs/1506.02142)",
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
    "object_coreset": Row(
        "images that look alike may show different objects, and the other way round",
        "N O B D, and N O M D",
        "290",
        "[Sener and Savarese 2018](https://arxiv.org/abs/1708.00489), "
        "[Yang et al. 2024](https://arxiv.org/abs/2211.11612)",
    ),
    "badge": Row(
        "coreset covers the pool wherever the model is certain, too",
        "N B (C + D)",
        "270",
        "[Ash et al. 2020](https://arxiv.org/abs/1906.03671)",
    ),
    "typicality": Row(
        "with hardly any labels, uncertainty means nothing",
        "N (B + M) D",
        "1700",
        "[Hacohen et al. 2022](https://arxiv.org/abs/2202.02794)",
    ),
    "random": Row("nothing: it measures what the others are worth", "N", "3", ""),
}

#: What is linked to the glossary where a section first says it, with the word there if it is another one.
WORDS = {
    "ground truth": "",
    "query by committee": "",
    "near duplicates": "batch",
    "KL divergence": "",
    "local outlier factor": "novelty",
    "confidences?": "confidence",
    "passes": "pass",
    "votes?": "query by committee",
    "batche?s?": "batch",
    "drifts?": "drift",
    **{
        f"{word}s?": word
        for word in "committee embedding member outlier pool record reference score selection".split()
    },
    **dict.fromkeys("BALD cascade coreset dropout entropy hash logits margin typicality".split(), ""),
}

HEAD = """# Methods

Each strategy answers a weakness of another; read the table downwards. Begin with `margin`, or with `typicality`
while there are hardly any labels, and always run `random` beside it.
[6. Mine the pool](../notebooks/06_mine_pool.ipynb) shows what each picks, and
[11. Compare strategies](../notebooks/11_compare_strategies.ipynb) measures them. `mining.combine` puts them behind each
other, as a [cascade](glossary.md#cascade), or beside each other, or joins several goals: scores, diversity and balance
with weights, without near-duplicates. In place of a name may stand a number of the records, such as `metadata.blur`, or
a function of one's own. The words of the field are in the [glossary](glossary.md); those that it does not have are
explained below the table.

This page is generated from the code by `python docs/write_methods.py`.

| strategy | answers this weakness | needs | costs | fails | source |
|---|---|---|---|---|---|
"""

NOTES = """
*Needs*: fields of the [records](glossary.md#record); one of those that "or" connects is enough. *Costs*: what the time
grows with, of N records in the pool, M in the [reference](glossary.md#reference), C classes, T
[passes](glossary.md#pass), K [members](glossary.md#member), D numbers in an [embedding](glossary.md#embedding), O boxes
on an image and B picks; and the milliseconds of one core for 100 picks out of N = 20,000 with M = 1,000,
C = T = K = 10, D = 64 and O = 2, as `python tests/benchmarks/bench_mining.py` prints them, without training and
predicting.

More words, in the order of the sections:

- The fields `confidence`, `confidences`, `logits` and `embeddings` hold what the glossary says under these words;
  `mc_dropout` holds the confidences of the passes, `query_by_committee` those of the members, and `detections` the
  boxes on an image, each with confidences of its own, and from several passes with `class_certainty`,
  `location_certainty` and `existence_certainty`: how far the passes agree on its class and its place, and the share of
  them that found it. `groundtruth` is the label that counts as right.
- Near duplicates are records that show nearly the same, so that the label of one tells that of the others.
- The distance of two embeddings is `euclidean`, the length of the line between them, or `cosine`, 1 minus the cosine of
  the angle between them: then only the direction counts.
- The local outlier factor says how much emptier it is around a record than around its nearest neighbours.
- The energy of logits is low if any class answers strongly, and high if none does.
- k-center greedy takes at each turn the record that is farthest from all that it has. k-means divides points into k
  groups, so that each point is near the mean of its own; k-means++ is how it draws the k points that it begins with:
  each far from the others, but by chance.
- A gradient says how each weight of a network would change with one training step.
"""


def needs(name: str) -> str:
    """Return the fields that a strategy needs, in words."""
    entry = mining.strategies()[name]
    of_records = [
        [field for field in need if not field.startswith("detections.")] for need in entry["fields"]
    ]
    fields = [" or ".join(f"`{field}`" for field in need) for need in of_records if need]
    of_boxes = [need[0].removeprefix("detections.") for need in entry["fields"] if len(need) == 1]
    if entry["fields"] and not fields:
        fields = ["`detections` with " + ", ".join(f"`{field}`" for field in of_boxes)]
    elif any(field.startswith("detections.") for need in entry["fields"] for field in need):
        fields[0] += ", or `detections` with one of these"
    if entry["reference"] != "none":
        fields.append("a reference" if entry["reference"] == "required" else "a reference if there is one")
    return "; ".join(fields) or "ids"


def text_of(name: str) -> str:
    """Return the docstring of a strategy as Markdown."""
    return inspect.getdoc(STRATEGIES[name].run).replace("``", "`")


def linked(text: str) -> str:
    """Link the first occurrence of each word of the glossary, but not in code, and not in sources."""
    text, source, rest = text.partition("\nSource: ")
    pieces = re.split(r"(`[^`]*`)", text)
    for pattern, word in WORDS.items():
        anchor = (word or pattern).lower().replace(" ", "-")
        for number, piece in enumerate(pieces):
            # Neither in code nor in a link that is there already.
            found = (
                re.search(rf"(?<![\w\[#-]){pattern}(?![\w\]-])(?![^\[]*\])", piece)
                if number % 2 == 0
                else None
            )
            if found:
                link = f"[{found[0]}](glossary.md#{anchor})"
                pieces[number] = piece[: found.start()] + link + piece[found.end() :]
                break
    return "".join([*pieces, source, rest])


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
        sections.append(f"\n## {name}\n\n{linked(text_of(name))}\n")
    return "".join([HEAD, *rows, NOTES, *sections])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

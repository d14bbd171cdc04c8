"""Paired tests between strategies, corrected for the number of tests."""

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import pandas

Test = Literal["t", "wilcoxon", "permutation"]

# Sign flips of the permutation test: all of them up to 13 seeds, so many random ones beyond.
_FLIPS = 9999


@dataclass(frozen=True)
class Comparison:
    """The results of paired tests of each pair of strategies.

    Attributes
    ----------
    strategies : list of str
    wins : numpy.ndarray, shape (K, K)
        Number of tests in which the strategy of the row beats that of the column.
    tests : int
        Number of tests of each pair: one, or one at each number of labels.
    alpha : float
        A pair differs if its corrected p value is below.
    pvalues : pandas.DataFrame
        Columns first, second, labels (or "area"), difference (mean of first - second), p, corrected.
    """

    strategies: list[str]
    wins: np.ndarray
    tests: int
    alpha: float
    pvalues: "pandas.DataFrame"

    def matrix(self) -> "pandas.DataFrame":
        """Return wins / ties / losses of the row's strategy against the column's, as text."""
        import pandas

        cells = [
            [self._cell(row, column) for column in range(len(self.strategies))]
            for row in range(len(self.strategies))
        ]
        return pandas.DataFrame(cells, index=self.strategies, columns=self.strategies)

    def _cell(self, row: int, column: int) -> str:
        if row == column:
            return ""
        won, lost = self.wins[row, column], self.wins[column, row]
        if self.tests == 1:
            return "win" if won else "loss" if lost else "tie"
        return f"{won} / {self.tests - won - lost} / {lost}"

    def markdown(self) -> str:
        """Return the matrix as a table in Markdown."""
        matrix = self.matrix()
        rows = [[name, *matrix.loc[name]] for name in self.strategies]
        return markdown_table(["against", *self.strategies], rows)


def compare(values: dict[str, "pandas.DataFrame"], *, test: Test = "t", alpha: float = 0.05) -> Comparison:
    """Test each pair of strategies on the seeds that both have, with Holm's correction.

    ``values`` holds for each strategy a row a seed and a column for each quantity to test, higher is better.
    """
    import pandas

    if test not in ("t", "wilcoxon", "permutation"):
        raise ValueError(f"test is {test!r}: choose 't', 'wilcoxon' or 'permutation'")
    names, rows = list(values), []
    for first, second in itertools.combinations(names, 2):
        common = values[first].index.intersection(values[second].index)
        if len(common) < 2:
            raise ValueError(
                f"{first!r} and {second!r} share {len(common)} seeds: a paired test needs at least two"
            )
        differences = values[first].loc[common] - values[second].loc[common]
        for column in differences:
            given = differences[column].to_numpy()
            rows.append((first, second, column, given.mean(), paired_p(given, test)))
    table = pandas.DataFrame(rows, columns=["first", "second", "labels", "difference", "p"])
    table["corrected"] = holm(table.p.to_numpy())
    wins = np.zeros((len(names), len(names)), dtype=int)
    for row in table[table.corrected < alpha].itertuples():
        winner, loser = (row.first, row.second) if row.difference > 0 else (row.second, row.first)
        wins[names.index(winner), names.index(loser)] += 1
    return Comparison(names, wins, len(next(iter(values.values())).columns), alpha, table)


def paired_p(differences: np.ndarray, test: Test) -> float:
    """Return the two-sided p value of paired differences (S,) being around zero."""
    from scipy import stats

    if not differences.any():
        return 1.0
    if test == "wilcoxon":
        return float(stats.wilcoxon(differences).pvalue)
    if test == "permutation":
        options = {"permutation_type": "samples", "n_resamples": _FLIPS + 1, "rng": 0}
        return float(stats.permutation_test((differences,), np.mean, vectorized=True, **options).pvalue)
    if np.ptp(differences) == 0:  # all seeds differ by the same
        return 0.0
    return float(stats.ttest_1samp(differences, 0).pvalue)


def holm(pvalues: np.ndarray) -> np.ndarray:
    """Return p values (M,) with Holm's correction, so that alpha bounds the probability of any false win.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.
    """
    order = np.argsort(pvalues, kind="stable")
    factors = len(pvalues) - np.arange(len(pvalues))
    corrected = np.empty(len(pvalues))
    corrected[order] = np.minimum(np.maximum.accumulate(factors * pvalues[order]), 1)
    return corrected


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown; its first column is text, the others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"

"""Local outlier factor: novelty against the reference, outliers inside the pool."""

from __future__ import annotations

import numpy as np

from alhelpers.mining._neighbours import METRICS
from alhelpers.mining._selection import MiningError
from alhelpers.mining._strategy import Part, Scored, Strategy, check_choice, check_count, needs_embeddings
from alhelpers.mining.distance import check_same_size

_USUAL_NEIGHBORS = 20


def novelty(
    pool: Part,
    reference: Part,
    *,
    n_neighbors: int | None = None,
    metric: str = "euclidean",
    layer: str | None = None,
) -> Scored:
    """Mine what is new: the local outlier factor of the pool against the reference.

    Needs ``embeddings`` (N, D) in the pool and in the reference. About 1 is as dense as the neighbours are
    among themselves, more is sparser: the sign is opposite to scikit-learn's ``score_samples``.
    ``n_neighbors`` is 20 by default, or all others where the reference has fewer; ``metric`` is
    ``"euclidean"`` or ``"cosine"``. Use it to find new kinds of input as data drifts. It fails while the
    reference is too small to show a density, and with duplicates in it, next to which all else is new.

    References
    ----------
    Breunig, Kriegel, Ng and Sander, "LOF: identifying density-based local outliers", SIGMOD 2000.
    """
    # imported here: it takes a second, which other strategies need not pay
    from sklearn.neighbors import LocalOutlierFactor

    vectors, base = pool.embeddings(layer, metric), reference.embeddings(layer, metric)
    check_same_size("novelty", vectors, base)
    neighbors = _neighbors("novelty", n_neighbors, metric, len(base), "reference")
    factor = LocalOutlierFactor(n_neighbors=neighbors, metric=metric, novelty=True).fit(base)
    return Scored(-factor.score_samples(vectors).astype(np.float32), {"n_neighbors": neighbors})


def outlier(
    pool: Part,
    reference: Part | None,
    *,
    n_neighbors: int | None = None,
    metric: str = "euclidean",
    layer: str | None = None,
) -> Scored:
    """Mine what stands apart: the local outlier factor inside the pool.

    Needs ``embeddings`` (N, D). About 1 is as dense as the neighbours, more is sparser: the sign is
    opposite to scikit-learn's ``negative_outlier_factor_``. ``n_neighbors`` is 20 by default, or all others
    where there are fewer; ``metric`` is ``"euclidean"`` or ``"cosine"``. Use it to find rare cases and
    broken inputs before anything is labelled. It fails on outliers that come in groups of more than
    ``n_neighbors``, and what it finds is seldom typical of a class.

    References
    ----------
    Breunig, Kriegel, Ng and Sander, "LOF: identifying density-based local outliers", SIGMOD 2000.
    """
    # imported here: it takes a second, which other strategies need not pay
    from sklearn.neighbors import LocalOutlierFactor

    vectors = pool.embeddings(layer, metric)
    neighbors = _neighbors("outlier", n_neighbors, metric, len(vectors), "records")
    factor = LocalOutlierFactor(n_neighbors=neighbors, metric=metric).fit(vectors)
    return Scored(-factor.negative_outlier_factor_.astype(np.float32), {"n_neighbors": neighbors})


def _neighbors(strategy: str, asked: int | None, metric: str, count: int, name: str) -> int:
    """Return how many neighbours to look at; a record has ``count - 1``."""
    check_choice(strategy, "metric", metric, METRICS)
    if count < 2:
        raise MiningError(f"strategy {strategy!r} needs at least 2 records as {name}, got {count}")
    if asked is None:
        return min(_USUAL_NEIGHBORS, count - 1)
    check_count(strategy, "n_neighbors", asked)
    if asked >= count:
        raise MiningError(
            f"strategy {strategy!r}: n_neighbors={asked} needs more than {asked} records as {name}, got {count}; "
            f"take at most {count - 1}"
        )
    return int(asked)


STRATEGIES = (
    Strategy("novelty", novelty, needs_embeddings, reference="required", reference_needs=needs_embeddings),
    Strategy("outlier", outlier, needs_embeddings),
)

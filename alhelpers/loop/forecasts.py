"""Forecasts of a learning curve: the value at more labels, and the labels that a target needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# Curves drawn from the posterior, and numbers of labels that each is computed at, up to so many times the present one.
_DRAWS, _REPLAY_DRAWS = 2000, 300
_POINTS = 160
_HORIZON = 30.0

# A fit has as many observations as rounds, but their errors are alike, as each round keeps the labels of the last: a
# round counts as this share of an observation. tests/benchmarks/stopping.py tests it, a data set against the others.
_TEMPER = 0.25

# A limit at the present value is exp(-_FAR) times as probable as one at the ceiling, before anything is known.
_FAR = 4.0

# The noise of a value before anything is known, as a standard deviation, and how many rounds that knowledge counts as.
_NOISE, _NOISE_ROUNDS = 0.01, 2.0

# Rounds, as shares of all, after which the forecast is made again and compared with what came.
_REPLAYED = (0.5, 0.6, 0.7, 0.8, 0.9)
LEAST_ROUNDS = 4


@dataclass(frozen=True, eq=False)
class Forecast:
    """What a learning curve is expected to do.

    Attributes
    ----------
    labels_now : int
        The number of labels in the last round.
    target : float or None
        The value to reach.
    level : float
        Of the intervals.
    reached : float
        The probability that the curve, without the noise of a single round, is at the target by now; NaN without one.
    labels, low, high : float
        The number of labels at which it gets there: median and interval; infinity if it is not within ``horizon``.
    horizon : float
        The number of labels that the forecast ends at.
    widened : float
        The factor on the spread of the curves, as forecasts made in earlier rounds missed by more than they claimed.
    """

    labels_now: int
    target: float | None
    level: float
    reached: float
    labels: float
    low: float
    high: float
    horizon: float
    widened: float
    _grid: np.ndarray
    _curves: np.ndarray
    _noise: np.ndarray

    @property
    def more(self) -> float:
        """The labels that are still needed."""
        return max(self.labels - self.labels_now, 0.0)

    def value_at(self, labels: float, *, measured: bool = False) -> tuple[float, float, float]:
        """Return the median and the interval of the value at a number of labels.

        Parameters
        ----------
        labels : float
            From that of the last round to ``horizon``.
        measured : bool
            Whether of what a round will measure, with its noise, rather than of the curve itself.

        Raises
        ------
        ValueError
            If the number of labels is outside this range.
        """
        if not self.labels_now <= labels <= self.horizon:
            raise ValueError(
                f"labels is {labels!r}: the forecast reaches from {self.labels_now} to {self.horizon:.0f}"
            )
        place = np.interp(np.log(labels), np.log(self._grid), np.arange(len(self._grid)))
        left = min(int(place), len(self._grid) - 2)
        share = place - left
        values = (1 - share) * self._curves[:, left] + share * self._curves[:, left + 1]
        if measured:
            values = values + self._noise
        median, low, high = np.quantile(values, [0.5, (1 - self.level) / 2, (1 + self.level) / 2])
        return float(median), float(low), float(high)

    def labels_to(self, target: float) -> tuple[float, float, float]:
        """Return the median and the interval of the number of labels that a target needs; infinity beyond horizon."""
        crossing = _crossings(self._grid, self._curves, target)
        shares = [0.5, (1 - self.level) / 2, (1 + self.level) / 2]
        # no interpolation between a number and infinity
        median, low, high = np.quantile(crossing, shares, method="inverted_cdf")
        return float(median), float(low), float(high)

    def probability(self, labels: float) -> float:
        """Return the probability that the target is reached with at most so many labels."""
        if self.target is None:
            raise ValueError("the forecast has no target: pass target=, such as 0.95")
        return float((_crossings(self._grid, self._curves, self.target) <= labels).mean())

    def __str__(self) -> str:
        if self.target is None:
            median, low, high = self.value_at(min(2 * self.labels_now, self.horizon))
            return (
                f"with {2 * self.labels_now} labels {median:.3f} ({self.level:.0%}: {low:.3f} to {high:.3f})"
            )
        if self.reached >= 0.5:
            return (
                f"{self.target:g} is reached with {self.labels_now} labels (probability {self.reached:.0%})"
            )
        needed, low, high = (
            f"more than {self.horizon - self.labels_now:.0f}"
            if np.isinf(each)
            else f"{max(each - self.labels_now, 0):.0f}"
            for each in (self.labels, self.low, self.high)
        )
        if needed == "0":
            chance = f"probability {self.reached:.0%}; {self.level:.0%}: {low} to {high} more labels"
            return f"{self.target:g} is close ({chance})"
        plural = "" if needed == "1" else "s"
        return f"{needed} more label{plural} to {self.target:g} ({self.level:.0%}: {low} to {high})"


def forecast(
    labels: Sequence[int],
    values: Sequence[float] | np.ndarray,
    target: float | None = None,
    *,
    level: float = 0.8,
    ceiling: float = 1.0,
    seed: int = 0,
) -> Forecast:
    """Forecast a learning curve, and how many labels it needs to reach a target.

    A power law alone misjudges the labels to a target, mostly by far too many or too few [1]_. Here five kinds of
    curves are fitted at once: power laws, power laws with a shift, stretched exponentials, sigmoids of the logarithm
    (each with a limit), and the logarithm, which has none. Each curve counts by how probable it makes the values [2]_;
    later rounds and higher values count more, and a limit far above the present value more than a near one. Then the
    forecast is made again from the first half of the rounds on, and if what came lay further from it than it claimed,
    the interval is widened by as much.

    Parameters
    ----------
    labels : sequence of int
        The numbers of labels of the rounds so far, rising; at least four.
    values : sequence of float, or numpy.ndarray of shape (S, L)
        The value of each round, higher is better, on data that nothing was picked from; or those of several seeds, of
        which the mean is forecast.
    target : float, optional
        The value to reach.
    level : float
        Of the intervals, between 0 and 1.
    ceiling : float
        No value is higher: 1 for an accuracy, an F1 or an average precision.
    seed : int
        Of the curves that are drawn.

    Returns
    -------
    Forecast

    Raises
    ------
    ValueError
        If there are fewer than four rounds, the labels do not rise, a value is not finite or above the ceiling, or an
        option is out of range.

    Notes
    -----
    The interval of a curve that changes its nature later (a new annotator, another strategy) does not hold.

    References
    ----------
    .. [1] Mahmood et al., "How much more data do I need? Estimating requirements for downstream tasks", CVPR 2022.
    .. [2] Domhan, Springenberg & Hutter, "Speeding up automatic hyperparameter optimization of deep neural networks by
       extrapolation of learning curves", IJCAI 2015: many families of curves, weighted by a posterior.
    """
    counts, heights = _checked(labels, values, target, level, ceiling)
    widened = _widening(counts, heights, ceiling, seed)
    fit = _fit(counts, heights, ceiling)
    grid = np.geomspace(1.0, _HORIZON, _POINTS)
    draws = _draw(fit, counts, grid, ceiling, seed, widened, _DRAWS)
    if target is None:
        crossing, reached = np.full(_DRAWS, np.nan), float("nan")
    else:
        crossing = _crossings(draws.grid, draws.curves, target)
        reached = float((draws.curves[:, 0] >= target).mean())
    tail = (1 - level) / 2
    # No interpolation between a number and infinity.
    middle, low, high = np.quantile(crossing, [0.5, tail, 1 - tail], method="inverted_cdf")
    return Forecast(
        int(counts[-1]),
        target,
        level,
        reached,
        float(middle),
        float(low),
        float(high),
        float(draws.grid[-1]),
        widened,
        draws.grid,
        draws.curves,
        draws.noise,
    )


def lasting_crossing(labels: Sequence[int], values: Sequence[float], target: float) -> float:
    """Return the first number of labels from which on no value is below the target; infinity if there is none."""
    counts, heights = np.asarray(labels, dtype=float), np.asarray(values, dtype=float)
    below = np.flatnonzero(heights < target)
    first = below[-1] + 1 if len(below) else 0
    return float(counts[first]) if first < len(counts) else float("inf")


# ------------------------------------------------------------------------------
# families of curves
# ------------------------------------------------------------------------------


def _families() -> list[tuple[str, float, float]]:
    """Return name and parameters of each shape; they are in multiples of the present number of labels."""
    shapes = [("power", theta, shift) for theta in np.linspace(0.1, 1.0, 10) for shift in (0.0, 0.05, 0.2)]
    shapes += [("exponential", scale, power) for scale in np.geomspace(0.1, 3, 5) for power in (0.4, 0.7)]
    shapes += [("sigmoid", scale, power) for scale in np.geomspace(0.05, 3, 5) for power in (0.7, 1.2)]
    shapes += [("logarithm", 0.0, 0.0)] * 2
    return shapes


def _shape(name: str, first: float, second: float, x: np.ndarray) -> np.ndarray:
    """Return what is missing to the limit, up to a factor, at multiples x of the present number of labels."""
    if name == "power":
        return (x + second) ** -first
    if name == "exponential":
        return np.exp(-((x / first) ** second))
    if name == "sigmoid":
        return 1 / (1 + (x / first) ** second)
    return -np.log(x)


_SHAPES = _families()
_LIMITED = np.array([name != "logarithm" for name, *_ in _SHAPES])


class _Fit(NamedTuple):
    """The posterior of each shape (D): of the value now and the rise so far, and of the noise."""

    weights: np.ndarray  # (D,)
    means: np.ndarray  # (D, 2)
    factors: np.ndarray  # (D, 2, 2), Cholesky factors of the covariance for a noise of 1
    degrees: float
    scale: np.ndarray  # (D,), of the noise's variance


class _Draws(NamedTuple):
    grid: np.ndarray  # (P,)
    curves: np.ndarray  # (_DRAWS, P)
    noise: np.ndarray  # (_DRAWS,)


def _basis(x: np.ndarray, start: float) -> np.ndarray:
    """Return how far each shape (D, len(x)) has risen, from -1 at the start to 0 now and on."""
    return np.stack([(_shape(*each, 1.0) - _shape(*each, x)) for each in _SHAPES]) / _spans(start)[:, None]


def _spans(start: float) -> np.ndarray:
    return np.array([max(_shape(*each, start) - _shape(*each, 1.0), 1e-12) for each in _SHAPES])


def _fit(counts: np.ndarray, heights: np.ndarray, ceiling: float) -> _Fit:
    """Fit value = now + rise * basis for each shape: Bayesian linear regression with a conjugate prior."""
    x = counts / counts[-1]
    basis = _basis(x, x[0])
    missing = np.maximum(ceiling - _rising(heights), 0.1 * max(ceiling - heights.max(), 1e-3))
    weights = _TEMPER * x / (missing / missing[-1])
    design = np.stack([np.ones_like(basis), basis], axis=2)
    prior = np.diag([1e-4, 1e-4])
    weighted = design * weights[None, :, None]
    precision = np.einsum("dni,dnj->dij", weighted, design) + prior
    centre = np.array([heights[-1], max(heights[-1] - heights[0], 0.0)])
    moment = np.einsum("dni,n->di", weighted, heights) + prior @ centre
    means = np.linalg.solve(precision, moment[..., None])[..., 0]
    residual = heights[None] - np.einsum("dni,di->dn", design, means)
    error = (weights * residual**2).sum(1) + np.einsum("di,ij,dj->d", means - centre, prior, means - centre)
    degrees = _NOISE_ROUNDS + weights.sum()
    scale = (_NOISE_ROUNDS * _NOISE**2 + error) / degrees
    evidence = -0.5 * np.linalg.slogdet(precision)[1] - 0.5 * degrees * np.log(scale)
    relative = np.exp(evidence - evidence.max())
    factors = np.linalg.cholesky(np.linalg.inv(precision))
    return _Fit(relative / relative.sum(), means, factors, float(degrees), scale)


def _draw(
    fit: _Fit,
    counts: np.ndarray,
    grid: np.ndarray,
    ceiling: float,
    seed: int,
    widened: float,
    count: int,
) -> _Draws:
    """Draw curves from the posterior: those that fall, or whose limit is above the ceiling, are left out."""
    draw = np.random.default_rng(seed)
    start = counts[0] / counts[-1]
    later, limit = _basis(grid, start), np.array([_shape(*each, 1.0) for each in _SHAPES]) / _spans(start)
    chosen, parameters, noise = [], [], []
    found = 0
    for attempt in range(20):
        which = draw.choice(len(_SHAPES), 4 * count, p=fit.weights)
        variance = fit.scale[which] * fit.degrees / draw.chisquare(fit.degrees, len(which))
        normal = draw.standard_normal((len(which), 2)) * np.sqrt(variance)[:, None]
        drawn = fit.means[which] + np.einsum("nij,nj->ni", fit.factors[which], normal)
        valid = (drawn[:, 1] >= 0) & (drawn[:, 0] <= ceiling)
        end = np.where(_LIMITED[which], drawn[:, 0] + drawn[:, 1] * limit[which], ceiling)
        valid &= end <= ceiling
        near = ((ceiling - end) / np.maximum(ceiling - drawn[:, 0], 1e-9)).clip(0, 1)
        valid &= draw.random(len(end)) < np.exp(-_FAR * near)
        if attempt == 19 and not found and not valid.any():  # a curve that falls: it is forecast as level
            drawn[:, 1], valid[:] = 0.0, True
        chosen.append(which[valid])
        parameters.append(drawn[valid])
        noise.append(np.sqrt(variance[valid]) * draw.standard_normal(valid.sum()))
        found += valid.sum()
        if found >= count:
            break
    which, drawn, noises = (np.concatenate(each) for each in (chosen, parameters, noise))
    taken = draw.choice(len(which), count, replace=len(which) < count)
    curves = drawn[taken, :1] + drawn[taken, 1:] * later[which[taken]]
    middle = np.median(curves, axis=0)
    curves = np.minimum(middle + widened * (curves - middle), ceiling)
    return _Draws(grid * counts[-1], np.maximum.accumulate(curves, axis=1), noises[taken])


def _widening(counts: np.ndarray, heights: np.ndarray, ceiling: float, seed: int) -> float:
    """Return by how much forecasts of earlier rounds missed, in units of their claimed spread; at least 1."""
    squares, weights = [2.0], [2.0]
    for share in _REPLAYED:
        rounds = int(share * len(counts))
        if rounds < LEAST_ROUNDS:
            continue
        seen = counts[:rounds]
        fit = _fit(seen, heights[:rounds], ceiling)
        draws = _draw(fit, seen, counts[rounds:] / seen[-1], ceiling, seed, 1.0, _REPLAY_DRAWS)
        values = draws.curves + draws.noise[:, None]
        misses = (heights[rounds:] - values.mean(0)) / values.std(0).clip(1e-6)
        squares.append(float((misses**2).mean()))
        weights.append(1.0)
    return float(np.clip(np.sqrt(np.sum(squares) / np.sum(weights)), 1.0, 4.0))


def _rising(heights: np.ndarray) -> np.ndarray:
    """Return the rising curve nearest to values: isotonic regression by pooling neighbours."""
    means: list[float] = []
    sizes: list[int] = []
    for height in heights:
        means.append(float(height))
        sizes.append(1)
        while len(means) > 1 and means[-2] >= means[-1]:
            size = sizes[-2] + sizes[-1]
            means[-2] = (means[-2] * sizes[-2] + means[-1] * sizes[-1]) / size
            sizes[-2] = size
            del means[-1], sizes[-1]
    return np.repeat(means, sizes)


def _crossings(grid: np.ndarray, curves: np.ndarray, target: float) -> np.ndarray:
    """Return where each rising curve (N, P) reaches the target, between the numbers of labels of the grid."""
    after = (curves < target).sum(1)
    found = np.full(len(curves), np.inf)
    found[after == 0] = grid[0]
    within = np.flatnonzero((after > 0) & (after < len(grid)))
    right = after[within]
    low, high = curves[within, right - 1], curves[within, right]
    share = (target - low) / (high - low)
    found[within] = grid[right - 1] * (grid[right] / grid[right - 1]) ** share
    return found


def _checked(
    labels: Sequence[int],
    values: Sequence[float] | np.ndarray,
    target: float | None,
    level: float,
    ceiling: float,
) -> tuple[np.ndarray, np.ndarray]:
    counts, heights = np.asarray(labels, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if heights.ndim == 2 and len(heights):
        heights = heights.mean(0)
    if counts.ndim != 1 or heights.shape != counts.shape:
        raise ValueError(
            f"there are {counts.shape} labels, but {np.shape(values)} values: pass one value a round"
        )
    if len(counts) < LEAST_ROUNDS:
        raise ValueError(f"there are {len(counts)} rounds: a forecast needs at least {LEAST_ROUNDS}")
    if not np.isfinite(counts).all() or counts[0] < 1 or (np.diff(counts) <= 0).any():
        raise ValueError(f"labels are {counts.tolist()}: they must rise, from 1 on")
    wrong = np.flatnonzero(~np.isfinite(heights) | (heights > ceiling))
    if len(wrong):
        raise ValueError(
            f"the value at {counts[wrong[0]]:g} labels is {heights[wrong[0]]}: it must be finite and at most the"
            f" ceiling, {ceiling:g}"
        )
    if not 0 < level < 1:
        raise ValueError(f"level is {level!r}: choose a number between 0 and 1, such as 0.8")
    if target is not None and not target <= ceiling:
        raise ValueError(f"target is {target!r}: no value is above the ceiling, {ceiling:g}")
    return counts, heights

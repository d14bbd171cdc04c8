"""The picture of a boundary, and the slider that draws it anew."""

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib.collections import PathCollection

from alhelpers.notebook import explore

POINTS = np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0], [2.0, 1.0]])
LABELS = np.array([0, 0, 1, 1])


class Nearest:
    """A model without an estimator: the confidence of a class falls with the distance to its nearest label."""

    def __init__(self, rows):
        self.rows = np.asarray(rows)

    def predict_proba(self, points):
        def distance(number):
            own = POINTS[self.rows[LABELS[self.rows] == number]]
            return np.linalg.norm(points[:, None] - own, axis=2).min(axis=1)

        first, second = distance(0), distance(1)
        return np.stack([second, first], axis=1) / (first + second)[:, None]


def test_the_boundary_lies_between_the_labels():
    figure = explore.boundaries(POINTS, LABELS, {"without": [], "two": [0, 2]}, Nearest)
    without, two = figure.axes
    assert (without.get_title(), two.get_title()) == ("without", "two")
    lines = [path.vertices for each in two.collections for path in each.get_paths() if len(path) > 10]
    boundary = next(line for line in lines if np.ptp(line[:, 0]) < 0.2)
    assert np.allclose(boundary[:, 0], 1, atol=0.05)
    # The points alone, and two markers without points: no boundary.
    drawn = [len(each.get_offsets()) for each in without.collections]
    assert drawn == [len(POINTS), 0, 0]


def test_labelled_points_are_drawn_by_class_and_the_latest_has_a_ring():
    (axis,) = explore.boundaries(POINTS, LABELS, {"": [0, 3, 2]}, Nearest).axes
    every, ring, first, second = [each for each in axis.collections if isinstance(each, PathCollection)]
    assert len(every.get_offsets()) == len(POINTS)
    assert ring.get_offsets().tolist() == [[2, 0]]
    assert first.get_offsets().tolist() == [[0, 0]]
    assert second.get_offsets().tolist() == [[2, 1], [2, 0]]


@pytest.mark.parametrize("panels, points", [({}, POINTS), ({"": [0]}, POINTS[:, :1]), ({"": [0]}, POINTS[0])])
def test_what_can_not_be_drawn_is_refused(panels, points):
    with pytest.raises(ValueError, match="pass at least one, and points of shape"):
        explore.boundaries(points, LABELS, panels, Nearest)


@pytest.fixture
def explorer():
    paths = {"margin": [0, 2, 1, 3], "random": [1, 3, 2, 0]}
    return explore.Explorer(POINTS, LABELS, paths, Nearest, lambda rows: len(rows) / 8, count=2)


def test_each_move_changes_the_picture_at_once(explorer):
    seen = [explorer.picture.value]
    assert (
        'alt="The labelled points and the boundary. margin, 2 labels: right for 25% of the new points."'
        in seen[0]
    )
    explorer.labels.value = 3
    seen.append(explorer.picture.value)
    explorer.strategy.value = "random"
    seen.append(explorer.picture.value)
    assert "margin, 3 labels: right for 38%" in seen[1] and "random, 3 labels" in seen[2]
    assert len({page.split("base64,")[1] for page in seen}) == 3
    explorer.strategy.value, explorer.labels.value = "margin", 2
    assert explorer.picture.value == seen[0]
    assert (explorer.labels.min, explorer.labels.max) == (2, 4)


def test_a_page_without_a_kernel_shows_the_picture(explorer):
    InteractiveShell.instance()  # a session, as a cell has
    try:
        with capture_output() as captured:
            explorer.show()
    finally:
        InteractiveShell.clear_instance()
    (output,) = captured.outputs
    assert output.data["text/html"] == explorer.picture.value
    assert "application/vnd.jupyter.widget-view+json" in output.data


@pytest.mark.parametrize("paths", [{}, {"margin": [0, 2], "random": [1, 3, 2]}])
def test_paths_must_have_one_length(paths):
    with pytest.raises(ValueError, match="pass at least one, and all of one length"):
        explore.Explorer(POINTS, LABELS, paths, Nearest, len, count=2)

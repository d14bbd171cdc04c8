import itertools
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from alhelpers import evaluation
from alhelpers.notebook import plots
from alhelpers.notebook.plots.style import ink

GREY = np.zeros((7, 4, 4), np.uint8)
POINTS = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]])


def curve(values):
    return np.array([[0.5, 0.6, 0.7], [0.6, 0.8, 0.9]]) * values


def sample(figure, legend, x):
    return SimpleNamespace(figure=figure, legend=legend, x=x, y=1 / (1 + x))


def step(recall, precision):
    return SimpleNamespace(recall=recall, precision=precision)


HISTORY = [sample("loss", legend, x) for legend in ("train", "validation") for x in (2, 0, 1)]
HISTORY += [sample("accuracy", "validation", x) for x in range(3)]
BOX = {"label": "cat", "left": 0, "top": 1, "right": 2, "bottom": 4}
RELIABILITY = evaluation.reliability([0.1, 0.6, 0.9, 0.95], [False, False, True, True], bins=4)
DRAWN = {
    "contact_sheet": lambda: plots.contact_sheet(
        GREY, list("abcdefg"), frames=["wrong"] * 3 + [None] * 4, columns=4, row_names=["x", "y"]
    ),
    "boxes": lambda: plots.boxes(GREY[:2], [[BOX | {"kind": "wrong"}, BOX], []], ["one", "none"]),
    "embedding_map": lambda: plots.embedding_map(
        POINTS, [0, 1, 1, 0], labelled=[0], picks={"one": [1], "two": [2, 3]}, regions=lambda at: at > 0.5
    ),
    "pixel_maps": lambda: plots.pixel_maps({"picture": GREY, "map": GREY[..., 0:2]}, "abc"),
    "passes": lambda: plots.passes(GREY[:2], np.full((2, 9, 3), 1 / 3), "abc", ["clear", "odd"]),
    "learning_curves": lambda: plots.learning_curves(
        [10, 20, 30], {"random": curve(0.9), "margin": curve(1), "badge": curve(1.001)}, target=0.8
    ),
    "lines": lambda: plots.lines({"a": ([1, 2], [3, 4])}, xlabel="day", ylabel="cost", marks={"change": 1.5}),
    "training_history": lambda: plots.training_history(HISTORY),
    "ranking": lambda: plots.ranking([True, False, False, True], {"doubt": [4, 1, 2, 3]}),
    "precision_recall": lambda: plots.precision_recall({"good": step([0.5, 1], [1, 0.5])}, chance=0.3),
    "reliability": lambda: plots.reliability({"as trained": RELIABILITY, "calibrated": RELIABILITY}),
    "bars": lambda: plots.bars({"margin": 0.5, "random": 0.25}, xlabel="share", marks={"all": 0.3}),
    "labels_needed": lambda: plots.labels_needed(
        {"margin": 78.4, "random": 211, "slow": None}, budget=300, target=0.9
    ),
    "heat_map": lambda: plots.heat_map({"l": np.eye(2), "r": np.eye(2)}, rows="ab", columns="cd", label="c"),
    "confusion_matrix": lambda: plots.confusion_matrix([0, 0, 1, 2], [0, 1, 1, 2], ["cat", "dog", "cow"]),
    "histogram": lambda: plots.histogram(
        {"drawn": [3, 3, 5]}, xlabel="items", ylabel="seeds", marks={"exact": 4}, spans={"usual": (3, 5)}
    ),
    "scatter": lambda: plots.scatter(
        {"right": ([0, 1, 2], [3, 4, 5]), "wrong": ([9], [9])}, xlabel="a", ylabel="b"
    ),
    "dots": lambda: plots.dots({"one": [0.5, 0.7], "two": [0.9]}, xlabel="accuracy"),
    "intervals": lambda: plots.intervals({"sure": (4, 2, 5), "open": (1, -1, 3)}, xlabel="difference"),
}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def draw(name):
    figure = DRAWN[name]()
    figure.canvas.draw()
    return figure, [axis for axis in figure.axes if axis.get_visible()]


def texts(holder):
    return [text for text in holder.findobj(Text) if text.get_text() and text.get_visible()]


# ------------------------------------------------------------------------------------------------- all of them


def test_every_function_is_drawn_here():
    assert set(DRAWN) == set(plots.__all__) - {"CHANCE", "COLOURS", "style"}


@pytest.mark.parametrize("name", DRAWN)
def test_every_figure_is_small_legible_and_keeps_its_legend_off_the_data(name):
    before = dict(matplotlib.rcParams)
    figure, axes = draw(name)
    assert dict(matplotlib.rcParams) == before, "the style is nobody else's"
    assert figure.get_figwidth() <= 8 and figure.dpi == 120
    assert min(text.get_fontsize() for text in texts(figure)) >= 9
    legends = [*figure.legends, *(axis.get_legend() for axis in axes if axis.get_legend())]
    for legend, axis in itertools.product(legends, axes):
        assert not legend.get_window_extent().overlaps(axis.get_window_extent())
    for legend in legends:
        box = legend.get_window_extent()
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and figure.bbox.y0 <= box.y0
        assert not any(
            text.get_window_extent().overlaps(box)
            for axis in axes
            for text in [*axis.get_xticklabels(), axis.xaxis.label, axis.title]
            if text.get_text()
        )


def linear(colour):
    value = np.array(to_rgb(colour))
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(light):
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ light
    root = np.cbrt(xyz / [0.9505, 1, 1.089])
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


#: Deuteranopia of linear light, by Machado, Oliveira and Fernandes (2009).
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)


@pytest.mark.parametrize("eye", [np.eye(3), DEUTERANOPIA])
def test_colours_differ_by_much_more_than_what_is_noticed(eye):
    seen = [lab(np.clip(eye @ linear(colour), 0.001, 1)) for colour in plots.COLOURS]
    distances = [np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)]
    assert len(distances) == 45 and min(distances) > 15, "2.3 is a just noticeable difference"
    assert all(0.3 * r + 0.59 * g + 0.11 * b < 0.46 for r, g, b in map(ink, plots.COLOURS)), "text on white"


def test_the_style_is_there_for_own_figures():
    with plots.style():
        assert matplotlib.rcParams["font.size"] == 10
        _, axis = plt.subplots()
        assert to_hex(axis.plot([1, 2])[0].get_color()) == plots.COLOURS[0].lower()


# -------------------------------------------------------------------------------------------- images and maps


def test_a_contact_sheet_has_images_titles_frames_and_a_key():
    figure, (axis,) = draw("contact_sheet")
    assert len(axis.images) == 7
    assert [text.get_text() for text in axis.texts] == list("abcdefg")
    frames = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    assert [to_hex(frame.get_edgecolor()) for frame in frames] == [plots.COLOURS[0].lower()] * 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["wrong"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["x", "y"]
    spans = [text.get_window_extent() for text in axis.texts]
    assert not any(one.overlaps(image.get_window_extent()) for one in spans for image in axis.images)


def test_images_of_a_sheet_share_one_grey_scale_and_keep_their_colours_and_forms():
    tall, wide = np.zeros((8, 4, 3), np.uint8), np.full((4, 8, 1), 0.25)
    (axis,) = plots.contact_sheet([tall, wide, np.ones((4, 4))], dark=False).axes
    first, second, third = axis.images
    assert first.get_array().shape == (8, 4, 3)
    assert second.get_clim() == third.get_clim() == (0.25, 1) and second.get_cmap().name == "gray"
    left, right, bottom, top = first.get_extent()
    assert (bottom - top) == pytest.approx(2 * (right - left))
    (axis,) = plots.contact_sheet(GREY).axes
    assert {image.get_clim() for image in axis.images} == {(0, 255)}, "a darker image looks darker"


def test_boxes_lie_on_their_pixels_in_the_colours_of_their_kinds():
    rows = [[BOX | {"kind": "wrong"}, BOX | {"kind": "right", "top": 0}], [BOX]]
    figure = plots.boxes(GREY[:2], rows, colours={"right": "#009E73", "missed": "#882255"})
    first, second = (axis.patches for axis in figure.axes)
    # The pixel in the corner is drawn from -0.5 to 0.5.
    assert [each.get_bbox().bounds for each in first] == [(-0.5, 0.5, 2, 3), (-0.5, -0.5, 2, 4)]
    assert [to_hex(each.get_edgecolor()).upper() for each in first] == [plots.COLOURS[1], "#009E73"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["right", "wrong"]
    # A label is above its box, or below it where there is no room; kinds have theirs at different sides.
    places = [(text.get_position(), text.get_ha(), text.get_va()) for text in figure.axes[0].texts]
    assert places == [((1.5, 0.5), "right", "bottom"), ((-0.5, 3.5), "left", "top")]
    assert len(second) == 1 and not plots.boxes(GREY[:1], [[BOX]], names=False).axes[0].texts


def test_a_map_has_a_panel_a_name_with_its_picks_and_regions():
    figure, axes = draw("embedding_map")
    assert [axis.get_title() for axis in axes] == ["one", "two"]
    for axis, picks in zip(axes, (POINTS[[1]], POINTS[[2, 3]]), strict=True):
        everything, ringed, picked = axis.collections[:3]
        np.testing.assert_array_equal(everything.get_offsets(), POINTS)
        assert [to_hex(each).upper() for each in everything.get_facecolor()] == [
            plots.COLOURS[number] for number in (0, 1, 1, 0)
        ]
        np.testing.assert_array_equal(ringed.get_offsets(), POINTS[[0]])
        np.testing.assert_array_equal(picked.get_offsets(), picks)
        assert len(axis.images) == 1 and len(axis.collections) == 4, "the regions and their boundary"
    assert axes[0].get_xlim() == axes[1].get_xlim()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0", "1", "labelled", "picked"]


def test_each_class_of_a_map_is_named_on_its_own_ground_where_nothing_else_is_marked():
    draws = np.random.default_rng(0)
    classes, centres = np.repeat(range(10), 40), 6 * draws.random((10, 2))
    points, picks = (
        centres[classes] + draws.normal(0, 0.5, (400, 2)),
        {"left": [3, 99], "right": range(5, 400, 20)},
    )

    def ground(at):
        return np.linalg.norm(at[:, None] - centres, axis=2).argmin(1)

    figure = plots.embedding_map(points, classes, class_names=list("abcdefghij"), picks=picks, regions=ground)
    for axis, rows in zip(figure.axes, picks.values(), strict=True):
        assert len(axis.texts) >= 8
        boxes = [text.get_window_extent() for text in axis.texts]
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
        assert not any(
            box.contains(*mark) for box in boxes for mark in axis.transData.transform(points[rows])
        )
        named = ground(np.array([text.get_position() for text in axis.texts]))
        assert ["abcdefghij"[number] for number in named] == [text.get_text() for text in axis.texts]


@pytest.mark.parametrize("confidences", [False, True])
def test_the_boundary_runs_where_the_classes_are_as_likely(confidences):
    def regions(at):
        return np.column_stack([1 - at[:, 0], at[:, 0]]) if confidences else (at[:, 0] > 0.5).astype(int)

    (axis,) = plots.embedding_map(POINTS, regions=regions, axes_names=("x", "y")).axes
    (boundary,) = axis.collections[-1].get_paths()
    np.testing.assert_allclose(boundary.vertices[:, 0], 0.5, atol=0.01)
    colours = axis.images[0].get_array()
    assert to_hex(colours[0, 0, :3]).upper() == plots.COLOURS[0]
    assert to_hex(colours[0, -1, :3]).upper() == plots.COLOURS[1]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("x", "y") and len(axis.get_xticks())


def test_regions_may_be_a_grid_and_rows_a_mask():
    grid = np.array([[0, 0, 1], [2, 2, 1]])
    picks = {"mask": np.array([True, False, False, True])}
    (axis,) = plots.embedding_map(POINTS, picks=picks, regions=grid).axes
    np.testing.assert_array_equal(axis.collections[2].get_offsets(), POINTS[[0, 3]])
    lowest = axis.images[0].get_array()[0]
    assert [to_hex(each[:3]).upper() for each in lowest] == [plots.COLOURS[number] for number in (0, 0, 1)]
    assert axis.images[0].origin == "lower"


def test_passes_are_counted_for_the_likeliest_classes():
    _, axes = draw("passes")
    assert [len(axis.images) for axis in axes] == [1, 0, 1, 0]
    assert axes[0].get_title() == "clear"
    for axis in axes[1::2]:
        assert len(axis.get_legend().get_texts()) == 2
        assert [patch.get_xy()[:, 1].max() for patch in axis.patches] == [9, 9], "all passes in one bin"
        assert [bool(patch.get_hatch()) for patch in axis.patches] == [False, True]
        assert axis.patches[1].get_facecolor()[3] == 0, "an overlap has no colour of its own"


# ----------------------------------------------------------------------------------------------------- curves


def test_learning_curves_are_means_with_bands_named_at_their_ends():
    _, (axis,) = draw("learning_curves")
    lines = {line.get_label(): line for line in axis.lines}
    np.testing.assert_allclose(lines["margin"].get_ydata(), [0.55, 0.7, 0.8])
    assert len({line.get_marker() for line in axis.lines[:3]}) == 3
    assert lines["random"].get_linestyle() == "--" and lines["random"].get_color() == plots.CHANCE
    assert len(axis.collections) == 3
    band = axis.collections[1].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (0.5, 0.9)
    assert axis.get_title(loc="right") == "dotted: the target 0.8"
    names = {text.get_text(): Text.get_window_extent(text) for text in axis.texts}
    assert set(names) == {"random", "margin", "badge"}
    assert not any(one.overlaps(other) for one, other in itertools.combinations(names.values(), 2))
    right = axis.get_window_extent().x1
    assert all(text.xy[0] == 30 for text in axis.texts)
    middle = {name: (box.y0 + box.y1) / 2 for name, box in names.items()}
    assert middle["badge"] > middle["margin"] > middle["random"]
    assert all(box.x1 > right for box in names.values())


def test_curves_of_one_seed_have_no_band_and_own_bands_replace_the_range():
    (axis,) = plots.learning_curves([1, 2], {"a": [[0.1, 0.2]]}).axes
    assert len(axis.collections) == 0
    (axis,) = plots.learning_curves([1, 2], {"a": [[0.1, 0.2]]}, bands={"a": ([0, 0], [1, 1])}).axes
    assert axis.collections[0].get_paths()[0].vertices[:, 1].max() == 1


def test_lines_have_logarithmic_axes_and_go_on_dashed():
    measured, fitted = {"a": ([1e3, 1e4], [1, 10])}, {"a": ([1e3, 1e9], [1, 1e6])}
    options = {"xlabel": "records", "ylabel": "seconds", "log": "xy", "dots": True}
    (axis,) = plots.lines(measured, continued=fitted, **options).axes
    assert axis.get_xscale() == axis.get_yscale() == "log"
    assert [line.get_linestyle() for line in axis.lines] == ["-", "--"]
    assert axis.lines[0].get_marker() == "o" and axis.texts[0].xy == (1e9, 1e6)
    _, (axis,) = draw("lines")
    assert axis.lines[1].get_xdata()[0] == 1.5 and "change" in [text.get_text() for text in axis.texts]
    (axis,) = plots.lines({"gap": ([1, 2, 3], [1, 2, np.nan])}, xlabel="x", ylabel="y").axes
    assert axis.texts[0].xy == (2, 2), "the name stands where the line ends"


def x_ticks(axis):
    axis.figure.canvas.draw()
    labels = [label for label in axis.get_xticklabels() if label.get_text()]
    boxes = [label.get_window_extent() for label in labels]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    return axis.get_xticks().tolist(), [label.get_text() for label in labels]


@pytest.mark.parametrize(
    ("places", "log", "written"),
    [
        ([2, 5, 10, 20, 50, 100], "", ["2", "5", "10", "20", "50", "100"]),
        ([2, 3, 4, 2000], "", ["4", "2,000"]),
        ([20, 50, 1000, 200_000], "x", ["20", "50", "1,000", "200,000"]),
    ],
)
def test_few_measured_places_have_the_ticks_and_names_that_fit(places, log, written):
    (axis,) = plots.lines({"a": (places, places)}, xlabel="x", ylabel="y", log=log).axes
    assert x_ticks(axis) == (places, written)
    assert not len(axis.get_xticks(minor=True))
    (axis,) = plots.lines({"a": (range(40), range(40))}, xlabel="x", ylabel="y").axes
    assert len(x_ticks(axis)[0]) < 12


def test_history_has_a_panel_a_figure_and_sorts_its_steps():
    _, (loss, accuracy) = draw("training_history")
    assert [line.get_label() for line in loss.lines] == ["train", "validation"]
    assert loss.lines[0].get_xdata().tolist() == [0, 1, 2] and loss.lines[0].get_ydata()[0] == 1
    assert accuracy.lines[0].get_color() == loss.lines[1].get_color(), "one name, one colour"
    assert loss.get_ylabel() == "loss" and accuracy.get_ylabel() == "accuracy"
    (axis,) = plots.training_history(HISTORY, ["loss"], log=True).axes
    assert axis.get_yscale() == "log"


def test_ranking_is_the_share_of_mistakes_met():
    _, (axis,) = draw("ranking")
    assert axis.lines[0].get_ydata().tolist() == [0, 0.5, 1, 1, 1]
    assert axis.lines[0].get_xdata().tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert axis.lines[1].get_label() == "in random order" and axis.lines[1].get_linestyle() == "--"


def test_precision_recall_steps_and_chance():
    _, (axis,) = draw("precision_recall")
    assert axis.lines[0].get_xdata().tolist() == [0, 0.5, 1]
    assert axis.lines[0].get_ydata().tolist() == [1, 1, 0.5]
    assert axis.lines[1].get_ydata()[0] == 0.3 and axis.lines[1].get_label() == "in random order: 0.30"


def test_reliability_shows_the_bins_and_the_calibration_error():
    _, axes = draw("reliability")
    assert axes[0].get_title() == f"as trained: error {(0.1 + 0.6 + 0.15) / 4:.3f}"
    dots = axes[0].collections[1]
    np.testing.assert_allclose(dots.get_offsets(), [[0.1, 0], [0.6, 0], [0.925, 1]])
    assert dots.get_sizes()[2] > dots.get_sizes()[0]


# ----------------------------------------------------------------------------------------------------- tables


def test_bars_stand_in_order_with_values_and_grey_chance():
    figure, (axis,) = draw("bars")
    assert [bar.get_width() for bar in axis.patches] == [0.5, 0.25]
    assert [to_hex(bar.get_facecolor()).upper() for bar in axis.patches] == [plots.COLOURS[0], plots.CHANCE]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["margin", "random"]
    assert axis.yaxis_inverted() and {"0.50", "0.25"} <= {text.get_text() for text in axis.texts}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["all"]


@pytest.mark.parametrize("stacked", [False, True])
def test_bars_of_a_table_are_side_by_side_or_stacked(stacked):
    table = pd.DataFrame({"far": [0.5, 0.1], "near": [0.25, 0.2]}, index=["a", "b"])
    (axis,) = plots.bars(table, xlabel="share", stacked=stacked, text="{:.0%}").axes
    starts, ends = zip(*((bar.get_x(), bar.get_x() + bar.get_width()) for bar in axis.patches), strict=True)
    assert starts == ((0, 0, 0.5, 0.1) if stacked else (0, 0, 0, 0))
    np.testing.assert_allclose(ends, (0.5, 0.1, 0.75, 0.3) if stacked else (0.5, 0.1, 0.25, 0.2))
    assert len({round(bar.get_y(), 6) for bar in axis.patches}) == (2 if stacked else 4)
    assert [text.get_text() for text in axis.figure.legends[0].get_texts()] == ["far", "near"]
    (axis,) = plots.bars(table["far"], xlabel="share", log=True).axes
    assert axis.get_xscale() == "log" and not axis.figure.legends


def test_labels_that_were_not_reached_are_pale_and_say_so():
    _, (axis,) = draw("labels_needed")
    assert [bar.get_width() for bar in axis.patches] == [78.4, 211, 300]
    assert [bar.get_hatch() for bar in axis.patches] == [None, None, "///"]
    assert [text.get_text() for text in axis.texts] == ["78", "211", "not reached in 300"]
    assert axis.get_xlabel() == "labels to reach 90%"
    right = axis.get_window_extent().x1
    assert all(text.get_window_extent().x1 <= right for text in axis.texts)


def test_heat_maps_share_their_colours_and_write_their_cells_legibly():
    _, axes = draw("heat_map")
    assert len(axes) == 3 and [axis.get_title() for axis in axes[:2]] == ["l", "r"]
    assert [text.get_text() for text in axes[0].texts] == ["1.00", "0.00", "0.00", "1.00"]
    assert [text.get_color() for text in axes[0].texts] == ["white", "black", "black", "white"]
    figure = plots.heat_map(np.eye(2), rows="ab", columns="cd", diverging=True, text="")
    assert figure.axes[0].images[0].get_cmap().name == "RdBu" and not figure.axes[0].texts


def test_a_confusion_matrix_counts_true_rows_and_predicted_columns():
    _, (axis,) = draw("confusion_matrix")
    cells = {tuple(map(int, text.get_position()[::-1])): text.get_text() for text in axis.texts}
    assert cells == {(0, 0): "1", (0, 1): "1", (1, 1): "1", (2, 2): "1"}
    colours = axis.images[0].get_array()
    assert colours[1, 1, 2] > colours[1, 1, 0] and colours[0, 1, 0] > colours[0, 1, 2]
    assert (colours[1, 0] == 1).all(), "what never happened is white"


def test_a_histogram_of_whole_numbers_has_a_bin_each():
    figure, (axis,) = draw("histogram")
    bars = [patch for patch in axis.patches if patch.get_height() in (0, 1, 2) and patch.get_alpha() == 0.7]
    assert [(bar.get_x(), bar.get_height()) for bar in bars] == [(2.5, 2), (3.5, 0), (4.5, 1)]
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"drawn", "exact", "usual"}
    both = plots.histogram({"a": [0.1, 0.2], "b": [0.7]}, xlabel="x", ylabel="y", bins=[0, 0.5, 1])
    first, second = both.axes[0].patches
    assert first.get_xy()[:, 1].max() == 2 and second.get_xy()[:, 1].max() == 1


def test_a_histogram_of_shares_shows_sets_of_any_size_alike():
    sets = {"few": [0.1, 0.7], "many": [0.1] * 30 + [0.7] * 10}
    (axis,) = plots.histogram(sets, xlabel="x", ylabel="y", bins=[0, 0.5, 1], shares=True).axes
    axis.figure.canvas.draw()
    found = [(patch.get_xy()[:, 1].max(), patch.get_hatch()) for patch in axis.patches]
    assert found == [(0.5, None), (pytest.approx(0.75), "////")]
    assert all(label.get_text().endswith("%") for label in axis.get_yticklabels())


def test_groups_differ_in_shape_too():
    _, (axis,) = draw("scatter")
    first, second = axis.collections
    assert len(first.get_offsets()) == 3 and len(second.get_offsets()) == 1
    assert len(first.get_paths()[0].vertices) != len(second.get_paths()[0].vertices)
    _, (axis,) = draw("dots")
    assert [len(group.get_offsets()) for group in axis.collections[::2]] == [2, 1]
    assert axis.collections[1].get_segments()[0][0][0] == pytest.approx(0.6)


def test_intervals_that_hold_the_mark_differ_in_colour_from_those_that_do_not():
    _, (axis,) = draw("intervals")
    spans, dots = axis.collections[0::2], axis.collections[1::2]
    ends = [span.get_segments()[0].tolist() for span in spans]
    assert ends == [[[2, 0], [5, 0]], [[-1, 1], [3, 1]]]
    assert [dot.get_offsets().tolist() for dot in dots] == [[[4, 0]], [[1, 1]]]
    assert [to_hex(dot.get_facecolor()[0]).upper() for dot in dots] == list(plots.COLOURS[:2])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["sure", "open"]
    assert axis.lines[0].get_xdata() == [0, 0]


# ---------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.contact_sheet([]), "no images: pass at least one"),
        (lambda: plots.contact_sheet([np.zeros((4, 4, 2))]), r"shape \(4, 4, 2\): pass at least one image"),
        (lambda: plots.contact_sheet(GREY, ["a"]), "images has 7, titles has 1: they must have the same"),
        (lambda: plots.contact_sheet(GREY, row_names=["a", "b"]), "rows has 1, row_names has 2"),
        (lambda: plots.boxes([], []), "there are no images: pass at least one"),
        (lambda: plots.boxes(GREY[:2], [[BOX]]), "images has 2, rows has 1"),
        (lambda: plots.embedding_map(np.zeros((3, 5))), r"shape \(3, 5\): they must have 2 columns"),
        (lambda: plots.embedding_map(POINTS, [0, 1]), "points has 4, classes has 2"),
        (lambda: plots.embedding_map(POINTS, [0, 1, 2, 3], class_names="ab"), "classes reach 3.*from 0 to 1"),
        (
            lambda: plots.embedding_map(POINTS, range(4), class_names=list("abcdefghijk")),
            "11 names .*at most 10",
        ),
        (lambda: plots.embedding_map(POINTS, picks=[4]), "picks holds row 4: there are 4 points"),
        (lambda: plots.embedding_map(POINTS, regions=lambda at: [0]), "returned 1 rows for 14400 points"),
        (lambda: plots.embedding_map(POINTS, regions=np.zeros((2, 2, 1))), r"shape \(2, 2, 1\)"),
        (
            lambda: plots.passes(GREY[:1], np.zeros((1, 9)), "ab"),
            r"samples has the shape \(1, 9\).*3 dimensions",
        ),
        (lambda: plots.learning_curves([1, 2], {"a": [[1, 2, 3]]}), "counts has 2, a has 3"),
        (
            lambda: plots.learning_curves([1, 2], {"a": [1, 2]}),
            r"curve 'a' has the shape \(2,\).*2 dimensions",
        ),
        (lambda: plots.learning_curves([1], {}), "curves is empty: there is nothing to draw"),
        (lambda: plots.lines([1, 2], xlabel="x", ylabel="y"), "series is list: it must be a dict"),
        (lambda: plots.lines({"a": ([1], [1, 2])}, xlabel="x", ylabel="y"), "x has 1, y has 2"),
        (lambda: plots.training_history(HISTORY, ["f1"]), "no sample of f1: choose from accuracy, loss"),
        (lambda: plots.ranking([False, False], {"a": [1, 2]}), "wrong holds no mistake"),
        (lambda: plots.ranking([True, False], {"a": [1]}), "wrong has 2, a has 1"),
        (lambda: plots.precision_recall({"a": step([1], [1, 1])}), "recall has 1, precision has 2"),
        (lambda: plots.reliability({"a": [{"count": 0}]}), "diagram 'a' has no row with a count"),
        (lambda: plots.bars({}, xlabel="x"), "values is empty"),
        (
            lambda: plots.bars({"a": {"x": 1}, "b": {"y": 1}}, xlabel="x"),
            "'b' has the bars y: it must have x",
        ),
        (
            lambda: plots.labels_needed({"a": 300}, budget=200, target=1),
            "needed holds 300, and budget is 200",
        ),
        (lambda: plots.heat_map(np.eye(2), rows="abc", columns="ab"), "rows has 3, table has 2"),
        (lambda: plots.confusion_matrix([0, 2], [0, 1], "ab"), "reach 2: they must be from 0 to 1"),
        (lambda: plots.histogram({"a": []}, xlabel="x", ylabel="y"), "values 'a' has the shape"),
        (lambda: plots.scatter({"a": ([1], [])}, xlabel="x", ylabel="y"), "y of 'a' has the shape"),
        (lambda: plots.dots({"a": 1}, xlabel="x"), r"group 'a' has the shape \(\)"),
        (lambda: plots.intervals({"a": (1, 2)}, xlabel="x"), "high has 3, a has 2"),
        (lambda: plots.intervals({"a": (1, 2, 0)}, xlabel="x"), "'a' goes from 2 to 0: its low end"),
    ],
)
def test_what_can_t_be_drawn_is_refused_with_the_way_out(call, message):
    with pytest.raises(ValueError, match=message):
        call()

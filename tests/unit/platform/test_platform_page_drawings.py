"""What the page computes before it draws: shapes, curves and the layout of pipelines."""

import math
import random
import re
from pathlib import Path

import pytest
from platform_samples import HOSTILE, NONSENSE

from alhelpers.platform.page import charts, drawing, graph
from alhelpers.platform.page.render import percent, short, size, when

# ----------------------------------------------------------------------------------------------------- shapes

KINDS = ["box", "segment", "polyline", "point", "ellipse", "note", "binary"]


@pytest.mark.parametrize("kind", [*KINDS, "class", "cube_3d", None, 5, HOSTILE])
def test_nonsense_has_no_shape(kind):
    for coordinates in NONSENSE:
        assert drawing.shape({"type": kind, "coordinates": coordinates}) is None, coordinates
        assert drawing.mask_png({"type": kind, "coordinates": coordinates}) is None, coordinates


def test_no_coordinates_no_shape():
    assert [drawing.shape({"type": kind}) for kind in KINDS] == [None] * len(KINDS)


def test_a_box_may_be_given_from_any_corner_and_turned():
    shape = drawing.shape({"type": "box", "coordinates": [{"x": 9, "y": 8}, {"x": 1, "y": 2}, 30.0]})
    assert (shape["x"], shape["y"], shape["width"], shape["height"]) == (1, 2, 8, 6)
    assert shape["turn"] == "rotate(30 5 5)"


def test_a_polygon_with_a_hole_and_one_without_a_list_around():
    ring = [{"x": 0, "y": 0}, {"x": 9, "y": 0}, {"x": 0, "y": 9}]
    hole = [{"x": 1, "y": 1}, {"x": 2, "y": 1}, {"x": 1, "y": 2}]
    path = drawing.shape({"type": "segment", "coordinates": [ring, hole]})["path"]
    assert path == "M0 0 L9 0 L0 9 Z M1 1 L2 1 L1 2 Z"
    assert drawing.shape({"type": "segment", "coordinates": ring})["path"] == "M0 0 L9 0 L0 9 Z"


@pytest.mark.parametrize(
    "value", ["red", "#12", "#12345g", "#123456 ", '#123"', "rgb(1,2,3)", None, 5, [1, 2, 3]]
)
def test_what_is_no_colour(value):
    assert drawing.colour(value, "#000000") == "#000000"


def test_colours():
    assert drawing.colour("#aBc123", "") == "#aBc123" and drawing.colour("#abc", "") == "#abc"


def test_messages_of_a_note():
    note = {"note": {"messages": [{"body": "a"}, {"body": 5}]}}
    assert drawing.messages({"coordinates": note}) == ["a", "5"]
    for wrong in (None, {}, {"note": None}, {"note": {"messages": [None]}}, {"note": {"messages": 7}}):
        assert drawing.messages({"coordinates": wrong}) == []


# ----------------------------------------------------------------------------------------------------- curves


def sample(figure, legend, x, y):
    return {"figure": figure, "legend": legend, "data": {"x": x, "y": y}}


def places(path):
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path)]


def test_figures_and_their_curves_by_name():
    figures = charts.figures(
        [sample("loss", "train", 2, 1.0), sample("loss", "train", 1, 3.0), sample("accuracy", "test", 1, 0.5)]
        + [sample("loss", "test", 1, 2.0)]
    )
    assert [figure["name"] for figure in figures] == ["accuracy", "loss"]
    train = next(line for line in figures[1]["series"] if line["legend"] == "train")
    assert train["numbers"] == [("1", "3"), ("2", "1")]
    assert train["words"] == "train: from 3 at 1 to 1 at 2, lowest 1 at 2, highest 3 at 1"


def test_a_curve_stands_where_its_ticks_say():
    (figure,) = charts.figures(sample("f", "l", x, x * x) for x in range(11))
    (line,) = figure["series"]
    ys = {float(tick["text"]): tick["at"] for tick in figure["ys"]}
    xs = {float(tick["text"]): tick["at"] for tick in figure["xs"]}
    first, *_, last = places(line["path"])
    assert first == pytest.approx((xs[0], ys[0]), abs=0.11)
    assert last == pytest.approx((xs[10], ys[100]), abs=0.11)


@pytest.mark.parametrize("seed", range(30))
def test_every_curve_stays_in_its_frame_under_round_ticks(seed):
    random_numbers = random.Random(seed)
    scale, shift = 10 ** random_numbers.uniform(-9, 9), random_numbers.uniform(-1e3, 1e3)
    count = random_numbers.choice([1, 2, 50, 1000])
    points = [(x, random_numbers.gauss(0, 1) * scale + shift) for x in range(count)]
    (figure,) = charts.figures(sample("f", "l", x, y) for x, y in points)
    frame = figure["frame"]
    shown = places(figure["series"][0]["path"])
    assert 1 <= len(shown) <= charts.MAX_POINTS
    for x, y in shown:
        assert frame["left"] - 0.1 <= x <= frame["right"] + 0.1
        assert frame["top"] - 0.1 <= y <= frame["bottom"] + 0.1
    for ticks in (figure["xs"], figure["ys"]):
        assert 2 <= len(ticks) <= 10


def test_what_is_no_number_is_left_out():
    wrong = [None, "1", True, math.nan, math.inf, 1e300, [1]]
    samples = [sample("f", "l", 1, y) for y in wrong] + [{"figure": "f", "legend": "l", "data": 5}, {}]
    assert charts.figures(samples) == []
    assert charts.figures([*samples, sample("f", "l", 1, 2)])[0]["series"][0]["count"] == 1


def test_too_many_curves_are_counted():
    (figure,) = charts.figures(sample("f", f"l{number:02}", 1, 1) for number in range(charts.MAX_SERIES + 3))
    assert len(figure["series"]) == charts.MAX_SERIES and figure["left_out"] == 3


def test_precision_by_recall_at_the_overlaps_that_differ():
    same = {"recall": [0.0, 0.5, 1.0], "precision": [1.0, 0.75, 0.5], "confidence": [0.9, 0.8, 0.7]}
    other = {"recall": [0.0, 1.0], "precision": [0.5, 0.25]}
    figure = charts.precision_recall("pr", {"0.1": other, "0.5": same, "0.7": same, "0.9": other})
    assert [line["legend"] for line in figure["series"]] == ["overlap 0.5", "overlap 0.9"]
    assert figure["series"][0]["numbers"] == [("0", "1"), ("0.5", "0.75"), ("1", "0.5")]


@pytest.mark.parametrize(
    "content",
    [None, 5, [], {}, {"0.5": None}, {"0.5": {}}, {"0.5": {"recall": 5, "precision": []}}]
    + [{"0.5": {"recall": [None, "x", math.nan], "precision": [1, 1, 1]}}],
)
def test_no_precision_by_recall(content):
    assert charts.precision_recall("pr", content) is None


# ------------------------------------------------------------------------------------------------------- graphs


def node(name, position=None):
    metadata = {} if position is None else {"position": dict(zip("xy", position, strict=True))}
    return {"id": name, "name": name, "metadata": metadata}


def connect(*pairs):
    return [
        {"src": {"nodeId": source, "portId": "o"}, "tgt": {"nodeId": target, "portId": "i"}}
        for source, target in pairs
    ]


def at(layout):
    return {node["id"]: (node["x"], node["y"]) for node in layout["nodes"]}


def check_apart(layout):
    stands = list(at(layout).values())
    for number, (x, y) in enumerate(stands):
        assert 0 <= x and x + graph.WIDTH <= layout["width"]
        assert 0 <= y and y + graph.HEIGHT <= layout["height"]
        for left, top in stands[:number]:
            assert abs(x - left) >= graph.WIDTH or abs(y - top) >= graph.HEIGHT


def test_a_chain_stands_in_a_row():
    layout = graph.lay_out([node(name) for name in "cab"], connect(("a", "b"), ("b", "c")))
    stands = at(layout)
    assert stands["a"][0] < stands["b"][0] < stands["c"][0]
    assert len({y for _, y in stands.values()}) == 1


def test_given_positions_are_kept_in_their_order():
    nodes = [node("a", (0, 0)), node("b", (340, 0)), node("c", (340, 130))]
    stands = at(graph.lay_out(nodes, connect(("c", "a"))))
    assert stands["a"][0] < stands["b"][0] == stands["c"][0]
    assert stands["a"][1] == stands["b"][1] < stands["c"][1]


@pytest.mark.parametrize("position", [(0, 0), (10, 5), (1e9, 0), (math.nan, 0), ("1", 2)])
def test_positions_that_do_not_help_are_replaced(position):
    layout = graph.lay_out([node("a", (0, 0)), node("b", position)], connect(("a", "b")))
    check_apart(layout)
    assert at(layout)["a"][0] < at(layout)["b"][0]


@pytest.mark.parametrize("seed", range(20))
def test_any_graph_has_a_layout(seed):
    random_numbers = random.Random(seed)
    names = [f"n{number}" for number in range(random_numbers.randint(1, 25))]
    pairs = [
        (random_numbers.choice(names), random_numbers.choice(names))
        for _ in range(random_numbers.randint(0, 40))
    ]
    layout = graph.lay_out([node(name) for name in names], connect(*pairs))
    check_apart(layout)
    assert len(layout["edges"]) == len(pairs)


def test_edges_that_close_no_circle_lead_to_the_right():
    pairs = [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("a", "d")]
    layout = graph.lay_out([node(name) for name in "abcd"], connect(*pairs))
    stands = at(layout)
    assert all(stands[source][0] < stands[target][0] for source, target in pairs)


def test_a_long_edge_passes_no_node():
    layout = graph.lay_out([node(name) for name in "abc"], connect(("a", "b"), ("b", "c"), ("a", "c")))
    x, y = at(layout)["b"]
    (long,) = [edge for edge in layout["edges"] if (edge["from"], edge["to"]) == ("a", "c")]
    # The curve's end points and its handles keep outside of the node between.
    for left, top in places(long["path"]):
        assert not (x < left < x + graph.WIDTH and y < top < y + graph.HEIGHT)


def test_a_circle_is_drawn_too():
    layout = graph.lay_out([node(name) for name in "ab"], connect(("a", "b"), ("b", "a"), ("a", "a")))
    check_apart(layout)
    assert len(layout["edges"]) == 3


@pytest.mark.parametrize(
    "connection", [None, 5, {}, {"src": None, "tgt": None}, {"src": {"nodeId": "a"}, "tgt": 7}]
)
def test_connections_of_nothing_are_left_out(connection):
    assert graph.lay_out([node("a")], [connection])["edges"] == []


def test_no_nodes():
    assert graph.lay_out([], [])["nodes"] == []


def test_a_name_has_two_lines():
    assert graph.lines("Train Model") == ["Train Model"]
    assert graph.lines("") == [""]
    long = graph.lines("a name that goes on and on and on and on")
    assert len(long) == 2 and long[1].endswith("…") and max(map(len, long)) <= 17
    assert len(graph.lines("x" * 100)[0]) <= 17


# -------------------------------------------------------------------------------------------------------- texts


def test_texts():
    assert when("2026-11-22T02:38:36.123Z") == "2026-11-22 02:38:36"
    assert when(None) == "" and when("soon") == "soon"
    assert [size(value) for value in (0, 2048, 5 << 20, 3 << 30, None, "x")] == [
        *("0 bytes", "2.0 KiB", "5.0 MiB", "3.0 GiB", "unknown", "unknown"),
    ]
    assert percent(0.8731) == "87.3%" and percent(None) == "" and percent("1") == ""
    assert short("abcdef", 4) == "abc…" and short("abcd", 4) == "abcd"


# ------------------------------------------------------------------------------------------------------- colours


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_texts_and_curves_are_legible(theme):
    """WCAG 2 requires a contrast of 4.5 for texts; the curves have it too."""
    sheet = (Path(charts.__file__).parent / "style.css").read_text()
    block = re.findall(r":root \{(.*?)\n\s*\}", sheet, re.S)[theme]
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", block))
    pairs = [
        (front, back) for front in ("ink", "soft", "link", "bad", "busy") for back in ("ground", "plate")
    ]
    pairs += [(name, f"{name}-back") for name in ("good", "bad", "busy", "tag", "label")]
    pairs += [("ink", "plain-back"), *((f"s{number}", "plate") for number in range(charts.MAX_SERIES))]
    for front, back in pairs:
        dark, light = sorted((luminance(colours[front]), luminance(colours[back])))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (front, back)

import itertools
import json
import pathlib

import pytest
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch
from matplotlib.path import Path

from alhelpers.notebook.flow import pipeline_graph, wait_until

CONFIGS = pathlib.Path(__file__).parents[3] / "pipeline_configs"
TEMPLATES = ["active_learning_pipeline.json", "active_learning_pipeline_with_mining.json"]


def drawn(figure):
    figure.canvas.draw()
    (axis,) = figure.axes
    boxes = [patch for patch in axis.patches if isinstance(patch, FancyBboxPatch)]
    words = [text for text in axis.texts if text.get_text() and not hasattr(text, "arrow_patch")]
    plt.close(figure)
    return boxes, words


def inside(inner, outer):
    return outer.x0 < inner.x0 and inner.x1 < outer.x1 and outer.y0 < inner.y0 and inner.y1 < outer.y1


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("counted", [False, True])
def test_every_node_has_a_box_of_its_own_with_its_words_inside(name, counted):
    template = json.loads((CONFIGS / name).read_text())
    counts = (
        {node["id"]: 10_000 + number for number, node in enumerate(template["nodes"])} if counted else None
    )
    figure = pipeline_graph(template, counts)
    assert figure.get_figwidth() <= 8
    boxes, words = drawn(figure)
    assert len(boxes) == len(template["nodes"])
    spans = [box.get_window_extent() for box in boxes]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(spans, 2))
    assert min(word.get_fontsize() for word in words) >= 9
    texts = {" ".join(word.get_text().split()): word.get_window_extent() for word in words}
    for number, (node, span) in enumerate(zip(template["nodes"], spans, strict=True)):
        assert inside(texts[node["name"]], span)
        if counted:
            assert inside(texts[str(10_000 + number)], span)
            assert not texts[str(10_000 + number)].overlaps(texts[node["name"]])


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_arrow_and_no_word_lies_on_a_box_or_word(name):
    template = json.loads((CONFIGS / name).read_text())
    figure = pipeline_graph(template)
    boxes, words = drawn(figure)
    names = {node["name"] for node in template["nodes"]}
    actions = [word for word in words if " ".join(word.get_text().split()) not in names]
    wanted = {each.get("action") for each in template["connections"]} - {None}
    assert {action for word in actions for action in word.get_text().split(", ")} == wanted
    spans = [word.get_window_extent() for word in actions]
    assert not any(span.overlaps(box.get_window_extent()) for span in spans for box in boxes)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(spans, 2))
    ends = {(each["src"]["nodeId"], each["tgt"]["nodeId"]) for each in template["connections"]}
    assert len(ways(figure)) == len(ends)
    for way, box in itertools.product(ways(figure), boxes):
        assert not way.intersects_bbox(box.get_window_extent().padded(-3), filled=False)


def ways(figure):
    """The way of each arrow, its head included."""
    (axis,) = figure.axes
    heads = [text for text in axis.texts if getattr(text, "arrow_patch", None)]
    points = [[*line.get_xydata(), head.xyann, head.xy] for line, head in zip(axis.lines, heads, strict=True)]
    return [Path(each).transformed(axis.transData) for each in points]


def node(name, x, y):
    return {"id": name, "name": name, "type": "ml", "metadata": {"position": {"x": x, "y": y}}}


def arrow(source, target):
    return {"src": {"nodeId": source}, "tgt": {"nodeId": target}}


@pytest.mark.parametrize(
    ("source", "target"), list(itertools.permutations("ace", 2)) + [("a", "f"), ("f", "a")]
)
def test_arrows_go_around_what_stands_between(source, target):
    nodes = [node(name, 300 * number + number, 7 * number) for number, name in enumerate("abcde")]
    pipeline = {"nodes": [*nodes, node("f", 1200, 200)], "connections": [arrow(source, target)]}
    figure = pipeline_graph(pipeline)
    boxes, _ = drawn(figure)
    assert len({round(box.get_y(), 3) for box in boxes}) == 2, "a little lower is the same row"
    (way,) = ways(figure)
    for name, box in zip("abcdef", boxes, strict=True):
        assert not way.intersects_bbox(box.get_window_extent().padded(-3), filled=False), name


def test_counts_are_written_into_the_boxes():
    template = json.loads((CONFIGS / TEMPLATES[0]).read_text())
    _, words = drawn(pipeline_graph(template, {"raw": 40}))
    texts = [word.get_text() for word in words]
    assert texts.count("40") == 1 and texts.count("0") == len(template["nodes"]) - 1


def test_waiting_ends_when_it_has_happened():
    looks = iter([False, False, True])
    wait_until(lambda: next(looks), "the third look", every=0)
    assert next(looks, "used up") == "used up"


def test_waiting_in_vain_is_an_error_that_names_what_for():
    with pytest.raises(TimeoutError, match="the review of every item did not happen within 0 s: look at"):
        wait_until(lambda: False, "the review of every item", seconds=0, every=0)

import itertools
import json
from pathlib import Path

import pytest
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch

from alhelpers.notebook.flow import pipeline_graph, wait_until

CONFIGS = Path(__file__).parents[3] / "pipeline_configs"
TEMPLATES = ["active_learning_pipeline.json", "active_learning_pipeline_with_mining.json"]


def drawn(figure):
    figure.canvas.draw()
    (axis,) = figure.axes
    boxes = [patch for patch in axis.patches if isinstance(patch, FancyBboxPatch)]
    words = [text for text in axis.texts if text.get_text() and not hasattr(text, "arrow_patch")]
    plt.close(figure)
    return boxes, words


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_node_has_a_box_of_its_own_with_its_name_inside(name):
    template = json.loads((CONFIGS / name).read_text())
    boxes, words = drawn(pipeline_graph(template))
    assert len(boxes) == len(template["nodes"])
    spans = [box.get_window_extent() for box in boxes]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(spans, 2))
    texts = {word.get_text(): word.get_window_extent() for word in words}
    for node, span in zip(template["nodes"], spans, strict=True):
        name_at = texts[node["name"]]
        assert span.x0 < name_at.x0 and name_at.x1 < span.x1 and span.y0 < name_at.y0 and name_at.y1 < span.y1


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_word_lies_on_a_box_that_is_not_its_own(name):
    template = json.loads((CONFIGS / name).read_text())
    boxes, words = drawn(pipeline_graph(template))
    names = {node["name"] for node in template["nodes"]}
    actions = [word for word in words if word.get_text() not in names]
    wanted = {each.get("action") for each in template["connections"]} - {None}
    assert {action for word in actions for action in word.get_text().split(",\n")} == wanted
    for word in actions:
        assert not any(word.get_window_extent().overlaps(box.get_window_extent()) for box in boxes), word


def test_counts_are_written_into_the_boxes():
    template = json.loads((CONFIGS / TEMPLATES[0]).read_text())
    _, words = drawn(pipeline_graph(template, {"raw": 40}))
    texts = {word.get_text() for word in words}
    assert "Raw Data\n40" in texts and "Ground Truth\n0" in texts


def test_waiting_ends_when_it_has_happened():
    looks = iter([False, False, True])
    wait_until(lambda: next(looks), "the third look", every=0)
    assert next(looks, "used up") == "used up"


def test_waiting_in_vain_is_an_error_that_names_what_for():
    with pytest.raises(TimeoutError, match="the review of every item did not happen within 0 s: look at"):
        wait_until(lambda: False, "the review of every item", seconds=0, every=0)

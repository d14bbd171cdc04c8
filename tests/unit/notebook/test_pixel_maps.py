import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from alhelpers.notebook import plots

PICTURES = np.zeros((2, 4, 6, 3), np.uint8)
CLASSES = np.zeros((2, 4, 6), np.uint8)
CLASSES[0, 0, 0], CLASSES[1, 0, 0] = 2, 255


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_a_row_holds_pictures_classes_or_scores():
    scores = np.stack([np.zeros((4, 6)), np.full((4, 6), 0.5)])
    rows = {"picture": PICTURES, "truth": CLASSES, "entropy": scores}
    figure = plots.pixel_maps(rows, ["background", "cat", "dog"], titles=["a", "b"])
    axes = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in axes[:2]] == ["a", "b"]
    assert [axis.get_ylabel() for axis in axes[::2]] == ["picture", "truth", "entropy\n0 to 0.5"]
    drawn = [axis.images[0] for axis in axes]
    assert drawn[4].get_clim() == drawn[5].get_clim() == (0, 0.5), "a row has one scale"
    colours = [to_hex(drawn[place].get_array()[0, 0] / 255) for place in (2, 3)]
    assert colours == [plots.COLOURS[1].lower(), "#000000"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "background",
        "dog",
        "not counted",
    ]


def test_rows_of_pictures_and_classes_have_no_scale_and_may_be_mixed():
    figure = plots.pixel_maps({"": [PICTURES[0], CLASSES[0]]}, ["background", "cat", "dog"])
    assert len(figure.axes) == 2 and len(figure.legends) == 1
    assert not plots.pixel_maps({"picture": PICTURES}).legends


def test_what_cannot_be_drawn_is_named():
    for rows, names, message in (
        ({}, (), "rows is empty"),
        ({"a": []}, (), "no images"),
        ({"a": PICTURES, "b": CLASSES[:1]}, "xyz", "a has 2, b has 1"),
        ({"a": CLASSES}, "xy", "holds the class 2, and there are 2 class names"),
        ({"a": CLASSES}, [str(number) for number in range(12)], "12 classes: at most 10"),
    ):
        with pytest.raises(ValueError, match=message):
            plots.pixel_maps(rows, names)

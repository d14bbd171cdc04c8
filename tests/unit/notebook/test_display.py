import base64
import html.parser
import json

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import RichOutput, capture_output
from matplotlib import pyplot as plt

from alhelpers.notebook import progress, record, show
from alhelpers.runs.notebooks import METADATA_KEY, RECORD_MIME


@pytest.fixture(autouse=True)
def session():
    """An IPython session, as a cell has."""
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()
    plt.close("all")


def displayed(call):
    with capture_output() as captured:
        result = call()
    assert all(isinstance(output, RichOutput) for output in captured.outputs)
    return result, captured.outputs


class Tags(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)


# -------------------------------------------------------------------------------------------------------- show


@pytest.mark.parametrize("texts", [{"alt": "", "caption": "b"}, {"alt": "a", "caption": " \n"}])
def test_a_figure_needs_both_texts(texts):
    figure = plt.figure()
    with pytest.raises(ValueError, match="both an alternative text and a caption"):
        show(figure, **texts)
    with pytest.raises(TypeError):
        show(figure)


def test_a_figure_comes_with_its_texts_in_every_form_and_is_closed():
    figure, axis = plt.subplots()
    axis.plot([1, 2])
    alt, caption = 'A line "rises" & <ends>', "Notice: it's <steep> & short"
    _, (output,) = displayed(lambda: show(figure, alt=alt, caption=caption))
    assert list(output.data) == ["text/html", "image/png", "text/plain"]
    assert base64.b64decode(output.data["image/png"]).startswith(b"\x89PNG")
    assert output.metadata == {"image/png": {"alt": alt}}
    tags = Tags(output.data["text/html"])
    image = dict(tags.found)["img"]
    assert image["alt"] == alt
    assert image["src"] == f"data:image/png;base64,{output.data['image/png']}"
    assert "figcaption" in dict(tags.found) and caption in tags.texts
    assert alt in output.data["text/plain"] and caption in output.data["text/plain"]
    assert not plt.fignum_exists(figure.number)


def test_the_result_is_marked():
    _, (output,) = displayed(lambda: show(plt.figure(), alt="a", caption="b", result=True))
    assert output.metadata == {"image/png": {"alt": "a"}, METADATA_KEY: {"result": True}}


# ------------------------------------------------------------------------------------------------------ record


@pytest.mark.parametrize(
    "value, plain",
    [
        (3, 3),
        (None, None),
        ("text", "text"),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.arange(3), [0, 1, 2]),
        (np.eye(2), [[1.0, 0.0], [0.0, 1.0]]),
        ({"a": np.float64(0.25), "b": [np.int8(1), (2, np.arange(2))]}, {"a": 0.25, "b": [1, [2, [0, 1]]]}),
    ],
)
def test_recorded_values_are_plain(value, plain):
    _, (output,) = displayed(lambda: record("number", value))
    assert output.data[RECORD_MIME] == {"number": plain}
    assert json.loads(json.dumps(output.data[RECORD_MIME])) == {"number": plain}
    assert output.data["text/plain"].startswith("number = ")


def test_a_recorded_float_is_shown_short():
    _, (output,) = displayed(lambda: record("accuracy", np.float64(0.123456789)))
    assert output.data["text/plain"] == "accuracy = 0.1235"


@pytest.mark.parametrize("value", [float("nan"), np.array([1, np.inf]), {"a": object()}, {1, 2}])
def test_what_a_notebook_cannot_keep_is_refused(value):
    with pytest.raises(ValueError, match=r"record\('number', ...\) can't store"):
        record("number", value)


@pytest.mark.parametrize("tolerance, kept", [(0, "0.0"), (0.5, "0.5"), (float("inf"), "inf")])
def test_a_tolerance_is_kept_beside_the_value(tolerance, kept):
    _, (output,) = displayed(lambda: record("number", 3, tolerance=tolerance))
    assert output.metadata == {METADATA_KEY: {"tolerance": kept}}
    assert displayed(lambda: record("number", 3))[1][0].metadata == {}


@pytest.mark.parametrize("tolerance", [-1, float("nan")])
def test_a_tolerance_below_zero_is_refused(tolerance):
    with pytest.raises(ValueError, match=f"tolerance is {tolerance}: it must be at least 0"):
        record("number", 3, tolerance=tolerance)


# ---------------------------------------------------------------------------------------------------- progress


def test_progress_yields_everything_and_counts_in_one_output(session):
    outputs = []

    class Publisher(type(session.display_pub)):
        def publish(self, data, metadata=None, *, transient=None, update=False, **_):
            outputs.append((data["text/plain"], transient["display_id"], update))

    session.display_pub = Publisher(parent=session)
    assert list(progress("abc", "reading")) == ["a", "b", "c"]
    texts, ids, updates = zip(*outputs, strict=True)
    assert texts == ("reading: 0 of 3", "reading: 1 of 3", "reading: 2 of 3", "reading: 3 of 3")
    assert len(set(ids)) == 1
    assert updates == (False, True, True, True)


def test_progress_of_a_generator_needs_a_total():
    assert displayed(lambda: list(progress(iter("ab"), "reading", total=2)))[0] == ["a", "b"]
    with pytest.raises(ValueError, match=r"progress\('reading'\).*pass total="):
        next(progress(iter("ab"), "reading"))


def test_progress_works_without_ipython(capsys):
    InteractiveShell.clear_instance()
    assert list(progress([1, 2], "reading")) == [1, 2]

"""What is read from executed notebooks, and how their outputs are kept."""

import pytest

from alhelpers.runs.notebooks import merge_streams, nbformat


def outputs(*parts):
    """Return outputs: of a pair a stream and its text, of a text a display."""
    return [
        nbformat.v4.new_output("display_data", data={"text/plain": part})
        if isinstance(part, str)
        else nbformat.v4.new_output("stream", name=part[0], text=part[1])
        for part in parts
    ]


@pytest.mark.parametrize(
    "parts, merged",
    [
        (
            [("stdout", "\ra: 0%"), ("stdout", "\ra: 50%"), ("stdout", "\ra: 100%\n")],
            [("stdout", "a: 100%\n")],
        ),
        ([("stdout", "one\n"), ("stdout", "two\n")], [("stdout", "one\ntwo\n")]),
        ([("stdout", "one\r\ntwo\r\n")], [("stdout", "one\r\ntwo\r\n")]),
        ([("stderr", "a: 0%\ra: 9%"), ("stdout", "b")], [("stderr", "a: 9%"), ("stdout", "b")]),
        ([("stdout", "a"), "figure", ("stdout", "b")], [("stdout", "a"), "figure", ("stdout", "b")]),
        (["figure", "table"], ["figure", "table"]),
        ([], []),
    ],
)
def test_prints_are_one_piece_and_a_progress_bar_one_line(parts, merged):
    assert merge_streams(outputs(*parts)) == outputs(*merged)

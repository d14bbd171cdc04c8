"""Ties between prose and recorded values, and the numbers that are tied to nothing."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alhelpers.runs.claims import problems, rewrite, ties, untied_numbers

SCOPE = {
    "share": 0.604,
    "labels": {"margin": 81, "margin + typicality": 78.2, "0.5": 3},
    "best": "margin",
    "winner": "margin + typicality",
    "held": True,
    "gain": -0.51,
    "rows": [1, 2.5],
    "pool": 60000,
    "seconds": 130,
    "never": None,
}


@pytest.mark.parametrize(
    "text",
    [
        "60 %<!-- share:.0% -->",
        "60%<!-- share:.0% -->",
        "**60 %**<!--share:.0%-->",
        "it is 0.6<!-- share : .1f -->.",
        "**Result: 81**<!-- labels.margin -->",
        "78<!-- labels.margin + typicality:.0f -->",
        "3<!-- labels.0.5 -->",
        "so margin<!-- best --> and margin + typicality<!-- winner --> won",
        "`margin + typicality`<!-- winner -->",
        "−0.5<!-- gain:.1f --> or -0.5<!-- gain:.1f -->",
        "2.5<!-- rows.1 --> of 60,000<!-- pool:, -->",
        "2 min<!-- seconds:time -->",
        "True<!-- held --> None<!-- never -->",
        "It held<!-- held:held|broke -->, the same picks<!-- held:the same picks|other picks -->.",
        "[60 %<!-- share:.0% -->](a.ipynb)",
        "`61 %<!-- share:.0% -->` and\n```\n61 %<!-- share:.0% -->\n```\n",
        "0.7<!-- fixed -->",
    ],
)
def test_a_text_that_says_its_values_stays(text):
    assert problems(text, SCOPE) == []
    assert rewrite(text, SCOPE) == (text, [])


@pytest.mark.parametrize(
    "text, right",
    [
        ("61 %<!-- share:.0% -->", "60 %"),
        ("61<!-- share:.0% -->", "60 %"),
        ("181<!-- labels.margin -->", "81"),
        ("1.81<!-- labels.margin -->", "81"),
        ("0.5<!-- gain:.1f -->", "-0.5"),
        ("`entropy`<!-- winner -->", "`margin + typicality`"),
        ("**not this**<!-- winner -->", "**margin + typicality**"),
        ("mc_margin<!-- best -->", "margin"),
        ("90 s<!-- seconds:time -->", "2 min"),
        ("1 h 20 min<!-- seconds:time -->", "2 min"),
        ("5,000<!-- pool:, -->", "60,000"),
        ("False<!-- held -->", "True"),
        ("other picks<!-- held:the same picks|other picks -->", "the same picks"),
    ],
)
@pytest.mark.parametrize(
    "around", ["{}", "About {}, more or less", "- {}\n- 7", "60 %<!-- share:.0% -->, {}"]
)
def test_a_wrong_text_is_found_and_rewritten(text, right, around):
    comment = text[text.index("<!--") :]
    whole = around.format(text)
    assert len(problems(whole, SCOPE)) == 1
    new, changes = rewrite(whole, SCOPE)
    assert new == around.format(right + comment)
    assert len(changes) == 1 and changes[0].endswith(f"-> {right.strip('`*')}")


def test_the_earlier_value_says_how_many_words_are_tied():
    text = "It is coreset > margin<!-- winner -->."
    assert rewrite(text, SCOPE)[0] == "It is coreset > margin + typicality<!-- winner -->."
    assert rewrite(text, SCOPE, earlier={"winner": "coreset > margin"})[0] == (
        "It is margin + typicality<!-- winner -->."
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ("1<!-- shares -->", r"'shares': there are share, labels, best"),
        ("1<!-- labels.entropy -->", r"'entropy': there are margin, margin \+ typicality, 0.5"),
        ("1<!-- rows.7 -->", r"'7': there are 0, 1"),
        ("1<!-- share.more -->", r"'more': nothing is recorded here"),
        ("margin<!-- best:.0f -->", "can't write 'margin': Unknown format code 'f'"),
        ("5<!-- never:.0f -->", "can't write None"),
        ("five<!-- share:.0% -->", "is 60%, and no such text stands before it: write 60%"),
        ("10-20<!-- share:.0% -->", "no such text"),
        ("v2.5<!-- share:.0% -->", "no such text"),
        ("<!-- best -->", "is margin, and no such text stands before it"),
    ],
)
def test_a_tie_that_fits_nothing_is_named_and_left_as_it_is(text, message):
    (problem,) = problems(text, SCOPE)
    assert re.search(message, problem)
    assert rewrite(f"{text} 61 %<!-- share:.0% -->", SCOPE)[0] == f"{text} 60 %<!-- share:.0% -->"


def test_other_comments_are_left_alone_where_ties_begin_with_a_notebook():
    text = "<!-- a note --> 60 %<!-- 00_start.share:.0% -->"

    def wanted(comment):
        return comment.startswith("00_")

    assert [tie.comment for tie in ties(text, wanted)] == ["00_start.share:.0%"]
    assert problems(text, {"00_start": SCOPE}, wanted) == []


_WORDS = st.from_regex(r"[a-z_]{1,8}( [+>] [a-z_]{1,8})?", fullmatch=True)
_VALUES = st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6) | st.booleans() | _WORDS
_TEXT = st.text("ab 1.,%-*`\n$(", max_size=12)
_TIED = st.sampled_from(["0", "-12.5", "60 %", "1,000", "2 min", "word", "two words", "`a b`", "**3**"])


@given(
    st.lists(st.tuples(_TEXT, _TIED, _VALUES, st.sampled_from(["", ".0f", ".1%", ",", "time"])), max_size=4)
)
def test_after_rewriting_every_tie_is_right_and_nothing_changes_again(parts):
    scope = {
        f"v{number}": abs(value) if spec == "time" and not isinstance(value, str) else value
        for number, (_, _, value, spec) in enumerate(parts)
    }
    text = "".join(
        f"{before}{tied}<!-- v{number}{spec and ':' + spec} -->"
        for number, (before, tied, _, spec) in enumerate(parts)
    )
    new, changes = rewrite(text, scope)
    left = problems(new, scope)
    assert len(left) == len(problems(text, scope)) - len(changes)
    assert all("can't write" in each or "no such text" in each for each in left)
    assert rewrite(new, scope) == (new, [])
    assert re.findall("<!--.*?-->", new) == re.findall("<!--.*?-->", text)


@pytest.mark.parametrize(
    "text, found",
    [
        ("Of 200 images, 5 % are wrong.", ["200", "5 %"]),
        ("60 %<!-- share:.0% --> of 0.5<!-- fixed --> and **7**<!-- n -->", []),
        ("28 x 28<!-- fixed --> and 8 x 8", ["8", "8"]),
        ("5 to 10 %<!-- fixed -->, 28x28<!-- fixed -->, 5-10<!-- fixed -->, -1<!-- fixed -->", []),
        ("# 7. Heading 7\n\n## Step 3\n1. one\n2) two\n- three\n  4. four", []),
        ("- 3 labels\n1. 4 labels", ["3", "4"]),
        ("`seed = 3` and ``a 4``\n\n```\n5\n```\n$x_1 = 2$ and $$\n3\n$$", []),
        ("[Gal, 2016](https://arxiv.org/abs/1703.02910), ![5 bars](pictures/07_a.png) https://a.b/7", []),
        ("[2 of [3]](x) and [4](y) but [5]", ["5"]),
        ("F1, n07, mc_dropout2, ResNet-18, x -18", ["-18"]),
        ("| strategy | labels |\n|---|---|\n| margin | 81 |", ["81"]),
        ("<a id='p3'></a> &#39; 3rd 28x28, 1e-3", ["3rd", "28x28", "1e"]),
        ("2 min<!-- seconds:time --> and 1 h 20 min<!-- seconds:time -->", []),
        ("margin 2<!-- best -->", []),
    ],
)
def test_untied_numbers_are_found(text, found):
    assert untied_numbers(text) == found

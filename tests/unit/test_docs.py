"""The site: what it is built of, what it refuses, and the pages of docs that follow the code."""

import json
import re
from pathlib import Path

import pytest
from small_site import build_site, write_clone, write_methods, write_speed

from alhelpers import mining

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clone(tmp_path):
    """A small clone, and a function that builds its site."""
    root = tmp_path / "clone"
    executed = write_clone(root)
    return root, lambda: build_site.build(root, executed, root / "output" / "site")


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_site_is_built_of_executed_notebooks_and_documents(clone):
    root, build = clone
    assert build() == []
    site = root / "output" / "site"
    start = (site / "index.html").read_text()
    for target in ("notebooks/01_begin.html#end", "docs/glossary.html#pool", "data/README.html"):
        assert f'href="{target}"' in start
    assert "It saves 60 %<!-- saved:.0% -->, as <math" in start
    _, sidebar = start.split('class="sidebar-tree"')
    assert re.search(
        "II. The loop.*1. Begin.*2. Go on.*Reference.*Glossary.*More.*Data sheet", sidebar, re.DOTALL
    )
    page = (site / "notebooks" / "01_begin.html").read_text()
    assert 'href="../docs/glossary.html#pool"' in page and 'href="02_go_on.html"' in page
    assert "As it was" not in page, "the text is that of the notebook"
    assert 'alt="a dot"' in page and "count = 3" in page, "the outputs are those of its executed copy"
    assert page.index("<details") < page.index('"n">show</span>') < page.index("</details>")
    assert "state_dir" not in page


def test_other_parameters_are_shown_with_the_outputs_that_they_explain(clone):
    root, build = clone
    executed = root / "output" / "tutorial" / "01_begin.ipynb"
    change(executed, 'state_dir = \\"/a/b\\"', 'state_dir = \\"/a/b\\"\\ncount = 77')
    document = build_site.with_outputs([root / "notebooks" / "01_begin.ipynb"], executed.parent)
    (cells,) = (each.cells for each in document.values())
    assert [cell.source for cell in cells[1:3]] == ["count: int = 3", "# Parameters\ncount = 77"]


def test_notebooks_must_have_been_executed_as_they_are(clone):
    root, build = clone
    (root / "output" / "tutorial" / "01_begin.ipynb").unlink()
    change(root / "notebooks" / "02_go_on.ipynb", "show(count)", "show(count + 1)")
    with pytest.raises(
        build_site.NotRun, match=r"01_begin.ipynb, 02_go_on.ipynb: .* run ./run tutorial first"
    ):
        build()
    assert not (root / "output" / "site").exists()


@pytest.mark.parametrize("name", ["docs/glossary.md", "notebooks/01_begin.ipynb"])
@pytest.mark.parametrize("target", ["../missing.md", "../notebooks", "../../outside.md"])
def test_a_link_must_lead_to_a_file_of_the_repository(clone, name, target):
    root, build = clone
    (root.parent / "outside.md").touch()
    change(root / name, "](../", f"](../x.md) [a](https://a.invalid/x) `[c](d.md)` [b]({target}) [a](../")
    with pytest.raises(build_site.SiteError) as caught:
        build()
    assert str(caught.value).splitlines() == [
        f"{name} links to {link}, which is no file of the repository" for link in ("../x.md", target)
    ]


def test_a_link_to_no_heading_and_a_bad_formula_stop_the_build(clone, capfd):
    root, build = clone
    change(root / "README.md", "$H = ", "$\\nothing = ")
    change(root / "README.md", "glossary.md#pool", "glossary.md#pond")
    with pytest.raises(build_site.SiteError, match="Sphinx has warned"):
        build()
    printed = capfd.readouterr().err
    assert "nothing" in printed and "pond" in printed


def test_mistakes_in_pages_are_found(tmp_path):
    (tmp_path / "sub").mkdir()
    other = '<a id="here" href="../index.html#top">up</a><img src="data:image/gif;base64,"><a name="old"></a>'
    (tmp_path / "sub" / "a b.html").write_text(other)
    links = [
        *(
            "https://a.invalid",
            "mailto:a@b.invalid",
            "sub/a%20b.html#here",
            "sub/a%20b.html#old",
            "#top",
            "look.css",
        ),
        *("sub/a%20b.html#there", "missing.html", "#bottom", "sub"),
    ]
    anchors = "".join(f'<a href="{link}">x</a>' for link in links)
    loads = '<script src="//a.invalid/x.js"></script><link rel="stylesheet" href="look.css">'
    (tmp_path / "index.html").write_text(f'<h1 id="top">A</h1>{anchors}{loads}')
    (tmp_path / "look.css").write_text(
        '@font-face { src: url("https://a.invalid/font") } a { background: url(a.png) }'
    )
    assert build_site.mistakes(tmp_path) == [
        "index.html: sub/a%20b.html#there has no such anchor",
        "index.html: missing.html is not there",
        "index.html: #bottom has no such anchor",
        "index.html: sub is not there",
        "index.html: //a.invalid/x.js is loaded from the network",
        "look.css: loads from the network",
    ]


def test_every_public_name_has_its_place_in_the_api(tmp_path):
    modules = build_site.public_modules(ROOT)
    assert {"alhelpers.mining", "alhelpers.protocols", "alhelpers.data.splitting"} <= modules.keys()
    assert build_site.write_api(modules, tmp_path / "api") == ["api/index"]
    for name, module in modules.items():
        text = (tmp_path / "api" / f"{name}.rst").read_text()
        documented = set(
            re.findall(r"^\.\. (?:autoclass|autofunction|py:data):: (?:.*\.)?(\w+)$", text, re.MULTILINE)
        )
        pages = {module.rpartition(".")[2] for module in re.findall(r"^:doc:`(.*)`$", text, re.MULTILINE)}
        assert documented | pages == set(module.__all__), name


def test_the_method_table_is_that_of_the_code():
    assert list(write_methods.ROWS) == list(mining.strategies())
    assert write_methods.PAGE.read_text() == write_methods.page(), "run python docs/write_methods.py"
    assert all(all(row[:3]) for row in write_methods.ROWS.values())


def test_the_page_on_speed_shows_each_row_beside_its_limit_and_floor(tmp_path):
    row = {"work": "a over b", "value": 7.24, "unit": "x", "side": "at least", "limit": 7, "held": True}
    rows = [row | {"floor": 10.0, "share": 0.724, "why": "reading once"}]
    rows.append(row | {"value": 1.5, "held": False, "floor": None, "share": None, "why": ""})
    (tmp_path / "platform_page.json").write_text(json.dumps({"commit": "abc1234", "rows": rows}))
    page = write_speed.page(tmp_path)
    assert "## Platform page\n\n`python tests/benchmarks/bench_platform_page.py`, commit abc1234\n" in page
    assert "The floor is a page without anything to look up: the log-in form.\n\n| work |" in page
    assert "| a over b | 7.24x | at least 7x | held | 10x: reading once | 72% |" in page
    assert "| a over b | 1.5x | at least 7x | missed |  |  |" in page


def test_methods_are_linked_to_words_of_the_glossary():
    headings = re.findall(r"^## (.*)", (ROOT / "docs" / "glossary.md").read_text(), flags=re.MULTILINE)
    words = {heading.lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"glossary\.md#([^)]+)\)", write_methods.page())) <= words
    linked = write_methods.linked("Passes of a `pool`, and the pool of passes.\n\nSource: A pool.")
    assert linked == (
        "Passes of a `pool`, and the [pool](glossary.md#pool) of [passes](glossary.md#pass).\n\nSource: A pool."
    )


def test_every_word_has_its_sentences_and_a_notebook():
    _, *sections = re.split(r"^## ", (ROOT / "docs" / "glossary.md").read_text(), flags=re.MULTILINE)
    words = [section.partition("\n")[0] for section in sections]
    assert words == sorted(words, key=str.lower) and len(words) == len(set(words))
    for word, section in zip(words, sections, strict=True):
        assert re.search(r"\]\(\.\./notebooks/\w+\.ipynb\)", section), word
        assert section.count(".\n") + section.count(". ") >= 2, word
    wanted = (
        "record pool reference strategy score selection samples pass member subset round oracle learner platform item"
        " dataset node pipeline ontology task clone app committee entropy margin BALD AUC-PR IoU calibration"
        " temperature coreset typicality novelty drift epistemic aleatoric batch embedding stratified seed"
        " cycle service variable port softmax loss fold mask"
    ).split()
    assert {
        *wanted,
        "MC dropout",
        "DQL filter",
        "cold start",
        "query by committee",
        "KL divergence",
        "warm start",
    } <= set(words)

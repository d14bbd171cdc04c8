"""The form of the committed notebooks: the skeleton that every reader, runner and reviewer relies on."""

import ast
import re
import statistics

import nbstripout
import pytest
from docutils.utils.math.latex2mathml import tex2mathml
from helpers_notebooks import NAMES, NOTEBOOKS, PATHS, ROOT, code_cells, prose_cells, read, tags
from papermill import inspect_notebook

from alhelpers.runs import claims
from alhelpers.runs.notebooks import parameters_of
from alhelpers.runs.recording import MAX_PICTURE, is_of_notebook, read_recorded, scope_of, scopes_of

#: In reading order.
COURSE = [
    "00_start_here",
    "01_split_data",
    "02_clone_model",
    "03_train_with_mc_dropout",
    "04_train_committee",
    "05_compare_models",
    "06_mine_pool",
    "07_run_active_learning",
    "08_run_the_pipeline",
    "09_use_your_own_data",
    "10_label_it_yourself",
    "11_compare_strategies",
    "12_detect_objects",
    "13_segment_images",
    "14_find_strange_images",
    "15_mine_at_scale",
    "16_label_relabel_or_stop",
]

COMMON = {"dataset", "seed"}
ON_THE_PLATFORM = {"platform", "project_name", "state_dir"}

#: In lines of code.
LONGEST_CELL, LONG_CELL, MEDIAN_CELL = 20, 13, 6

RECORDED = read_recorded(NOTEBOOKS)

every_notebook = pytest.mark.parametrize("path", PATHS, ids=NAMES)


def numbered(text):
    """Return the numbers of a numbered list."""
    return [int(number) for number in re.findall(r"^(\d+)\. ", text, re.M)]


def recorded_names(document):
    """Return the names that the code records."""
    calls = [
        node
        for cell in code_cells(document)
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "notebook.record"
    ]
    return {ast.literal_eval(call.args[0]) for call in calls}


def test_all_are_there_in_reading_order():
    assert NAMES == COURSE


@every_notebook
def test_no_outputs_and_a_common_kernel(path):
    document = read(path)
    for cell in code_cells(document):
        assert cell.outputs == [] and cell.execution_count is None
    assert document.metadata.kernelspec.name == "python3"
    stripped = nbstripout.strip_output(read(path), keep_output=False, keep_count=False, keep_id=True)
    assert stripped == document


@every_notebook
def test_cell_ids_are_there_and_differ(path):
    ids = [cell.id for cell in read(path).cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"n\d\d-\d\d", cell_id) for cell_id in ids), "ids are kept by hand: nNN-MM"


@every_notebook
def test_the_first_cell_states_result_time_and_neighbours(path):
    first = read(path).cells[0].source
    number = int(path.stem[:2])
    assert first.startswith(f"# {number}. ")
    for part in ("**The result:**", "**You will learn**", "**Time:**", "**Before this:**", "**Next:**"):
        assert part in first, part
    assert re.search(r"^\*\*Time:\*\*.*<!-- seconds:", first, re.M), "the time is tied to the recorded one"


@every_notebook
def test_the_first_screen_shows_the_result(path):
    document = read(path)
    lines = [line for line in document.cells[0].source.splitlines() if line]
    (result,) = [number for number, line in enumerate(lines) if line.startswith("**The result:**")]
    assert re.fullmatch(rf"!\[[^\]]+\]\(pictures/{path.stem}\.png\)", lines[result + 1])
    assert (NOTEBOOKS / "pictures" / f"{path.stem}.png").stat().st_size <= MAX_PICTURE
    code = "\n".join(cell.source for cell in code_cells(document))
    assert code.count("result=True") == 1, "one figure is the result"


@every_notebook
def test_links_lead_somewhere(path):
    text = "\n".join(cell.source for cell in prose_cells(read(path)))
    links = [link for link in re.findall(r"\]\(([^()\s]+)\)", text) if "://" not in link]
    for link in links:
        target, _, place = link.partition("#")
        assert target, f"{link}: JupyterLab, GitHub and the site name a notebook's headings in different ways"
        file = NOTEBOOKS / target
        assert file.exists(), link
        if place and file.suffix == ".md":
            headings = re.findall(r"^#+ (.*)", file.read_text(encoding="utf-8"), re.M)
            assert place in {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}, (
                link
            )


@every_notebook
def test_the_site_can_draw_each_formula(path):
    for cell in prose_cells(read(path)):
        for block, inline in re.findall(r"\$\$(.+?)\$\$|\$(.+?)\$", cell.source, re.DOTALL):
            tex2mathml(block or inline)


@every_notebook
def test_parameters_are_read_alike_by_us_and_by_papermill_and_all_explained(path):
    ours = parameters_of(path)
    theirs = inspect_notebook(str(path))
    assert list(ours) == list(theirs)
    assert set(ours) >= COMMON
    connects = "notebook.connect(" in "".join(cell.source for cell in code_cells(read(path)))
    assert set(ours) & ON_THE_PLATFORM == (ON_THE_PLATFORM if connects else set())
    for name, parameter in theirs.items():
        assert parameter["help"], f"{name} has no help"


def test_cells_are_short():
    cells = [cell for path in PATHS for cell in code_cells(read(path)) if "parameters" not in tags(cell)]
    lines = {cell.id: len(cell.source.splitlines()) for cell in cells}
    assert max(lines.values()) <= LONGEST_CELL, lines
    assert statistics.median(lines.values()) <= MEDIAN_CELL, lines
    assert sum(count <= LONG_CELL for count in lines.values()) >= 0.9 * len(lines), lines


@every_notebook
def test_one_title(path):
    titles = [cell.id for cell in prose_cells(read(path)) if re.search(r"^# ", cell.source, re.M)]
    assert titles == [read(path).cells[0].id]


@every_notebook
def test_prose_comes_before_every_run_of_code(path):
    cells = read(path).cells
    assert cells[0].cell_type == cells[1].cell_type == "markdown"
    runs = "".join("c" if cell.cell_type == "code" else "m" for cell in cells)
    assert "cccc" not in runs, "four code cells in a row: say what they do"


@every_notebook
def test_parameters_are_checked_before_anything_else_happens(path):
    code = "\n".join(cell.source for cell in code_cells(read(path)))
    work = re.search(r"notebook\.connect\(|\bdata\.load\(", code)
    assert code.index("notebook.check_parameters()") < (work.start() if work else len(code))


@every_notebook
def test_only_the_set_up_has_helpers_that_nobody_copies(path):
    section, told = "", False
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            section = ([section] + re.findall(r"^##? (.*)", cell.source, re.M))[-1]
            told = section == "Set-up" and ("`steps`" in cell.source or told)
        elif re.search(r"\bsteps\.\w+\(", cell.source):
            assert section == "Set-up", f"{cell.id}: write it in dtlpy's words, or call what is documented"
            assert told, f"{cell.id}: say in the set-up what `steps` is"


@every_notebook
def test_it_records_and_checks(path):
    document = read(path)
    (checks,) = [cell for cell in code_cells(document) if "checks" in tags(cell)]
    assert "assert " in checks.source
    assert recorded_names(document)


@every_notebook
def test_it_ends_with_exercises_and_folded_solutions_that_run_and_a_recap(path):
    document = read(path)
    cells = document.cells
    (start,) = [number for number, cell in enumerate(cells) if cell.source.startswith("## Exercises")]
    found = ""
    for cell in cells[start + 1 :]:
        if cell.cell_type == "code":
            assert {"solution", "hide-cell"} <= set(tags(cell)), f"{cell.id} needs the tags of a solution"
            found += "c"
        elif solution := re.match(r"### Solution (\d)\b", cell.source):
            assert cell.metadata.get("jp-MarkdownHeadingCollapsed") is True, f"{cell.id} must be folded"
            found += solution[1]
        else:
            found += "R" if cell.source.startswith("## Recap") else "m"
    questions = numbered(cells[start].source)
    assert questions in ([1, 2], [1, 2, 3])
    # Code and what came out of it, as often as a solution needs.
    assert re.fullmatch("".join(rf"{number}(c+m)+" for number in questions) + "R", found), found
    for cell in cells[:start]:
        assert "solution" not in tags(cell)
        if "hide-cell" in tags(cell):
            assert "notebook.record(" in cell.source, f"{cell.id} is folded, and does more than record"
            assert cell.metadata.get("jupyter") == {"source_hidden": True, "outputs_hidden": True}
    assert "](https://" in cells[-1].source, "the recap names its sources"


@every_notebook
def test_a_guess_comes_before_a_result_and_numbers_after_it(path):
    cells = read(path).cells
    guesses = [
        number for number, cell in enumerate(cells) if re.search(r"^\*\*Your guess:\*\* ", cell.source, re.M)
    ]
    assert guesses, "no line begins with **Your guess:**"
    for number in guesses:
        assert cells[number + 1].cell_type == "code", f"the result comes after {cells[number].id}"
        reading = next(cell for cell in cells[number + 1 :] if cell.cell_type == "markdown")
        assert claims.ties(reading.source), f"{reading.id} must say, tied, what came out"


@every_notebook
def test_prose_says_what_is_recorded(path):
    document, entry = read(path), RECORDED[path.stem]
    assert recorded_names(document) == entry["values"].keys(), "run ./run tutorial --record"
    scope = scopes_of(NOTEBOOKS, RECORDED) | scope_of(path, entry)
    for cell in prose_cells(document):
        assert not claims.problems(cell.source, scope), f"{cell.id}: run ./run tutorial --record"
        untied = claims.untied_numbers(cell.source)
        assert not untied, f"{cell.id}: tie {untied} to a recorded value, or write <!-- fixed --> after them"


def test_the_readme_says_what_is_recorded():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not claims.problems(text, scopes_of(NOTEBOOKS, RECORDED), is_of_notebook)


def test_only_notebooks_that_are_there_are_recorded():
    pictures = {path.stem for path in (NOTEBOOKS / "pictures").glob("*")}
    assert list(RECORDED) == NAMES and pictures == {*NAMES, "10_panel", "12_page"}, (
        "docs/picture_panel.py draws the panel, docs/picture_page.py the page"
    )


@every_notebook
def test_every_figure_is_shown_with_a_text_and_a_caption(path):
    for cell in code_cells(read(path)):
        calls = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)]
        shown = [call for call in calls if ast.unparse(call.func) == "notebook.show"]
        for call in shown:
            assert {keyword.arg for keyword in call.keywords} - {"result"} == {"alt", "caption"}
        drawn = [call for call in calls if ast.unparse(call.func) == "plt.subplots"]
        assert not drawn or shown, f"{cell.id} draws a figure that it does not show"
        assert "plt.show(" not in cell.source


@every_notebook
def test_no_cell_waits_sleeps_or_evaluates_text(path):
    for cell in code_cells(read(path)):
        tree = ast.parse(cell.source)  # which also refuses magics such as %pip
        called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert called.isdisjoint({"input", "time.sleep", "eval", "exec"})


def test_the_list_for_the_hosted_platform_names_every_section_that_is_run():
    document = read(PATHS[NAMES.index("08_run_the_pipeline")])
    (listing,) = [cell.source for cell in document.cells if "## On the hosted platform" in cell.source]
    section, run = "", []
    for cell in document.cells:
        if cell.cell_type == "markdown":
            section = ([section] + re.findall(r"^#+ (.*)", cell.source, re.M))[-1]
        elif not tags(cell) and section != "Checks":
            run.append(section.rpartition(": ")[2])
    named = re.findall(r"^\| (\w[^|]*) \|", listing, re.M)[1:]
    assert named == list(dict.fromkeys(run)), "each section with code once, in order"

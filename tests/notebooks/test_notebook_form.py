"""The form of the committed notebooks: the skeleton that every reader, runner and reviewer relies on."""

import ast
import re

import nbstripout
import pytest
from helpers_notebooks import NAMES, PATHS, code_cells, read
from papermill import inspect_notebook

from alhelpers.runs.notebooks import parameters_of

COMMON = {"dataset", "seed"}
ON_THE_PLATFORM = {"platform", "project_name", "state_dir"}
LONGEST_CELL = 20

every_notebook = pytest.mark.parametrize("path", PATHS, ids=NAMES)


def test_all_are_there_in_reading_order():
    assert NAMES == [
        "01_split_data",
        "02_clone_model",
        "03_train_with_mc_dropout",
        "04_train_committee",
        "05_compare_models",
        "06_mine_pool",
        "07_run_active_learning",
        "08_run_the_pipeline",
        "11_compare_strategies",
    ]


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


@every_notebook
def test_links_between_notebooks_lead_somewhere(path):
    text = "\n".join(cell.source for cell in read(path).cells)
    for target in re.findall(r"\]\((\d\d_\w+)\.ipynb\)", text):
        assert target in NAMES


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


@every_notebook
def test_cells_are_short(path):
    for cell in code_cells(read(path)):
        lines = len(cell.source.splitlines())
        assert lines <= LONGEST_CELL or "parameters" in cell.metadata.get("tags", []), (cell.id, lines)


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
    assert code.index("notebook.check_parameters()") < work.start()


@every_notebook
def test_it_ends_with_records_checks_exercises_and_a_recap(path):
    document = read(path)
    checks = [cell for cell in code_cells(document) if "checks" in cell.metadata.get("tags", [])]
    assert len(checks) == 1 and "assert " in checks[0].source
    code = "\n".join(cell.source for cell in code_cells(document))
    assert "notebook.record(" in code
    last = document.cells[-1].source
    assert "## Exercises" in last and "<details><summary>Solutions</summary>" in last and "## Recap" in last
    questions, solutions = last.split("<details>")
    assert (
        2 <= len(re.findall(r"^\d\. ", questions, re.M)) == len(re.findall(r"^\d\. ", solutions, re.M)) <= 3
    )


@every_notebook
def test_every_figure_is_shown_with_a_text_and_a_caption(path):
    for cell in code_cells(read(path)):
        calls = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)]
        shown = [call for call in calls if ast.unparse(call.func) == "notebook.show"]
        for call in shown:
            assert {keyword.arg for keyword in call.keywords} == {"alt", "caption"}
        drawn = [call for call in calls if ast.unparse(call.func) in ("plt.subplots", "notebook.image_grid")]
        assert not drawn or shown, f"{cell.id} draws a figure that it does not show"
        assert "plt.show(" not in cell.source


@every_notebook
def test_no_cell_waits_sleeps_or_evaluates_text(path):
    for cell in code_cells(read(path)):
        tree = ast.parse(cell.source)  # which also refuses magics such as %pip
        called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert called.isdisjoint({"input", "time.sleep", "eval", "exec"})


def test_the_list_for_the_hosted_platform_names_every_cell_that_is_run():
    document = read(PATHS[NAMES.index("08_run_the_pipeline")])
    (listing,) = [cell.source for cell in document.cells if "## On the hosted platform" in cell.source]
    named = re.findall(r"n08-\d\d", listing)
    code = [cell.id for cell in code_cells(document) if not cell.metadata.get("tags")]
    assert sorted(named) == sorted(code), "each code cell once, but for the parameters and the checks"

import resource

import pytest

from alhelpers.runs import Processes
from alhelpers.runs.preload import preloads


@pytest.fixture(scope="session")
def write_notebook():
    """Write a notebook of some cells; the first one holds the parameters, texts that begin with # are prose."""
    from alhelpers.runs.notebooks import nbformat  # imported there in the fast way

    def write(path, parameters, *sources):
        new = nbformat.v4
        cells = [new.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
        for source in sources:
            make = new.new_markdown_cell if source.startswith("#") else new.new_code_cell
            cells.append(make(source))
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(new.new_notebook(cells=cells, metadata=kernel), path)
        return path

    return write


@pytest.fixture
def notebook(write_notebook, tmp_path):
    """Write a.ipynb of some cells, the first one the parameters, and return its path."""
    return lambda *sources: write_notebook(tmp_path / "a.ipynb", *sources)


@pytest.fixture(scope="session")
def processes():
    """Processes with little imported, which are soon there."""
    with Processes(threads=2, preload=preloads("from alhelpers.notebook import record; numpy")) as running:
        yield running


@pytest.fixture
def large_files_refused():
    """Let no file be larger than 100 kB, which the system says as it says that a disk is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)

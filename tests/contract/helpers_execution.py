"""What the tests of executions share: publish a folder, wait for an execution."""

import json
import shutil
import time
from pathlib import Path

APPS = Path(__file__).parent / "apps"
# Long enough for a machine that is busy with other tests.
PATIENCE = 240


def until(condition):
    """Wait until a condition holds, and ask less often the longer it takes."""
    limit, pause = time.monotonic() + PATIENCE, 0.02
    while not condition():
        assert time.monotonic() < limit
        time.sleep(pause)
        pause = min(1.3 * pause, 0.2)


def ended(dl, execution):
    """Wait for the end of an execution."""
    until(lambda: not dl.executions.get(execution_id=execution.id).in_progress())
    return dl.executions.get(execution_id=execution.id)


def succeeded(dl, execution):
    """Wait for an execution, and show why when it fails."""
    execution = ended(dl, execution)
    assert execution.latest_status["status"] == "success", execution.latest_status.get(
        "error", execution.latest_status
    )
    return execution


def statuses(execution):
    """The statuses of an execution, in order."""
    return [entry["status"] for entry in execution.status_log]


def publish(project, folder, tmp_path, **changes):
    """Publish a copy of one of the folders of apps."""
    target = tmp_path / "code"
    shutil.copytree(APPS / folder, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    manifest = json.loads((target / "dataloop.json").read_text()) | changes
    (target / "dataloop.json").write_text(json.dumps(manifest))
    return project.dpks.publish(manifest_filepath=str(target / "dataloop.json"), local_path=str(target))

"""What the tests of executions share: publish a folder, wait for an execution."""

import json
import shutil
import time
from pathlib import Path

APPS = Path(__file__).parent / "apps"
# Long enough for a machine that is busy with other tests.
PATIENCE = 240


def ended(dl, execution):
    """Wait for an execution; the SDK's own wait() begins with two seconds of sleep."""
    limit = time.monotonic() + PATIENCE
    while execution.in_progress():
        assert time.monotonic() < limit, f"still {execution.latest_status}"
        time.sleep(0.02)
        execution = dl.executions.get(execution_id=execution.id)
    return execution


def succeeded(dl, execution):
    """Wait for an execution, and show why when it fails."""
    execution = ended(dl, execution)
    assert execution.latest_status["status"] == "success", execution.latest_status.get(
        "error", execution.latest_status
    )
    return execution


def until(condition):
    """Wait until a condition holds."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


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

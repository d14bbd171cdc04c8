"""A killed server has lost nothing it acknowledged, and left nothing half-written. Many kills: see the benchmarks."""

import os
import time

import pytest
from platform_crash import soak

KILLS = 45


@pytest.mark.skipif(
    not hasattr(os, "fork"), reason="servers are forked here, so that many of them start in no time"
)
def test_nothing_acknowledged_is_lost_when_the_server_is_killed(tmp_path):
    # About 20 seconds; on a machine that is busy with other things as many kills as fit into a minute.
    kills, requests, _ = soak(tmp_path, KILLS, stop_at=time.monotonic() + 60)
    assert kills >= 10 and requests > 100

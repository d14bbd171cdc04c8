"""The offline platform: an HTTP server on 127.0.0.1 that the unmodified Dataloop SDK talks to.

``start()`` serves in a thread of this process, ``ensure()`` finds or starts a process of its own that several notebooks
share, and ``cookie()`` gives what logs the SDK in. DIFFERENCES.md lists what the hosted platform does otherwise.
"""

from .errors import StateFolderBusy, StateUnusable
from .launcher import Platform, cookie, ensure, running, start

__all__ = ["Platform", "StateFolderBusy", "StateUnusable", "cookie", "ensure", "running", "start"]

"""Routes of what runs at the moment: the worker processes of a service, and the logs that they write."""

import asyncio

from aiohttp import web

from ...logs import LogFilter
from ...uploads import read_body
from ...validation import require
from ...workers import Change, Dispatcher
from ..executions import models as executions

# How many lines of a log one answer holds, and how long a client that follows it waits for the next line.
LOG_PAGE = 1000
LOG_WAIT = 2.0


class ServiceLogs:
    """The routes; `change` runs a function on the state thread, as one transaction."""

    def __init__(self, change: Change, workers: Dispatcher) -> None:
        self._change, self._workers = change, workers

    def add_to(self, router: web.UrlDispatcher, api: str) -> None:
        router.add_route("POST", f"{api}/services/logs", self._read)
        router.add_route("GET", f"{api}/services/{{service_id}}/status", self._status)

    async def _status(self, request: web.Request) -> web.Response:
        service_id = request.match_info["service_id"]
        service = await self._change(lambda call: call.store.get("services", service_id))
        replicas = self._workers.replicas(service_id)
        shown = {"serviceId": service_id, "active": service["active"], "version": service["version"]}
        return web.json_response(shown | {"runtimeStatus": replicas, "numReplicas": len(replicas)})

    async def _read(self, request: web.Request) -> web.Response:
        """Answer with the next lines of services' logs; a client that follows a log waits a little for them."""
        body = require(await read_body(request))
        wanted, size = LogFilter(body), body.get("size")
        size = size if isinstance(size, int) and 0 < size < LOG_PAGE else LOG_PAGE
        sources = await self._change(lambda call: executions.log_sources(call.store, body))
        checkpoint = body.get("checkpoint") if isinstance(body.get("checkpoint"), dict) else {}
        grown = self._workers.logged
        found, checkpoint = await asyncio.to_thread(
            self._workers.logs.read_all, sources["services"], checkpoint, wanted, size
        )
        following = bool(body.get("follow")) and not sources["ended"]
        if following and not found:
            await self._workers.wait_for_log(grown, LOG_WAIT)
        return web.json_response(
            {"logs": found, "checkpoint": checkpoint, "stop": not found and not following}
        )

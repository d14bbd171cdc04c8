"""What the services share: a call, its answer, and how a stored document becomes JSON."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .clock import Clock
from .errors import bad_request
from .events import Event
from .query import Page, search
from .store import Row, Store
from .validation import require


@dataclass(frozen=True)
class Raw:
    """JSON text that is ready to send, with extra headers where wanted."""

    text: str
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Call:
    """One request, as a service sees it, inside its transaction.

    ``base`` is the url of the API, for links; ``user`` is the e-mail address in the token, ``params`` are the variable
    parts of the path, ``query`` is the query string, ``body`` is the parsed JSON or form, or None.
    """

    store: Store
    base: str
    user: str
    params: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    clock: Clock = field(default_factory=Clock)

    @property
    def system(self) -> bool:
        """Whether the caller may change system metadata."""
        return self.query.get("system") == "true"


Handler = Callable[[Call], Any]
# Runs inside the transaction of the request that caused the event: both commit, or neither.
Listener = Callable[[Call, Event], None]
# A listener may cause the next event (an item starts a pipeline, which creates an item); such a loop must end.
MAX_EVENTS = 100_000


@dataclass(frozen=True)
class Route:
    """A method and a path under the API's root, and the function that answers it on the state thread."""

    method: str
    path: str
    handler: Handler


# Links depend on the port, which may change between runs: they are added to answers, never stored.
LINKS: dict[str, Callable[[str, Row], str]] = {
    "items": lambda base, row: (
        f'{{"url":"{base}/items/{row.id}","stream":"{base}/items/{row.id}/stream",'
        f'"thumbnail":"{base}/items/{row.id}/thumbnail","dataset":"{base}/datasets/{row.scope}",'
    ),
    "annotations": lambda base, row: (
        f'{{"url":"{base}/annotations/{row.id}","item":"{base}/items/{row.parent}",'
        f'"dataset":"{base}/datasets/{row.scope}",'
    ),
    "models": lambda base, row: f'{{"url":"{base}/ml/models/{row.id}",',
    "dpks": lambda base, row: f'{{"url":"{base}/app-registry/{row.id}",',
    "apps": lambda base, row: f'{{"url":"{base}/apps/{row.id}",',
    "pipelines": lambda base, row: f'{{"url":"{base}/pipelines/{row.id}",',
    "recipes": lambda base, row: f'{{"url":"{base}/recipes/{row.id}",',
    "ontologies": lambda base, row: f'{{"url":"{base}/ontologies/{row.id}",',
    "commands": lambda base, row: f'{{"url":"{base}/commands/{row.id}",',
    "metrics": lambda base, row: "{",
    "tasks": lambda base, row: f'{{"url":"{base}/tasks/{row.id}",',
    "assignments": lambda base, row: f'{{"url":"{base}/assignments/{row.id}",',
    "scores": lambda base, row: f'{{"url":"{base}/scores/{row.id}",',
    "services": lambda base, row: f'{{"url":"{base}/services/{row.id}",',
    "packages": lambda base, row: f'{{"url":"{base}/packages/{row.id}",',
    "executions": lambda base, row: f'{{"url":"{base}/executions/{row.id}",',
    "triggers": lambda base, row: f'{{"url":"{base}/triggers/{row.id}",',
    "cycles": lambda base, row: f'{{"url":"{base}/pipelines/{row.parent}/executions/{row.id}",',
    "feature_sets": lambda base, row: f'{{"url":"{base}/features/sets/{row.id}",',
    "feature_vectors": lambda base, row: f'{{"url":"{base}/features/vectors/{row.id}",',
}


def render(call: Call, kind: str, row: Row, extra: str = "") -> str:
    """Render a document as JSON, with its links and the fields in `extra`."""
    if kind == "items" and not extra:
        extra = f'"annotations":"{call.base}/items/{row.id}/annotations",'
    return LINKS[kind](call.base, row) + extra + row.doc[1:]


def one(call: Call, kind: str, document_id: str, label: str | None = None) -> Raw:
    """Answer with one document."""
    return Raw(render(call, kind, call.store.row(kind, document_id, label)))


def listed(call: Call, kind: str, rows: Iterable[Row]) -> Raw:
    """Answer with a plain list of documents."""
    return Raw("[" + ",".join(render(call, kind, row) for row in rows) + "]")


def paged(call: Call, kind: str, page: Page) -> Raw:
    """Answer with a page, in the envelope that the SDK expects."""
    items = ",".join(render(call, kind, row) for row in page.rows)
    return Raw(f'{{"items":[{items}],{json.dumps(page.envelope())[1:]}')


def fetch(kind: str, param: str, label: str | None = None) -> Handler:
    """Build the handler that answers with the document whose id is in the path."""
    return lambda call: one(call, kind, call.params[param], label)


def remove(delete: Callable[[Store, str], Any], param: str) -> Handler:
    """Build the handler that deletes what the id in the path names, and answers with the id."""

    def handler(call: Call) -> dict[str, Any]:
        delete(call.store, call.params[param])
        return {"id": call.params[param]}

    return handler


def query_all(kind: str) -> Handler:
    """Build the handler that answers a query for the documents of a kind."""
    return lambda call: paged(call, kind, search(call.store, kind, require(call.body)))


def run_listeners(call: Call, listeners: dict[tuple[str, str], list[Listener]]) -> list[Event]:
    """Call the listeners of all events of a transaction, and of the events that these cause; return all events."""
    done = 0
    events = call.store.events
    # A request may itself emit any number of events, such as a change of all items of a large dataset.
    limit = len(events) + MAX_EVENTS
    while done < len(events):
        if done >= limit:
            raise bad_request(
                f"this causes more than {MAX_EVENTS} events that cause each other: do pipelines run in a ring?"
            )
        event = events[done]
        done += 1
        for listener in listeners.get((event.resource, event.action), ()):
            listener(call, event)
    return list(events)

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


# Links depend on the port, which may change between runs: they are added to answers, never stored. Here are those of a
# kind whose address is not "/kind/id"; an empty text: none at all.
LINKS: dict[str, str] = {
    "items": '"url":"{base}/items/{id}","stream":"{base}/items/{id}/stream",'
    '"thumbnail":"{base}/items/{id}/thumbnail","dataset":"{base}/datasets/{scope}",',
    "annotations": '"url":"{base}/annotations/{id}","item":"{base}/items/{parent}",'
    '"dataset":"{base}/datasets/{scope}",',
    "models": '"url":"{base}/ml/models/{id}",',
    "dpks": '"url":"{base}/app-registry/{id}",',
    "cycles": '"url":"{base}/pipelines/{parent}/executions/{id}",',
    "feature_sets": '"url":"{base}/features/sets/{id}",',
    "feature_vectors": '"url":"{base}/features/vectors/{id}",',
    "metrics": "",
}


def render(call: Call, kind: str, row: Row, extra: str = "") -> str:
    """Render a document as JSON, with its links and the fields in `extra`."""
    if kind == "items" and not extra:
        extra = f'"annotations":"{call.base}/items/{row.id}/annotations",'
    links = LINKS.get(kind, f'"url":"{{base}}/{kind}/{{id}}",')
    links = links.format(base=call.base, id=row.id, scope=row.scope, parent=row.parent)
    return "{" + links + extra + row.doc[1:]


def one(call: Call, kind: str, document_id: str, label: str | None = None) -> Raw:
    return Raw(render(call, kind, call.store.row(kind, document_id, label)))


def listed(call: Call, kind: str, rows: Iterable[Row]) -> Raw:
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

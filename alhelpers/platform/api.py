"""What the services share: a call, its answer, and how a stored document becomes JSON."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .clock import Clock
from .errors import bad_request
from .events import Event
from .query import MAX_PAGE, Page
from .store import Row, Store
from .validation import whole_number


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


# Where documents of a kind are, if it is not `/kind/id`.
PATHS = {
    **{"models": "ml/models", "dpks": "app-registry", "tasks": "annotationtasks", "computes": "compute"},
    **{"feature_sets": "features/sets", "feature_vectors": "features/vectors"},
    **{"service_drivers": "serviceDrivers", "bots": "projects/{}/bots"},
    **{"integrations": "orgs/{}/integrations"},
}


def _links(base: str, kind: str, row: Row) -> str:
    """Return the links of a document, as its JSON begins: they depend on the port, and are never stored."""
    url = f"{base}/{PATHS.get(kind, kind).format(row.scope)}/{row.id}"
    dataset = f'"dataset":"{base}/datasets/{row.scope}",'
    if kind == "items":
        return f'{{"url":"{url}","stream":"{url}/stream","thumbnail":"{url}/thumbnail",{dataset}'
    if kind == "annotations":
        return f'{{"url":"{url}","item":"{base}/items/{row.parent}",{dataset}'
    # A metric has no address of its own.
    return "{" if kind == "metrics" else f'{{"url":"{url}",'


def render(call: Call, kind: str, row: Row, extra: str = "") -> str:
    """Render a document as JSON, with its links and the fields in `extra`."""
    if kind == "items" and not extra:
        extra = f'"annotations":"{call.base}/items/{row.id}/annotations",'
    return _links(call.base, kind, row) + extra + row.doc[1:]


def one(call: Call, kind: str, document_id: str) -> Raw:
    return Raw(render(call, kind, call.store.row(kind, document_id)))


def listed(call: Call, kind: str, rows: Iterable[Row]) -> Raw:
    return Raw("[" + ",".join(render(call, kind, row) for row in rows) + "]")


def paged(call: Call, kind: str, page: Page) -> Raw:
    """Answer with a page, in the envelope that the SDK expects."""
    items = ",".join(render(call, kind, row) for row in page.rows)
    return Raw(f'{{"items":[{items}],{json.dumps(page.envelope())[1:]}')


def paged_by_url(call: Call, kind: str, rows: Iterable[Row], default: int = 100) -> Raw:
    """Answer with the page of documents that the query string asks for."""
    rows, number = list(rows), whole_number(call.query, "pageOffset", 0)
    size = min(whole_number(call.query, "pageSize", default), MAX_PAGE)
    return paged(call, kind, Page.of(rows, number, size))


def with_id(function: Callable[[Store, str], Any]) -> Listener:
    """Build the listener that calls a function with the id of what an event happened to."""

    def listener(call: Call, event: Event) -> None:
        function(call.store, event.id)

    return listener


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
            call.store.cause = event.cause
            listener(call, event)
    return list(events)

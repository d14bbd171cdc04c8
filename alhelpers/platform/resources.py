"""Families of documents with the usual routes: create, get, update, delete, and a list or a query."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .api import Call, Handler, Raw, Route, listed, one, paged
from .query import search
from .store import Document, Store, created, now
from .validation import require


def everywhere(call: Call) -> dict[str, Any]:
    """Leave a query without limits: it reaches all documents of the kind."""
    return {}


def by_user(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of the store, documents and a user create or update the documents of a resource."""
    return lambda call, *documents: function(call.store, *documents, call.user)


@dataclass(frozen=True)
class Resource:
    """Documents of one kind under a path; each function that is given has its route.

    `create` makes a document of a request's body, `update` writes a changed one, `delete` takes an id. `query` and
    `listing` return the fields that a query or a list is limited to, `answer` renders the document with an id.
    """

    kind: str
    path: str
    create: Callable[[Call, Document], Document] | None = None
    update: Callable[[Call, Document, Document], Any] | None = None
    delete: Callable[[Store, str], Any] | None = None
    query: Callable[[Call], dict[str, Any]] | None = None
    listing: Callable[[Call], dict[str, Any]] | None = None
    answer: Callable[[Call, str], Any] | None = None
    methods: tuple[str, ...] = ("PATCH",)

    @property
    def routes(self) -> list[Route]:
        place = f"{self.path}/{{id}}"
        known = [
            ("GET", place, self.get, True),
            ("POST", self.path, self._create, self.create),
            *((method, place, self._update, self.update) for method in self.methods),
            ("DELETE", place, self._delete, self.delete),
            ("POST", f"{self.path}/query", self._query, self.query),
            ("GET", self.path, self.list_all, self.listing),
        ]
        return [Route(method, path, handler) for method, path, handler, given in known if given]

    def get(self, call: Call) -> Any:
        """Answer with the document whose id is in the path."""
        return self._answer(call, call.params["id"])

    def at(self, method: str, name: str, action: Callable[[Call, Document], Any]) -> Route:
        """Build the route of an action on one document: it answers with the result, or if that is None the document."""
        return Route(method, f"{self.path}/{{id}}/{name}", self.doing(action))

    def doing(self, action: Callable[[Call, Document], Any]) -> Handler:
        """Build the handler that passes the document whose id is in the path to a function."""

        def handler(call: Call) -> Any:
            document = call.store.get(self.kind, call.params["id"])
            result = action(call, document)
            return self._answer(call, document["id"]) if result is None else result

        return handler

    def _answer(self, call: Call, document_id: str) -> Any:
        return self.answer(call, document_id) if self.answer else one(call, self.kind, document_id)

    def _create(self, call: Call) -> Any:
        return self._answer(call, self.create(call, require(call.body))["id"])

    def _update(self, call: Call) -> Any:
        self.update(call, call.store.get(self.kind, call.params["id"]), require(call.body))
        return self._answer(call, call.params["id"])

    def _delete(self, call: Call) -> Document:
        self.delete(call.store, call.params["id"])
        return {"id": call.params["id"]}

    def _query(self, call: Call) -> Raw:
        return paged(call, self.kind, search(call.store, self.kind, require(call.body), **self.query(call)))

    def list_all(self, call: Call) -> Raw:
        """Answer with the documents that a list is limited to, the newest first."""
        return listed(call, self.kind, call.store.find(self.kind, order="-id", **self.listing(call)))


Check = Callable[[Call, Document], None]


def plain(
    kind: str,
    path: str,
    fields: tuple[str, ...],
    required: tuple[str, ...] = ("name",),
    check: Check | None = None,
    **limits: Callable[[Call], dict[str, Any]],
) -> Resource:
    """Build the resource of documents that are stored as they are sent, without an effect on others.

    `fields` are taken from a request, those in `required` must be non-empty strings, and `check` may refuse a document
    or complete it before it is written; `limits` are the `query` and `listing` of the resource. A variable part of the
    path is a field of the documents.
    """

    def write(call: Call, document: Document, body: Document) -> Document:
        document = document | {key: body[key] for key in fields if key in body}
        document = {key: value for key, value in document.items() if value is not None}
        require(document, *required)
        if check is not None:
            check(call, document)
        call.store.put(kind, document)
        return document

    def create(call: Call, body: Document) -> Document:
        return write(call, {**call.params, "id": call.store.new_id(), **created(call.user)}, body)

    def update(call: Call, document: Document, body: Document) -> None:
        write(call, document | {"updatedAt": now()}, body)

    def delete(store: Store, document_id: str) -> None:
        store.row(kind, document_id)
        store.delete(kind, id=document_id)

    return Resource(kind, path, create, update, delete, **limits)

"""What happened inside a request: services react to each other's events without importing each other."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """Something that happened to one entity.

    ``resource`` is the kind of entity in the words of triggers (``Item``, ``Annotation``, ``Task``, ...), ``action`` is
    ``Created``, ``Updated``, ``Deleted``, ``statusChanged``, ...; ``detail`` holds what else a listener needs.
    ``cause`` is which triggers have led to it, or None if none has.
    """

    resource: str
    action: str
    id: str
    detail: dict[str, Any] = field(default_factory=dict)
    cause: dict[str, Any] | None = None

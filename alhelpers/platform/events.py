"""What happened inside a request, and who wants to know: services react to each other without importing each other."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Call

# A reaction may cause the next event (an item starts a pipeline, which creates an item); a ring of them must end.
MAX_EVENTS = 100_000


@dataclass(frozen=True)
class Event:
    """Something that happened to one entity.

    Parameters
    ----------
    resource : str
        The kind of entity, in the words of triggers: ``Item``, ``Annotation``, ``Dataset``, ``Task``, ``Model``,
        ``Execution``, ...
    action : str
        What happened to it: ``Created``, ``Updated``, ``Deleted``, ``statusChanged``, ``finished``, ...
    id : str
        The entity.
    detail : dict
        What else a listener needs, as plain data.
    """

    resource: str
    action: str
    id: str
    detail: dict[str, Any] = field(default_factory=dict)


# Runs inside the transaction of the request that caused the event: both commit, or neither.
Listener = Callable[["Call", Event], None]


def settle(call: "Call", listeners: dict[tuple[str, str], list[Listener]]) -> list[Event]:
    """Tell the listeners of all events of a transaction, and of the events that these cause.

    Returns
    -------
    list of Event
        All that happened, in order.
    """
    done = 0
    events = call.store.events
    # A request may itself tell of any number of things, such as a change of all items of a large dataset.
    most = len(events) + MAX_EVENTS
    while done < len(events):
        if done >= most:
            raise RuntimeError(
                f"more than {MAX_EVENTS} events caused by events: do listeners cause each other?"
            )
        event = events[done]
        done += 1
        for listener in listeners.get((event.resource, event.action), ()):
            listener(call, event)
    return list(events)

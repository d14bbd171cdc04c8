"""The errors that become HTTP answers: each names the thing, the value and the way out."""

from typing import NoReturn


class ApiError(Exception):
    """A refusal with an HTTP status that the SDK turns into one of its own exceptions.

    Parameters
    ----------
    status : int
        The HTTP status. Never 501-508, 510 or 511: the SDK retries those for half a minute.
    message : str
        What is wrong and what to do about it.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def bad_request(message: str) -> ApiError:
    """Build a 400: the caller can mend the request."""
    return ApiError(400, message)


def not_found(kind: str, value: object) -> ApiError:
    """Build a 404 that names what was looked for."""
    return ApiError(404, f"{kind} not found: {value!r}. Check the id, or list what the project holds.")


def not_emulated(what: str) -> ApiError:
    """Build the 404 for features of the hosted platform that this server does not have."""
    return ApiError(404, f"not emulated offline: {what}. See alhelpers/platform/DIFFERENCES.md.")


def refuse(message: str) -> NoReturn:
    """Raise a 400."""
    raise bad_request(message)


class StateFolderBusy(RuntimeError):
    """Another server already owns the state folder."""


class StateUnusable(RuntimeError):
    """The state folder holds a database that this version cannot read."""

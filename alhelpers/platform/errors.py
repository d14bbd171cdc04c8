"""The errors that become HTTP answers: each names the thing, the value and the way out."""


class ApiError(Exception):
    """A refusal with an HTTP status, for which trying again does not help; the SDK retries 501-508, 510 and 511."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def bad_request(message: str) -> ApiError:
    return ApiError(400, message)


def not_found(kind: str, value: object) -> ApiError:
    return ApiError(404, f"{kind} not found: {value!r}. Check the id, or list what the project holds.")


def not_emulated(what: str) -> ApiError:
    """Build the 404 for features of the hosted platform that this server does not have."""
    return ApiError(404, f"not emulated offline: {what}. See alhelpers/platform/DIFFERENCES.md.")


class StateFolderBusy(RuntimeError):
    """Another server already owns the state folder."""


class StateUnusable(RuntimeError):
    """The state folder is not the platform's, or this version cannot read or write what it holds."""

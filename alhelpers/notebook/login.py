"""Log the SDK in to the hosted platform: by the environment, or in the browser; never without an end."""

from __future__ import annotations

import logging
import os
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

_KEY, _EMAIL, _PASSWORD = "DATALOOP_API_KEY", "DATALOOP_EMAIL", "DATALOOP_PASSWORD"
_WAY_OUT = (
    f"set the environment variable {_KEY}, or {_EMAIL} and {_PASSWORD} (machine to machine), and call connect()"
    " again"
)

Answer = TypeVar("Answer")


def variable_to_log_in_by() -> str | None:
    """Return the variable that decides how to log in, or None; raise RuntimeError if they contradict each other."""
    given = [name for name in (_KEY, _EMAIL, _PASSWORD) if os.environ.get(name)]
    if _KEY in given and len(given) > 1:
        raise RuntimeError(f"{_KEY} and {given[1]} are both set: unset one of them")
    if len(given) == 1 and given != [_KEY]:
        (missing,) = {_EMAIL, _PASSWORD} - set(given)
        raise RuntimeError(f"{given[0]} is set and {missing} is not: set both, or {_KEY}")
    return given[0] if given else None


def log_in(dl: ModuleType, seconds: float) -> None:
    """Log in by the environment if it says how, or else, unless the SDK is logged in already, in the browser.

    Raises
    ------
    RuntimeError
        If the platform refuses the login or cannot be reached; or there is no browser, or nobody logs in.
    TimeoutError
        If it takes longer.
    """
    variable = variable_to_log_in_by()
    address = dl.environment()
    if variable is None:
        if within(seconds, f"the hosted platform {address} to answer", dl.token_expired):
            within(seconds, "the login in the browser", lambda: _in_browser(dl))
        return
    by_environment = _by_key if variable == _KEY else _by_password
    try:
        with _nothing_logged(), _former_login_kept(dl.client_api):
            within(seconds, f"the login by {variable} at {address}", lambda: by_environment(dl))
    except TimeoutError:
        raise
    # The text of an error may hold what was sent; so does a traceback that shows the values of variables.
    except OSError as error:
        problem = f"{address} can't be reached ({type(error).__name__}): check the network and the proxy"
    except Exception as error:  # noqa: BLE001 - the SDK raises of several kinds
        problem = f"{address} refused the login by {variable} ({type(error).__name__}): check its value"
    else:
        return
    raise RuntimeError(f"the hosted platform {problem}")


def within(seconds: float, what: str, call: Callable[[], Answer]) -> Answer:
    """Return what a call returns; raise TimeoutError if that takes longer, and leave the call behind."""
    found: list[Answer] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError(
            f"waited {seconds:g} s for {what}: check the network, or pass connect() a longer timeout; in a run without"
            f" a browser, {_WAY_OUT}"
        )
    return found[0]


def _by_key(dl: ModuleType) -> None:
    dl.login_api_key(os.environ[_KEY])


def _by_password(dl: ModuleType) -> None:
    if not dl.login_m2m(email=os.environ[_EMAIL], password=os.environ[_PASSWORD]):
        raise RuntimeError("refused")


def _in_browser(dl: ModuleType) -> None:
    """Log in by the browser, for which the SDK waits a minute; raise RuntimeError without a browser or a login."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        browser = None
    # Without a display Python offers browsers of the terminal, which a kernel does not have.
    if browser is None or (type(browser) is webbrowser.GenericBrowser and "BROWSER" not in os.environ):
        raise RuntimeError(f"there is no browser to log in to the hosted platform: {_WAY_OUT}")
    if not dl.login():
        raise RuntimeError(f"the login in the browser was not completed: call connect() again, or {_WAY_OUT}")


@contextmanager
def _former_login_kept(client: Any) -> Iterator[None]:
    """Bring back, after a failure, the login that the SDK had; it forgets that first."""
    token, refresh_token = client.token, client.refresh_token
    try:
        yield
    except Exception:
        client.token = token
        client.refresh_token = refresh_token  # setting the token forgets it
        raise


@contextmanager
def _nothing_logged() -> Iterator[None]:
    """Silence the SDK, which logs what the platform answers, and at the level DEBUG what it is sent."""
    logger = logging.getLogger("dtlpy")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)

"""Log-in of the page: the key in its link, the cookie, and the token of its forms.

The cookie is not the API's token: a browser sends cookies of 127.0.0.1 to all ports, so another local server may read
them. Sessions are not stored; cookies are signed with the state folder's secret.
"""

import secrets
import time

from ..auth import Credentials, equal, sign

LIFETIME = 7 * 24 * 3600
COOKIE = "alhelpers-page"


def link_key(token: str) -> str:
    """Return the key in the page's link, derived from the API's token without revealing it."""
    return _sign(token, "link")[:40]


def is_key(credentials: Credentials, offered: str) -> bool:
    """Check, in constant time, for the key of the link, the API's token, or the secret."""
    known = (link_key(credentials.token), credentials.token, credentials.secret)
    # A list, not a generator: all are compared, whichever matches.
    return any([equal(offered, one) for one in known])


def new_session(credentials: Credentials) -> str:
    value = f"{int(time.time()) + LIFETIME}.{secrets.token_hex(12)}"
    return f"{value}.{_sign(credentials.secret, 'session ' + value)}"


def is_session(credentials: Credentials, cookie: str) -> bool:
    value, _, signature = cookie.rpartition(".")
    genuine = equal(signature, _sign(credentials.secret, "session " + value))
    return genuine and int(value.partition(".")[0]) > time.time()


def form_token(credentials: Credentials, cookie: str) -> str:
    """Return the token of a session's forms, without which other sites cannot send them."""
    return _sign(credentials.secret, "form " + cookie)


def _sign(key: str, text: str) -> str:
    return sign(key, f"alhelpers page: {text}")

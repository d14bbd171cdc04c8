"""Who may see the page: a link that logs a browser in, its cookie, and the token that its forms carry.

The cookie is no token: a browser sends the cookies of 127.0.0.1 to every port of it, so what another local server could
collect must not open the API. Nothing is stored; what was signed with the state folder's secret is ours.
"""

import hashlib
import hmac
import secrets
import time

from ..auth import Credentials

LIFETIME = 7 * 24 * 3600
COOKIE = "alhelpers-page"


def link_key(token: str) -> str:
    """Give the key in the page's link: made from the API's token, which it does not reveal."""
    return _sign(token, "link")[:40]


def knows(credentials: Credentials, offered: str) -> bool:
    """Say whether this is the key of the link, the API's token, or the secret; in constant time."""
    known = (link_key(credentials.token), credentials.token, credentials.secret)
    # No short-cut: all are compared, whichever fits.
    return any([_equal(offered, one) for one in known])


def new_session(credentials: Credentials) -> str:
    """Make a cookie's value, good for a week."""
    value = f"{int(time.time()) + LIFETIME}.{secrets.token_hex(12)}"
    return f"{value}.{_sign(credentials.secret, 'session ' + value)}"


def is_session(credentials: Credentials, cookie: str) -> bool:
    """Say whether a cookie is one of ours, and not too old."""
    value, _, signature = cookie.rpartition(".")
    genuine = _equal(signature, _sign(credentials.secret, "session " + value))
    return genuine and int(value.partition(".")[0]) > time.time()


def form_token(credentials: Credentials, cookie: str) -> str:
    """Give what the forms of one session carry, so that no other site can send them."""
    return _sign(credentials.secret, "form " + cookie)


def is_form_token(credentials: Credentials, cookie: str, offered: str) -> bool:
    """Say whether a form comes from a page of this session."""
    return _equal(offered, form_token(credentials, cookie))


def _sign(key: str, text: str) -> str:
    content = text.encode(errors="surrogatepass")
    return hmac.new(key.encode(), b"alhelpers page: " + content, hashlib.sha256).hexdigest()


def _equal(offered: str, known: str) -> bool:
    return hmac.compare_digest(offered.encode(errors="surrogatepass"), known.encode())

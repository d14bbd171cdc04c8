"""The token that every call carries, and the secret behind it."""

import hmac
import json
import logging
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

import jwt

from alhelpers.files import replacing

logger = logging.getLogger(__name__)

# Names the executions of a service whose code sends a request.
CAUSE_HEADER = "X-Execution-Ids"
EMAIL = "local@alhelpers.invalid"
# Far ahead: a notebook stays logged in as long as its state folder exists.
EXPIRES = 4_102_444_800  # 2100-01-01


@dataclass(frozen=True)
class Credentials:
    """The secret and the token; kept in the state folder, readable by its owner only, and never logged."""

    secret: str
    token: str
    email: str

    def accepts(self, header: str | None) -> bool:
        """Compare an ``Authorization`` header with the token, in constant time."""
        scheme, _, token = (header or "").partition(" ")
        return equal(token.strip(), self.token) and scheme.lower() == "bearer"

    def login(self, body: dict[str, object]) -> bool:
        offered = body.get("refresh_token" if body.get("type") == "refresh_token" else "password")
        return isinstance(offered, str) and equal(offered, self.secret)


def equal(offered: str, known: str) -> bool:
    """Compare two texts in constant time; what a client sends may hold surrogates."""
    return hmac.compare_digest(offered.encode(errors="surrogatepass"), known.encode())


def sign(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(errors="surrogatepass"), "sha256").hexdigest()


def read_credentials(folder: Path) -> Credentials | None:
    """Read the credentials of a state folder, or return None if they are missing or not the platform's."""
    try:
        credentials = Credentials(**json.loads((folder / "credentials.json").read_text()))
        jwt.decode(credentials.token, credentials.secret, algorithms=["HS256"], options={"verify_iat": False})
    except (OSError, ValueError, TypeError, RecursionError, jwt.PyJWTError):
        return None
    return credentials


def load_credentials(folder: Path) -> Credentials:
    """Read the credentials of a state folder, or make them; the caller holds its lock."""
    if credentials := read_credentials(folder):
        return credentials
    path = folder / "credentials.json"
    if path.exists():
        logger.warning("%s was damaged: there is a new token, and programs must log in again", path)
    secret = secrets.token_hex(32)
    token = jwt.encode({"email": EMAIL, "sub": EMAIL, "iat": 0, "exp": EXPIRES}, secret, algorithm="HS256")
    credentials = Credentials(secret=secret, token=token, email=EMAIL)
    write_private(path, asdict(credentials))
    return credentials


def prove(token: str, challenge: str, url: str) -> str:
    """Return what only the server at this address that knows the token can answer to a challenge."""
    return sign(token, f"alhelpers server at {url}: {challenge}")


def write_private(path: Path, content: dict[str, object]) -> None:
    """Write a JSON file that only its owner can read, whole or not at all."""
    with replacing(path, mode=0o600) as part:
        part.write_text(json.dumps(content))


def sdk_cookie(url: str, environment: str, token: str, cache: Path) -> dict[str, object]:
    """Build the content of the file that logs the SDK in; `environment` is the root of the API."""
    login = {
        "alias": "local",
        "audience": environment,
        "client_id": "local",
        "auth0_url": url,
        "token": token,
        "refresh_token": None,
        "gate_url": url,
        "url": f"{url}/",
        "verify_ssl": True,
        "use_ssl_context": False,
        "login_domain": None,
    }
    bars = (
        *("Iterate Pages", "Command Progress", "Download Dataset", "Download Item", "Upload Items"),
        *("Download Annotations", "Upload Annotations", "Convert Annotations"),
    )
    return {
        "url": environment,
        "login_parameters": {environment: login},
        "fetch_entities": True,
        "verbose": {
            "logging_level": "warning",
            "disable_progress_bar": True,
            "print_all_responses": False,
            "print_error_logs": False,
            "progress_bar_setting": json.dumps(dict.fromkeys(bars, True)),
        },
        "cache_configs": {
            "cache_path": str(cache / "objects"),
            "cache_path_bin": str(cache),
            "use_cache": False,
        },
    }

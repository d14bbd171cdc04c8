"""The token that every call carries, and the secret behind it."""

import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

import jwt

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
        # The server decodes odd bytes of a header as surrogates.
        offered = token.strip().encode(errors="surrogateescape")
        return hmac.compare_digest(offered, self.token.encode()) and scheme.lower() == "bearer"

    def login(self, body: dict[str, object]) -> bool:
        offered = body.get("refresh_token" if body.get("type") == "refresh_token" else "password")
        return isinstance(offered, str) and hmac.compare_digest(
            offered.encode(errors="surrogatepass"), self.secret.encode()
        )


def load_credentials(folder: Path) -> Credentials:
    """Read the credentials of a state folder, or make them; the caller holds its lock."""
    path = folder / "credentials.json"
    if path.is_file():
        return Credentials(**json.loads(path.read_text()))
    secret = secrets.token_hex(32)
    token = jwt.encode({"email": EMAIL, "sub": EMAIL, "iat": 0, "exp": EXPIRES}, secret, algorithm="HS256")
    credentials = Credentials(secret=secret, token=token, email=EMAIL)
    write_private(path, asdict(credentials))
    return credentials


def write_private(path: Path, content: dict[str, object]) -> None:
    """Write a JSON file that only its owner can read, all at once."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w") as file:
        json.dump(content, file)
    os.replace(temporary, path)


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
        "Iterate Pages",
        "Command Progress",
        "Download Dataset",
        "Download Item",
        "Upload Items",
        "Download Annotations",
        "Upload Annotations",
        "Convert Annotations",
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

"""What a hostile or broken client sends is refused or harmless; one test a way in."""

import gzip
import http.client
import io
import json
import socket
import struct
import time
import zipfile
import zlib
from pathlib import Path

import psutil
import pytest
from platform_client import Client, Refused

import alhelpers.platform
from alhelpers.platform import server
from alhelpers.platform.auth import Credentials
from alhelpers.platform.server import Server, is_loopback
from alhelpers.platform.uploads import FORM_LIMIT

LIMIT = 1 << 20


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    with alhelpers.platform.start(tmp_path_factory.mktemp("secure"), upload_limit=LIMIT) as platform:
        yield platform


@pytest.fixture(scope="module")
def client(platform):
    return Client(platform.url, platform.token)


@pytest.fixture(scope="module")
def token(platform):
    return {"Authorization": f"Bearer {platform.token}"}


@pytest.fixture
def dataset(client):
    dataset.number = getattr(dataset, "number", 0) + 1
    return client.dataset(f"d{dataset.number}")["id"]


def speak(platform, text, timeout=20.0):
    """Send bytes as they are, and return the whole answer."""
    host, port = platform.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        connection.sendall(text if isinstance(text, bytes) else text.encode())
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


def ask(platform, method, path, headers, body=None):
    """Send a request with exactly these headers, and return status, headers and content."""
    connection = http.client.HTTPConnection(platform.url.removeprefix("http://"), timeout=20)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def total(client, dataset, condition=None, **query):
    """Query a dataset, and return how many items it found."""
    body = {"filter": condition or {}} | query
    return client.send("POST", f"/datasets/{dataset}/query", body)["totalItemsCount"]


def refused(call, *arguments, **options):
    with pytest.raises(Refused) as caught:
        call(*arguments, **options)
    return caught.value


def api_routes(folder):
    """List (method, path) of every route of a server."""
    server = Server(folder)
    try:
        routes = server._application().router.routes()
        return sorted({(route.method, route.resource.canonical) for route in routes})
    finally:
        server.store.close()


def test_every_route_but_the_login_needs_the_token(platform, tmp_path):
    routes = [route for route in api_routes(tmp_path) if route[1].startswith("/api/")]
    assert len(routes) > 50
    wrong = [
        {},
        {"Authorization": "Bearer x"},
        {"Authorization": "Bearer \xe9"},
        {"Authorization": f"Basic {platform.token}"},
        {"Authorization": f"Bearer {platform.token}x"},
        {"Authorization": f"Bearer {platform.token[:-1]}"},
        {"Cookie": f"Authorization=Bearer {platform.token}; token={platform.token}"},
    ]
    for method, path in routes:
        for headers in wrong:
            path = path.replace("{", "").replace("}", "")
            status, _, content = ask(platform, method.replace("*", "GET"), path, headers)
            assert status == 401, (method, path)
            assert method == "HEAD" or "no valid token" in json.loads(content)["message"]
        assert ask(platform, method.replace("*", "GET"), f"{path}?token={platform.token}", {})[0] == 401


def test_unknown_addresses_need_the_token_too(platform, token):
    for path in ("/api/v1/nothing", "/api/v1/../../etc/passwd", "//etc/passwd", "/api/v2/items"):
        assert ask(platform, "GET", path, {})[0] == 401
        assert ask(platform, "GET", path, token)[0] == 404


def test_tokens_are_compared_in_constant_time(monkeypatch):
    compared, compare = [], "alhelpers.platform.auth.hmac.compare_digest"
    monkeypatch.setattr(compare, lambda *pair: compared.append(pair) or False)
    credentials = Credentials(secret="s", token="t", email="e")
    assert not credentials.accepts("Bearer t") and not credentials.login({"password": "s"})
    assert compared == [(b"t", b"t"), (b"s", b"s")]


def test_a_foreign_host_is_refused(platform, token):
    """A page at evil.example whose name is made to point here sends its own name as Host."""
    port = platform.url.rsplit(":", 1)[1]
    foreign = f"evil.example evil.example:{port} 127.0.0.1.evil.example 10.0.0.1 [::2]:80 localhost.evil"
    for host in foreign.split():
        status, _, content = ask(platform, "GET", "/api/v1/users/me", token | {"Host": host})
        assert (status, b"127.0.0.1 and localhost only" in content) == (403, True), host
        assert ask(platform, "POST", "/token", {"Host": host})[0] == 403
    for host in (f"localhost:{port}", "LOCALHOST", f"127.0.0.1:{port}", "[::1]:8080", "127.9.9.9"):
        assert ask(platform, "GET", "/api/v1/users/me", token | {"Host": host})[0] == 200, host


def test_no_other_origin_is_let_in(platform, token):
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for method, more, expected in (("OPTIONS", {}, 401), ("GET", token, 200)):
        status, answered, _ = ask(platform, method, "/api/v1/projects", headers | more)
        assert status == expected and "Set-Cookie" not in answered
        assert not any(name.lower().startswith("access-control") for name in answered)


def test_it_listens_on_the_loopback_interface_unless_asked_otherwise(platform, tmp_path):
    assert platform.url.startswith("http://127.0.0.1:")
    port = int(platform.url.rsplit(":", 1)[1])
    for *_, (address, _) in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET):
        if not is_loopback(address):
            with pytest.raises(OSError), socket.create_connection((address, port), timeout=1):
                pass
    with alhelpers.platform.start(tmp_path, host="0.0.0.0") as open_platform:
        assert open_platform.url.startswith("http://127.0.0.1:")
        headers = {"Authorization": f"Bearer {open_platform.token}", "Host": "my.machine"}
        assert ask(open_platform, "GET", "/api/v1/users/me", headers)[0] == 200
        assert ask(open_platform, "GET", "/api/v1/users/me", {"Host": "my.machine"})[0] == 401


PATHS = "../../../etc/passwd /../../x .. /a/../../b a/./b//c ....//x C:\\x /%2e%2e/x \u2025/x".split()


@pytest.mark.parametrize("path", PATHS)
def test_a_path_cannot_leave_the_dataset(platform, client, dataset, path):
    def files():
        return {each for each in Path(platform.state_dir).parent.rglob("*") if "blobs" not in each.parts}

    before = files()
    try:
        item = client.upload(dataset, path, b"x")
    except Refused as error:
        assert error.status == 400
    else:
        assert item["filename"].startswith("/") and ".." not in item["filename"].split("/")
        assert client.stream(item["id"]) == b"x"
    assert {each.name for each in files() - before} <= {"platform.sqlite-wal", "platform.sqlite-shm"}


def test_a_nul_or_nothing_in_a_path(client, dataset):
    for path in ("a\0b", "", "/", " "):
        assert refused(client.upload, dataset, path, b"x").status == 400


def test_ids_in_addresses_are_only_ids(client):
    names = "%2e%2e%2f%2e%2e%2fetc%2fpasswd ..%00 %27%20OR%201%3D1 %F0%9F%92%A9 %ff%fe".split()
    for name in (*names, "x" * 5000):
        for method, path in (("GET", "/items/{}"), ("GET", "/items/{}/stream"), ("GET", "/datasets/{}")):
            assert refused(client.send, method, path.format(name)).status in (400, 404)


def test_an_upload_over_the_limit_leaves_nothing(platform, client, dataset):
    error = refused(client.upload, dataset, "/large.bin", b"x" * (LIMIT + 1))
    assert error.status == 400 and "larger than the limit of 1048576 bytes" in str(error)
    assert total(client, dataset) == 0
    assert list((Path(platform.state_dir) / "incoming").iterdir()) == []


def test_a_compressed_bomb_is_not_unpacked(platform, client, dataset, token):
    head = b'--b\r\nContent-Disposition: form-data; name="path"\r\n\r\n/x\r\n--b\r\nContent-Disposition: form-data;'
    form = head + b' name="file"; filename="f"\r\n\r\n' + bytes(64 << 20) + b"\r\n--b--\r\n"
    headers = token | {"Content-Type": "multipart/form-data; boundary=b", "Content-Encoding": "gzip"}
    body = gzip.compress(form)
    assert ask(platform, "POST", f"/api/v1/datasets/{dataset}/items", headers, body)[0] == 415
    assert len(body) < LIMIT
    assert list((Path(platform.state_dir) / "incoming").iterdir()) == []


def test_a_picture_that_claims_to_be_huge_is_stored_and_never_decoded(client, dataset):
    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(100_000)))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")
    item = client.upload(dataset, "/bomb.png", bomb)
    assert client.stream(item["id"]) == bomb
    assert refused(client.send, "GET", f"/items/{item['id']}/thumbnail", raw=True).status in (400, 404)


def test_an_archive_is_a_file_like_any_other(platform, client, dataset):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../escaped.txt", "x")
        archive.writestr("zeros", bytes(50 << 20))
    item = client.upload(dataset, "/codebase.zip", buffer.getvalue())
    assert client.stream(item["id"]) == buffer.getvalue()
    assert not list(Path(platform.state_dir).parent.rglob("escaped.txt"))


def test_headers_and_addresses_have_limits(platform, token):
    large = f"GET /api/v1/users/me HTTP/1.1\r\nHost: localhost\r\nX: {'x' * 100_000}\r\n\r\n"
    long = f"GET /api/v1/{'x' * 100_000} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for text in (large, long, "GET / HTTP/9.9\r\n\r\n", "\0\0\0\r\n\r\n", b"\xff\xfe\r\n\r\n"):
        assert not speak(platform, text).startswith(b"HTTP/1.1 5")
    assert ask(platform, "GET", "/api/v1/users/me", token)[0] == 200


def test_bodies_that_never_end_stop_nobody_else(platform, client):
    host, port = platform.url.removeprefix("http://").split(":")
    waiting = []
    try:
        for path in ("/api/v1/projects", "/api/v1/datasets/x/items") * 20:
            connection = socket.create_connection((host, int(port)))
            connection.sendall(
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {platform.token}\r\n"
                "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n\r\n--b\r\n".encode()
            )
            waiting.append(connection)
        assert client.send("GET", "/users/me")
        assert client.project("while-others-hang")["id"]
    finally:
        for connection in waiting:
            connection.close()
    assert client.send("GET", "/users/me")


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/xml", "text/html", ""])
@pytest.mark.parametrize(
    "body", [b"{", b"\xff\xfe", b"[1,", b"<a/>", b"a=b&c", b'{"name": NaN}', b'{"x": Infinity}']
)
def test_what_is_no_json_is_a_400(client, dataset, kind, body):
    error = refused(client.send, "POST", f"/datasets/{dataset}/query", body, kind)
    assert error.status == 400 and "not valid JSON" in str(error)


def test_numbers_beyond_floats_are_refused_and_large_whole_ones_kept(client, dataset):
    item = client.upload(dataset, "/x", b"x")["id"]
    for number in (b"1e999", b"9" * 5000):
        body = b'{"metadata": {"user": {"x": ' + number + b"}}}"
        assert refused(client.send, "PATCH", f"/items/{item}", body).status == 400
    for number in (2**63, -(2**64) - 1, 10**300):
        client.send("PATCH", f"/items/{item}", {"metadata": {"user": {"x": number}}})
        assert client.send("GET", f"/items/{item}")["metadata"]["user"]["x"] == number
        assert total(client, dataset, {"metadata.user.x": number}) == 1
    for page in ({"page": 10**30, "pageSize": 10**30}, {"page": 2**63, "pageSize": 1}):
        found = client.send("POST", f"/datasets/{dataset}/query", {"filter": {}} | page)
        assert found["items"] == [] and found["totalItemsCount"] == 1
    for page in ({"page": -1}, {"pageSize": -5}, {"page": True}, {"pageSize": "10"}, {"page": 1.5}):
        assert refused(client.send, "POST", f"/datasets/{dataset}/query", {"filter": {}} | page).status == 400


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\0", "a\0b", "\u202egnp", "\ufeff", "é" * 1000])
def test_odd_text_is_stored_as_it_is_or_refused(client, dataset, text):
    item = client.upload(dataset, "/x", b"x")["id"]
    body = {"metadata": {"user": {"text": text, text: "key"}}, "description": text}
    client.send("PATCH", f"/items/{item}", body)
    found = client.send("GET", f"/items/{item}")
    assert found["metadata"]["user"] == {"text": text, text: "key"} and found["description"] == text
    for condition in ({"metadata.user.text": text}, {f"metadata.user.{text}": "key"}, {"description": text}):
        assert total(client, dataset, condition) == 1, condition
    for path, field in ((f"/items/{item}", "filename"), (f"/datasets/{dataset}", "name")):
        try:
            client.send("PATCH", path, {field: f"/{text}"})
        except Refused as error:
            assert error.status == 400


SQL = ["' OR '1'='1", "'; DROP TABLE documents; --", '" OR 1=1 --', "%", "_"]
SQL += ["x') UNION SELECT doc FROM documents --"]


@pytest.mark.parametrize("text", SQL)
def test_sql_in_values_and_fields_is_text(client, dataset, text):
    client.upload(dataset, "/x", b"x")
    for field in (*"name filename dir type id hidden metadata.user.x".split(), text, f"metadata.{text}"):
        for value in (text, {"$in": [text]}, {"$gt": "~" + text}, f"{text}*"):
            assert total(client, dataset, {field: value}) == 0
    assert total(client, dataset, sort={text: "ascending"}) == 1
    assert total(client, dataset, {field: {"$ne": text}}) == 1
    assert client.send("GET", f"/datasets/{dataset}")["id"] == dataset


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'])
def test_html_comes_back_as_data_that_no_browser_runs(platform, client, dataset, name, token):
    item = client.upload(dataset, f"/{name.replace('/', '')}.html", name.encode())
    client.send("PATCH", f"/items/{item['id']}", {"description": name})
    status, headers, content = ask(platform, "GET", f"/api/v1/items/{item['id']}", token)
    assert status == 200 and json.loads(content)["description"] == name
    assert headers["Content-Type"].startswith("application/json")
    assert headers["X-Content-Type-Options"] == "nosniff"
    status, headers, content = ask(platform, "GET", f"/api/v1/items/{item['id']}/stream", token)
    assert content == name.encode() and headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in headers["Content-Security-Policy"]
    for path, wrong in ((f"/api/v1/{name}", 404), ("/api/v1/items/<b>", 400), ("/api/<script>", 404)):
        status, headers, _ = ask(platform, "GET", path.replace(" ", "%20"), token)
        assert headers["Content-Type"].startswith("application/json") and status == wrong
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_deep_filters_and_deep_json_are_refused(client, dataset):
    deep = '{"a":1}'
    for _ in range(60):
        deep = f'{{"$or":[{deep}]}}'
    error = refused(client.send, "POST", f"/datasets/{dataset}/query", f'{{"filter":{deep}}}'.encode())
    assert "nests deeper" in str(error)
    item = client.upload(dataset, "/x", b"x")["id"]
    for opened, closed in (("[", "]"), ('{"a":', "}")):
        body = f'{{"metadata":{{"user":{{"x":{opened * 100_000}1{closed * 100_000}}}}}}}'.encode()
        assert refused(client.send, "PATCH", f"/items/{item}", body).status == 400
        assert (
            refused(client.send, "POST", f"/datasets/{dataset}/query", opened.encode() * 100_000).status
            == 400
        )
    assert client.send("GET", f"/items/{item}")["id"] == item


def test_expressions_that_explode(client, dataset):
    client.upload(dataset, "/" + "a" * 200, b"x")
    error = refused(
        client.send, "POST", f"/datasets/{dataset}/query", {"filter": {"name": {"$regex": "(a+)+$"}}}
    )
    assert error.status == 400 and "unknown operator '$regex'" in str(error)
    pattern = "*a" * 1000 + "b"
    globbed = {"filename": {"$glob": "**a" * 1000 + "b"}}
    for condition in ({"name": pattern}, globbed, {"$or": [{"name": pattern}] * 50}):
        started = time.process_time()
        assert total(client, dataset, condition) == 0
        # The patterns' length times the text's, not two to the power of it: generous for any machine.
        assert time.process_time() - started < 20
    for condition in ({"name": "*" * 5000}, {"$or": [{"a": 1}] * 20_001}):
        body = {"filter": condition}
        assert refused(client.send, "POST", f"/datasets/{dataset}/query", body).status == 400


@pytest.mark.parametrize("path", ["/token", "/login", "/api/v1/projects", "/api/v1/datasets/x/items"])
def test_nothing_large_is_read_before_the_login(platform, path):
    kind = {"Content-Type": "application/x-www-form-urlencoded" if path == "/login" else "application/json"}
    packed = kind | {"Content-Encoding": "gzip"}
    for headers, body in (
        (packed, gzip.compress(b"[" + b"[]," * (20 << 20) + b"[]]")),
        (packed, b"[]"),
        (kind, b"[" * (FORM_LIMIT + 1)),
        (kind | {"Transfer-Encoding": "chunked"}, b"2\r\n[]\r\n0\r\n\r\n"),
    ):
        before = psutil.Process().memory_info().rss
        assert 400 <= ask(platform, "POST", path, headers, body)[0] <= 415
        assert psutil.Process().memory_info().rss - before < 8 << 20
    assert ask(platform, "POST", path, kind, b"[" * FORM_LIMIT)[0] == (400 if path == "/token" else 401)


def test_who_does_not_log_in_must_go(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "LOGIN_SECONDS", 2.0)
    monkeypatch.setattr(server, "MAX_STRANGERS", 30)
    halves = b"", b"GET", b"POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
    with alhelpers.platform.start(tmp_path) as platform:
        known = http.client.HTTPConnection(platform.url.removeprefix("http://"))
        strangers = [socket.create_connection((known.host, known.port)) for _ in range(200)]
        try:
            for number, stranger in enumerate(strangers):
                stranger.sendall(halves[number % len(halves)])
                stranger.settimeout(10)
            for wait in (0, 1.5, 3):
                time.sleep(wait)
                known.request(
                    "GET", "/api/v1/users/me", headers={"Authorization": f"Bearer {platform.token}"}
                )
                assert known.getresponse().read() and known.sock is not None
            assert [stranger.recv(1) for stranger in strangers] == [b""] * len(strangers)
        finally:
            for connection in (known, *strangers):
                connection.close()


def test_logs_have_no_keys_and_no_traceback_for_what_clients_do(platform, client, dataset, token, caplog):
    caplog.set_level("INFO")
    key = platform.page.rpartition("=")[2]
    for path in (f"/?token={key}{'x' * 9000}", f"/api/v1/{platform.token}?token={key}", f"/{key}\0"):
        speak(platform, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {'x' * 9000}\r\n\r\n")
        speak(platform, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    host, port = platform.url.removeprefix("http://").split(":")
    kind = "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 9999"
    for address in (f"datasets/{dataset}/items", "projects"):
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /api/v1/{address} HTTP/1.1\r\nHost: localhost\r\n{kind}\r\nAuthorization: "
            connection.sendall(f"{head}{token['Authorization']}\r\n\r\n--b\r\n".encode())
            time.sleep(0.2)
        time.sleep(0.2)
    assert client.send("GET", "/users/me")
    assert "broken off" in caplog.text and "Traceback" not in caplog.text
    assert key not in caplog.text and platform.token not in caplog.text


BIG, DIGITS = 10**400, "9" * 5000
REQUESTS = [
    ("POST", "/datasets/{dataset}/query", {"filter": {"$and": [{"name": "x"}] * 1100}}),
    (
        "POST",
        "/datasets/{dataset}/query",
        {"filter": {"$and": [{f"metadata.a.b{n}": n} for n in range(700)]}},
    ),
    ("POST", "/datasets/{dataset}/query", {"filter": {f"metadata.{DIGITS}": 1}, "sort": {f"a.{DIGITS}": 1}}),
    (
        "POST",
        "/datasets/{dataset}/query",
        {"filter": {"metadata.list." + DIGITS: DIGITS, "name": {"$gt": DIGITS}}},
    ),
    ("POST", "/datasets/{dataset}/query", {"filter": {"createdAt": {"$gt": "9999-12-31T23:59:59-14:00"}}}),
    ("POST", "/datasets/{dataset}/query", {"filter": {"createdAt": {"$lt": "0001-01-01T00:00:00+14:00"}}}),
    (
        "POST",
        "/items/{item}/annotations",
        [{"type": "point", "label": "a", "coordinates": {"x": BIG, "y": 1}}],
    ),
    ("POST", "/items/{item}/annotations", [{"type": "class", "label": "a", "metadata": {"confidence": BIG}}]),
    ("POST", "/local/clients", {"pid": 1, "createTime": BIG}),
    ("POST", "/local/clients", {"pid": BIG, "createTime": 1}),
    ("POST", "/local/clock", {"seconds": BIG}),
    ("POST", "/services/logs", {"serviceId": "x", "start": "0001-01-01", "end": "9999-12-31T23:59:59"}),
    ("GET", f"/items/{DIGITS}", None),
    ("GET", f"/datasets/{{dataset}}?page={DIGITS}", None),
    ("PATCH", "/items/{item}", {"filename": "/\0"}),
    ("PATCH", "/items/{item}", {"filename": "/\ud800"}),
    ("PATCH", "/items/{item}", {"filename": "/" + "a/" * 3000}),
]


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
def test_no_input_fails_inside_the_platform(client, dataset, method, path, body):
    item = client.upload(dataset, "/x.png", b"x")["id"]
    client.send("PATCH", f"/items/{item}", {"metadata": {"list": [1, 2], "user": {"n": 2**300}}})
    try:
        client.send(method, path.format(dataset=dataset, item=item), body)
    except Refused as error:
        assert error.status in (400, 404), str(error)
    assert client.send("GET", f"/items/{item}")["metadata"]["user"]["n"] == 2**300


def test_a_filter_has_a_time_limit(client, dataset, monkeypatch):
    client.upload(dataset, "/x.png", b"x")
    body = {"filter": {"$or": [{"name": "*a" * 2000}] * 70}}
    assert total(client, dataset, body["filter"]) == 0
    monkeypatch.setattr("alhelpers.platform.query.FILTER_SECONDS", -1.0)
    error = refused(client.send, "POST", f"/datasets/{dataset}/query", body)
    assert error.status == 400 and "the filter took longer than" in str(error)

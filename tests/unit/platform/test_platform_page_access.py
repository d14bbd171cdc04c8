"""The page at '/': who may see it, that hostile text stays text, and that nonsense is shown without harm."""

import contextlib
import json
import re
import urllib.parse
from types import SimpleNamespace

import pytest
from bs4 import BeautifulSoup
from page_browser import Browser, check_harmless, texts
from platform_client import Refused
from platform_samples import HOSTILE, JUNK, png

from alhelpers.platform.page import session
from alhelpers.platform.page.routes import is_page
from alhelpers.platform.server import Server

# ------------------------------------------------------------------------------------------------------ log-in


@pytest.fixture(scope="module")
def routes(tmp_path_factory):
    """Every route of the page, as (method, path) with an id that nothing has."""
    made = Server(tmp_path_factory.mktemp("routes"))
    try:
        found = [(route.method, route.resource.canonical) for route in made._application().router.routes()]
    finally:
        made.store.close()
    paths = {(method, re.sub(r"\{[^}]*\}", "x", path)) for method, path in found if method != "*"}
    return sorted((method, path) for method, path in paths if is_page(path))


def test_without_a_token_every_page_is_the_login_and_nothing_can_be_sent(server, routes):
    closed = [(method, path) for method, path in routes if not path.startswith("/login")]
    assert len(closed) > 25 and ("GET", "/") in closed and ("POST", "/logout") in closed
    for method, path in [*closed, ("GET", "/nowhere"), ("PUT", "/"), ("DELETE", "/items/x")]:
        form = {"status": "completed"} if method == "POST" else None
        for headers in ({}, {"Cookie": "alhelpers-page=x"}, {"Authorization": f"Basic {server.token}"}):
            answer = Browser(server.url).send(method, path, form, headers)
            assert answer.status == 401 and not answer.cookies, (method, path)
            if method == "GET":
                page = BeautifulSoup(answer.text, "html.parser")
                assert page.find("input", {"type": "password"})
                assert page.find("input", {"name": "next"})["value"] == path


def test_a_page_is_read_by_no_other_method(browser):
    for method in ("PUT", "DELETE", "PATCH", "POST"):
        assert browser.send(method, "/").status in (404, 405)


def test_the_link_logs_in_and_leaves_no_key_in_the_address(server):
    browser = Browser(server.url)
    answer = browser.send("GET", server.page.removeprefix(server.url))
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    (cookie,) = answer.cookies
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/" in cookie
    assert server.token not in cookie and server.token not in server.page
    assert browser.send("GET", "/").status == 200


def test_the_link_leads_to_any_page(server):
    key = server.page.partition("token=")[2]
    answer = Browser(server.url).send("GET", f"/datasets/x?label=a%26b&token={key}")
    assert answer.headers["Location"] == "/datasets/x?label=a%26b"


def test_a_link_from_another_site_goes_by_a_page_of_ours(server):
    """After a redirect browsers would withhold a strict cookie, as for the other site."""
    browser = Browser(server.url)
    answer = browser.send(
        "GET", server.page.removeprefix(server.url), headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert answer.status == 200 and answer.cookies
    refresh = BeautifulSoup(answer.text, "html.parser").find("meta", {"http-equiv": "refresh"})
    assert refresh["content"] == "0; url=/"


@pytest.mark.parametrize("key", ["", "wrong", "0" * 40, "\N{SNOWMAN}", "%ff"])
def test_a_wrong_key_is_refused(server, key):
    browser = Browser(server.url)
    path = "/?token=" + (key if key == "%ff" else urllib.parse.quote(key))
    assert browser.send("GET", path).status == 401
    assert not browser.cookies


@pytest.mark.parametrize("which", ["token", "secret", "key"])
def test_the_form_takes_the_token_or_the_secret(server, which):
    known = {
        "token": server.token,
        "secret": json.loads((server.state_dir / "credentials.json").read_text())["secret"],
        "key": server.page.partition("token=")[2],
    }
    browser = Browser(server.url)
    answer = browser.send("POST", "/login", {"password": f" {known[which]} ", "next": "/nowhere?page=2"})
    assert (answer.status, answer.headers["Location"]) == (303, "/nowhere?page=2")
    assert browser.send("GET", "/").status == 200


def test_a_wrong_password_is_refused(server):
    answer = Browser(server.url).send("POST", "/login", {"password": "wrong"})
    assert answer.status == 401 and not answer.cookies
    assert BeautifulSoup(answer.text, "html.parser").find(role="alert")


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "/\r\nX: y", "x"]
)
def test_the_login_leads_nowhere_else(server, target):
    answer = Browser(server.url).send("POST", "/login", {"password": server.token, "next": target})
    assert answer.headers["Location"] == "/"


def test_only_the_token_opens_both_the_page_and_the_api(server, browser):
    def status(path, token):
        return Browser(server.url).send("GET", path, headers={"Authorization": f"Bearer {token}"}).status

    assert browser.send("GET", "/api/v1/projects").status == 401
    for key in (*browser.cookies.values(), server.page.partition("token=")[2]):
        assert status("/api/v1/projects", key) == 401
    assert status("/", server.token) == 200


@pytest.mark.parametrize(
    "spoil", [lambda v: v[:-1] + ("0" if v[-1] != "0" else "1"), lambda v: "9" + v, lambda v: ""]
)
def test_a_forged_cookie_is_none(browser, spoil):
    browser.cookies = {name: spoil(value) for name, value in browser.cookies.items()}
    assert browser.send("GET", "/").status == 401


def test_an_old_cookie_is_none(server, browser, monkeypatch):
    now = session.time.time()
    monkeypatch.setattr(session.time, "time", lambda: now + session.LIFETIME + 1)
    assert browser.send("GET", "/").status == 401


def test_logging_out_forgets_the_cookie(browser):
    form = {field["name"]: field["value"] for field in browser.page("/").select("header form input")}
    answer = browser.send("POST", "/logout", form)
    assert (answer.status, answer.headers["Location"]) == (303, "/login")
    assert not any(browser.cookies.values())


def test_every_answer_forbids_what_it_does_not_need(server, browser, world):
    other = Browser(server.url)
    answers = [browser.send("GET", path) for path in ("/", f"/datasets/{world.dataset['id']}", "/nowhere")]
    answers += [other.send("GET", path) for path in ("/", "/login", "/login/style.css")]
    for answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "script-src" not in policy and "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answers[0].headers["Cache-Control"] == "no-store"


# ------------------------------------------------------------------------------------------------- hostile text


def pages_of(world):
    return [
        "/",
        f"/projects/{world.project['id']}",
        f"/projects/{world.project['id']}/executions",
        f"/datasets/{world.dataset['id']}",
        f"/items/{world.items[0]['id']}",
    ]


def test_hostile_names_stay_text(browser, world):
    for path in pages_of(world):
        page = browser.page(path)
        check_harmless(page)
        assert "{{7*7}}" in str(page) or path == "/" or path.endswith("executions")
    shown = texts(browser.page(f"/items/{world.items[0]['id']}"))
    assert HOSTILE in shown and "onerror=alert(1)" in shown


def test_hostile_filters_stay_text(browser, world):
    query = urllib.parse.urlencode(dict.fromkeys(("folder", "tag", "label", "name"), HOSTILE))
    page = browser.page(f"/datasets/{world.dataset['id']}?{query}")
    check_harmless(page)
    assert page.find("input", {"name": "tag"})["value"] == HOSTILE
    assert "Nothing matches" in texts(page)


def test_an_operator_as_a_tag_is_no_query(browser, world):
    answer = browser.send("GET", f"/datasets/{world.dataset['id']}?tag=%24or")
    assert answer.status in (200, 400)
    assert "text/html" in answer.headers["Content-Type"]


@pytest.mark.parametrize(
    "name", ["evil.html", "evil.svg", "evil.xml", "evil.js", "evil.pdf", "none", 'a"b\u2028.htm']
)
def test_uploaded_documents_are_for_saving(browser, client, world, name):
    item = client.upload(world.dataset["id"], f"/docs/{name}", b"<script>alert(1)</script>")
    answer = browser.send("GET", f"/items/{item['id']}/content")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_pictures_are_shown_in_a_box_without_rights(browser, world):
    answer = browser.send("GET", f"/items/{world.items[1]['id']}/content")
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.content == png()
    assert "sandbox" in answer.headers["Content-Security-Policy"]


def test_half_a_character_is_no_failure(browser, client, world):
    item = client.upload(world.dataset["id"], "/half.png", png())
    client.send("PATCH", f"/items/{item['id']}", {"metadata": {"user": {"text": "\ud800"}}})
    browser.page(f"/items/{item['id']}")


# ------------------------------------------------------------------------------------------------------- nonsense


@pytest.fixture(scope="module")
def strange(client):
    """A dataset of its own, for documents that are full of nonsense."""
    dataset = client.dataset("strange")
    return SimpleNamespace(dataset=dataset, item=client.upload(dataset["id"], "/strange.png", png()))


FIELDS = {
    "items": ("metadata", "description", "spec", "name", "filename", "annotationsCount", "createdAt"),
    "datasets": ("metadata", "name", "description", "createdAt"),
    "ml/models": (
        *("metadata", "configuration", "labels", "tags", "artifacts", "version", "description", "app"),
        *("inputType", "datasetId", "statusLogs", "status", "name"),
    ),
    "pipelines": ("nodes", "connections", "variables", "metadata", "description", "settings", "startNodes"),
    "annotationtasks": ("metadata", "spec", "availableActions", "name", "description", "dueDate"),
}


@pytest.mark.parametrize("kind", FIELDS)
def test_documents_full_of_nonsense_are_shown(browser, client, strange, kind):
    dataset, item = strange.dataset, strange.item
    project = dataset["projects"][0]
    named = {"name": "strange", "projectId": project}
    if kind == "ml/models":
        document = client.send("POST", "/ml/models", named)
    elif kind == "pipelines":
        document = client.send("POST", "/pipelines", named)
    elif kind == "annotationtasks":
        command = client.send("POST", "/annotationtasks", named | {"datasetId": dataset["id"], "query": {}})
        document = {"id": command["spec"]["createdTaskId"]}
    else:
        document = {"items": item, "datasets": dataset}[kind]
    page = "/" + {"ml/models": "models", "annotationtasks": "tasks"}.get(kind, kind) + f"/{document['id']}"
    for field in FIELDS[kind]:
        for junk in JUNK:
            try:
                client.send("PATCH", f"/{kind}/{document['id']}?system=true", {field: junk})
            except Refused:
                continue
            check_harmless(browser.page(page))
    check_harmless(browser.page(f"/projects/{project}"))
    check_harmless(browser.page(f"/datasets/{dataset['id']}"))


def test_annotations_full_of_nonsense_are_shown(browser, client, strange):
    path = f"/items/{strange.item['id']}/annotations"
    for field in ("metadata", "attributes", "creator", "description", "status", "label", "type"):
        for junk in JUNK:
            with contextlib.suppress(Refused):
                client.send("POST", path, [{"type": "box", "label": "a", "coordinates": [], field: junk}])
    check_harmless(browser.page(f"/items/{strange.item['id']}"))
    check_harmless(browser.page(f"/datasets/{strange.dataset['id']}"))


def test_a_pipeline_full_of_nonsense_is_drawn(browser, client, strange):
    nodes = [
        {"id": f"n{number}", "type": "code", "name": junk, "metadata": junk}
        for number, junk in enumerate(JUNK)
    ]
    for node in nodes:
        body = {"name": f"of {node['id']}", "projectId": strange.dataset["projects"][0], "nodes": [node]}
        body["connections"] = [{"src": junk, "tgt": {"nodeId": "n1"}, "action": junk} for junk in JUNK]
        body["variables"] = [{"name": "v", "type": "Json", "value": JUNK}]
        try:
            made = client.send("POST", "/pipelines", body)
        except Refused:
            continue
        check_harmless(browser.page(f"/pipelines/{made['id']}"))


def test_metrics_full_of_nonsense_are_drawn(browser, client, strange):
    model = client.send(
        "POST", "/ml/models", {"name": "metrics", "projectId": strange.dataset["projects"][0]}
    )
    sample = {"modelId": model["id"], "figure": HOSTILE, "legend": HOSTILE, "data": {"x": 1, "y": 2}}
    samples = [sample | {"data": {"x": junk, "y": 1}} for junk in JUNK] + [sample]
    for one in samples:
        with contextlib.suppress(Refused):
            client.send("POST", "/ml/metrics/publish", [one])
    page = browser.page(f"/models/{model['id']}")
    check_harmless(page)
    assert page.figcaption.text == HOSTILE

"""The page at '/': who may see it, that hostile text stays text, and that it shows what the platform holds."""

import base64
import contextlib
import io
import json
import re
import signal
import subprocess
import sys
import urllib.parse
from types import SimpleNamespace

import pytest
from bs4 import BeautifulSoup
from page_browser import Browser, check_harmless, texts
from PIL import ExifTags, Image
from platform_client import Client, Refused

import alhelpers.platform
from alhelpers import cli
from alhelpers.platform.logs import Logs
from alhelpers.platform.page import session
from alhelpers.platform.page.routes import is_page
from alhelpers.platform.server import Server
from alhelpers.platform.services.executions import models
from alhelpers.platform.services.projects import models as projects
from alhelpers.platform.store import Store

HOSTILE = """"><script>alert('x')</script><img src=x onerror=alert(1)>&{{7*7}}{%raw%}"""


def png(width=20, height=10, colour=(10, 200, 90)):
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with alhelpers.platform.start(tmp_path_factory.mktemp("page") / "state") as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    return Client(server.url, server.token)


@pytest.fixture
def browser(server):
    """A browser that has opened the link."""
    browser = Browser(server.url)
    answer = browser.send("GET", server.page.removeprefix(server.url))
    assert answer.status == 303
    return browser


@pytest.fixture(scope="module")
def world(client):
    """A project with a dataset and items, with names that do harm if they are not escaped."""
    project = client.project("page project")
    dataset = client.send("POST", "/datasets", {"name": HOSTILE, "projects": [project["id"]]})
    items = [client.upload(dataset["id"], f"/raw/{number}.png", png()) for number in range(3)]
    client.send(
        "PATCH",
        f"/items/{items[0]['id']}?system=true",
        {"metadata": {"user": {HOSTILE: HOSTILE}, "system": {"tags": {"train": True, HOSTILE: True}}}},
    )
    return SimpleNamespace(project=project, dataset=dataset, items=items)


def annotate(client, item_id, *annotations):
    return client.send("POST", f"/items/{item_id}/annotations", list(annotations))


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


def test_without_a_token_every_page_is_the_login(server, routes):
    closed = [(method, path) for method, path in routes if not path.startswith("/login")]
    assert len(closed) > 25 and ("GET", "/") in closed and ("POST", "/logout") in closed
    for method, path in [*closed, ("GET", "/nowhere"), ("PUT", "/"), ("DELETE", "/items/x")]:
        for headers in ({}, {"Cookie": "alhelpers-page=x"}, {"Authorization": f"Basic {server.token}"}):
            answer = Browser(server.url).send(method, path, headers=headers)
            assert answer.status == 401 and not answer.cookies, (method, path)
            if method == "GET":
                page = BeautifulSoup(answer.text, "html.parser")
                assert page.find("input", {"type": "password"})
                assert page.find("input", {"name": "next"})["value"] == path


def test_a_page_is_read_by_no_other_method(browser):
    for method in ("PUT", "DELETE", "PATCH", "POST"):
        assert browser.send(method, "/").status in (404, 405)


@pytest.mark.parametrize("path", ["/tasks/x/items/y/status", "/logout"])
def test_without_a_token_nothing_can_be_sent(server, path):
    assert Browser(server.url).send("POST", path, {"status": "completed"}).status == 401


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


def test_the_cookie_opens_no_api(server, browser):
    assert browser.send("GET", "/api/v1/projects").status == 401
    value = next(iter(browser.cookies.values()))
    headers = {"Authorization": f"Bearer {value}"}
    assert Browser(server.url).send("GET", "/api/v1/projects", headers=headers).status == 401


def test_the_keys_of_the_link_open_no_api(server):
    headers = {"Authorization": f"Bearer {server.page.partition('token=')[2]}"}
    assert Browser(server.url).send("GET", "/api/v1/projects", headers=headers).status == 401


def test_the_token_of_the_api_opens_the_page(server):
    headers = {"Authorization": f"Bearer {server.token}"}
    assert Browser(server.url).send("GET", "/", headers=headers).status == 200


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


# --------------------------------------------------------------------------------------------- what there is


def test_projects_and_what_they_hold(browser, world):
    link = browser.page("/").find("a", string="page project")
    assert link["href"] == f"/projects/{world.project['id']}"
    page = browser.page(link["href"])
    assert page.find("a", string=HOSTILE)["href"] == f"/datasets/{world.dataset['id']}"
    assert "No models yet" in texts(page)
    # The dataset with the system's own files is not shown.
    assert "Binaries" not in texts(page)


def test_an_empty_platform_says_how_to_begin(tmp_path):
    with alhelpers.platform.start(tmp_path / "state") as server:
        browser = Browser(server.url)
        browser.send("GET", server.page.removeprefix(server.url))
        assert "No projects yet" in texts(browser.page("/"))


def names(page):
    return sorted(name.text for name in page.select(".grid .name"))


def test_a_dataset_by_folder_tag_label_and_name(browser, client):
    dataset = client.dataset("filters")
    for path in ("/a/one.png", "/a/deep/two.png", "/b/three.png"):
        client.upload(dataset["id"], path, png())
    found = {item["name"]: item["id"] for item in items_of(client, dataset)}
    client.send(
        "PATCH",
        f"/items/{found['one.png']}?system=true",
        {"metadata": {"system": {"tags": {"train": True}}}},
    )
    annotate(client, found["three.png"], {"type": "class", "label": "cat"})
    base = f"/datasets/{dataset['id']}"
    assert names(browser.page(base)) == ["one.png", "three.png", "two.png"]
    assert names(browser.page(f"{base}?folder=/a")) == ["one.png", "two.png"]
    assert names(browser.page(f"{base}?folder=/a/deep")) == ["two.png"]
    assert names(browser.page(f"{base}?tag=train")) == ["one.png"]
    assert names(browser.page(f"{base}?label=cat")) == ["three.png"]
    assert names(browser.page(f"{base}?name=t")) == ["three.png", "two.png"]
    assert names(browser.page(f"{base}?name=T*o.p")) == ["two.png"]
    assert names(browser.page(f"{base}?name=deep/")) == ["two.png"]
    assert names(browser.page(f"{base}?name=%5Bt%5D")) == names(browser.page(f"{base}?name=tw%3F")) == []
    assert names(browser.page(f"{base}?folder=/%2A")) == []
    assert names(browser.page(f"{base}?name=t&folder=/a&label=&tag=")) == ["two.png"]
    folders = [option.text for option in browser.page(base).select("select[name=folder] option")]
    assert folders == ["/", "/a", "/a/deep", "/b"]


def items_of(client, dataset):
    query = {"resource": "items", "filter": {"$and": [{"type": "file"}]}}
    return client.send("POST", f"/datasets/{dataset['id']}/query", query)["items"]


def test_a_large_dataset_has_pages(browser, client):
    dataset = client.dataset("paged")
    for number in range(50):
        client.upload(dataset["id"], f"/{number:03}.txt", b"x")
    first = browser.page(f"/datasets/{dataset['id']}?name=txt")
    assert len(names(first)) == 48
    second = browser.page(f"/datasets/{dataset['id']}{first.find('a', rel='next')['href']}")
    assert len(names(second)) == 2 and not set(names(first)) & set(names(second))
    assert second.find("a", rel="prev") and not second.find("a", rel="next")
    assert second.find("input", {"name": "name"})["value"] == "txt"
    beyond = browser.page(f"/datasets/{dataset['id']}?page=99")
    assert "There is no page 99" in texts(beyond) and beyond.find("a", rel="prev")["href"] == "?page=2"


@pytest.mark.parametrize("number", ["0", "-1", "x", "1e9", "9" * 30, "\u0663"])
def test_a_page_has_a_number(browser, world, number):
    path = f"/datasets/{world.dataset['id']}?page={urllib.parse.quote(number)}"
    assert browser.page(path, 400).find("a", string="Back to all projects")


@pytest.mark.parametrize(
    "kind", ["projects", "datasets", "items", "models", "pipelines", "cycles", "tasks", "executions"]
)
def test_what_is_not_there_is_a_page_with_a_way_back(browser, kind):
    page = browser.page(f"/{kind}/{'0' * 24}", 404)
    assert page.find("a", string="Back to all projects")["href"] == "/"


def test_an_address_that_is_none(browser):
    assert "there is no page /nowhere" in texts(browser.page("/nowhere", 404))
    assert browser.send("GET", "/api/v1/nowhere").headers["Content-Type"].startswith("application/json")


# ---------------------------------------------------------------------------------------------------- annotations

MASK = "data:image/png;base64," + base64.b64encode(png()).decode()
DRAWN = {
    "box": (
        [{"x": 1, "y": 2}, {"x": 5, "y": 8}],
        "rect",
        {"x": "1.0", "y": "2.0", "width": "4.0", "height": "6.0"},
    ),
    "segment": ([[{"x": 1, "y": 2}, {"x": 3, "y": 4}, {"x": 5, "y": 1}]], "path", {"d": "M1 2 L3 4 L5 1 Z"}),
    "polyline": ([[{"x": 1, "y": 2}, {"x": 3, "y": 4}]], "path", {"d": "M1 2 L3 4"}),
    "point": ({"x": 4, "y": 5}, "circle", {"cx": "4.0", "cy": "5.0"}),
    "ellipse": (
        {"center": {"x": 9, "y": 5}, "rx": 3, "ry": 2, "angle": 30},
        "ellipse",
        {"cx": "9.0", "cy": "5.0", "rx": "3.0", "ry": "2.0", "transform": "rotate(30 9 5)"},
    ),
    "note": (
        {"box": [{"x": 1, "y": 1}, {"x": 4, "y": 4}], "note": {"messages": [{"body": "look <b>here</b>"}]}},
        "rect",
        {"x": "1.0", "width": "3.0"},
    ),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_annotations_are_drawn_over_the_image(browser, client, world, kind):
    coordinates, tag, attributes = DRAWN[kind]
    item = client.upload(world.dataset["id"], f"/drawn/{kind}.png", png())
    user = {"model": {"name": "detector", "confidence": 0.873}}
    annotate(
        client,
        item["id"],
        {"type": kind, "label": "cat", "coordinates": coordinates, "metadata": {"user": user}},
    )
    page = browser.page(f"/items/{item['id']}")
    drawing = page.select_one("svg.picture")
    assert drawing["viewbox"] == "0 0 20 10"
    assert drawing["aria-label"] == f"{kind}.png, annotated: cat ({kind})"
    mark = drawing.select_one(f".mark {tag}")
    assert {name: mark[name] for name in attributes} == attributes
    row = page.select_one("table tbody tr")
    # The row leads to its mark.
    assert row.find("a")["href"] == "#" + drawing.select_one(".mark")["id"]
    assert "87.3%" in texts(row) and "detector" in texts(row)
    if kind == "note":
        assert "look <b>here</b>" in texts(row)


def test_a_picture_that_the_camera_turned_is_annotated_upright(browser, client, world):
    file = io.BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (20, 10)).save(file, "JPEG", exif=exif)
    item = client.upload(world.dataset["id"], "/turned.jpg", file.getvalue())
    page = browser.page(f"/items/{item['id']}")
    assert page.select_one("svg.picture")["viewbox"] == "0 0 10 20"


def test_thumbnails_of_large_pictures_are_small_files(browser, client, world):
    item = client.upload(world.dataset["id"], "/large.png", png(600, 300))
    page = browser.page(f"/datasets/{world.dataset['id']}?name=large")
    source = page.select_one(".thumb image")["href"]
    assert source == f"/items/{item['id']}/thumbnail"
    answer = browser.send("GET", source)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (256, 128)


def test_a_mask_is_a_picture_of_its_own(browser, client, world):
    item = client.upload(world.dataset["id"], "/mask.png", png())
    (made,) = annotate(client, item["id"], {"type": "binary", "label": "cat", "coordinates": MASK})
    page = browser.page(f"/items/{item['id']}")
    path = f"/annotations/{made['id']}/mask"
    assert page.select_one("svg.picture mask image")["href"] == path
    answer = browser.send("GET", path)
    assert (answer.headers["Content-Type"], answer.content) == ("image/png", png())
    assert "sandbox" in answer.headers["Content-Security-Policy"]


def test_a_classification_has_no_place(browser, client, world):
    item = client.upload(world.dataset["id"], "/class.png", png())
    annotate(client, item["id"], {"type": "class", "label": "outdoor"})
    page = browser.page(f"/items/{item['id']}")
    assert not page.select("svg.picture .mark") and texts(page.select_one("tbody th")) == "outdoor"


NONSENSE = [
    *(
        None,
        7,
        "x",
        [],
        {},
        [[]],
        [None],
        [[None]],
        {"x": "1", "y": 2},
        [{"x": 1}],
        {"center": 1},
        {"box": []},
    ),
    *([{"x": 1e308, "y": 1}, {"x": -1e308, "y": 5}], [[{"x": True, "y": 1}]], {"data": 5}),
    *("data:image/png;base64,!!!", "data:image/svg+xml;base64,AAAA", {"x": 1, "y": HOSTILE}, [[], []]),
]


@pytest.mark.parametrize("kind", [*DRAWN, "binary", "class", "cube_3d", HOSTILE])
def test_coordinates_that_are_nonsense_are_listed_without_a_drawing(browser, client, world, kind):
    item = client.upload(world.dataset["id"], "/nonsense.png", png())
    given = [
        {"type": kind, "label": f"n{number}", "coordinates": value} for number, value in enumerate(NONSENSE)
    ]
    given = [one for one in given if accepted(client, item["id"], one)]
    page = browser.page(f"/items/{item['id']}")
    check_harmless(page)
    assert len(page.select("table tbody tr")) >= len(given)
    assert not page.select("svg.picture image[href^=data]")
    browser.page(f"/datasets/{world.dataset['id']}?name=nonsense")


def accepted(client, item_id, annotation):
    """Whether the API accepts an annotation: it may refuse more than the page does."""
    try:
        annotate(client, item_id, annotation)
    except Refused:
        return False
    return True


def test_a_recipe_gives_the_colours_and_only_colours(browser, client, world):
    dataset = client.dataset("coloured")
    item = client.upload(dataset["id"], "/one.png", png())
    recipe = client.send("GET", f"/recipes/{dataset['metadata']['system']['recipes'][0]}")
    labels = [{"tag": "cat", "color": "#123456"}, {"tag": "dog", "color": '"><script>'}]
    client.send(
        "PATCH", f"/ontologies/{recipe['ontologyIds'][0]}/labels", {"labelsNode": labels, "upsert": True}
    )
    box = [{"x": 1, "y": 2}, {"x": 5, "y": 8}]
    annotate(
        client, item["id"], *({"type": "box", "label": name, "coordinates": box} for name in ("cat", "dog"))
    )
    page = browser.page(f"/items/{item['id']}")
    check_harmless(page)
    cat, dog = page.select("svg.picture .mark")
    assert cat["stroke"] == "#123456" and dog["stroke"].startswith("#") and len(dog["stroke"]) == 7


# ----------------------------------------------------------------------------------------------------- executions


@pytest.fixture
def executions(tmp_path):
    """A platform with one execution that has failed and one that runs, and what they have logged."""
    folder = tmp_path / "state"
    folder.mkdir()
    store = Store(folder)
    with store.transaction():
        project = projects.create(store, "runs", "me")
        made = [
            models.create(
                store,
                project_id=project["id"],
                user="me",
                function_name=HOSTILE,
                inputs={"x": HOSTILE},
                internal=True,
                serviceId="service",
                serviceName=HOSTILE,
            )
            for _ in range(2)
        ]
        for execution in made:
            models.start(store, execution)
        models.finish(store, made[0], "failed", message=f"no {HOSTILE}", error=f"Traceback {HOSTILE}")
        models.progress(store, made[1], percent=40)
    store.close()
    logs = Logs(folder / "logs")
    entry = {"timestamp": "2026-01-02T03:04:05.678Z", "level": "ERROR", "executionId": made[0]["id"]}
    logs.add("service", [entry | {"message": f"line {number} {HOSTILE}"} for number in range(3)])
    logs.add("service", [entry | {"executionId": "other", "message": f"mentions {made[0]['id']}"}])
    with alhelpers.platform.start(folder) as server:
        browser = Browser(server.url)
        browser.send("GET", server.page.removeprefix(server.url))
        yield SimpleNamespace(browser=browser, failed=made[0]["id"], running=made[1]["id"], logs=logs)


def test_an_execution_with_its_logs(executions):
    page = executions.browser.page(f"/executions/{executions.failed}")
    check_harmless(page)
    assert page.h1.text == HOSTILE
    lines = page.select(".lines > span")
    assert [texts(line) for line in lines] == [
        f"2026-01-02 03:04:05 ERROR line {number} {HOSTILE}" for number in range(3)
    ]
    assert page.select_one(".state").text == "failed"
    assert f"no {HOSTILE}" in texts(page) and f"Traceback {HOSTILE}" in texts(page)
    assert json.loads(page.find("summary", string="Input").parent.pre.text) == {"x": HOSTILE}
    assert not page.find("meta", {"http-equiv": "refresh"})


def test_an_execution_that_runs_is_shown_again(executions):
    page = executions.browser.page(f"/executions/{executions.running}")
    assert page.find("meta", {"http-equiv": "refresh"})["content"] == "5"
    assert page.progress["value"] == "40" and "No log lines" in texts(page)
    assert not executions.browser.page(f"/executions/{executions.running}?live=no").find(
        "meta", {"http-equiv": "refresh"}
    )


def test_the_end_of_a_long_log(executions):
    assert executions.logs.last("service", executions.failed, 2)[1] == 3
    kept, total = executions.logs.last("service", executions.failed, 2)
    assert [entry["message"][:6] for entry in kept] == ["line 1", "line 2"]
    assert executions.logs.last("nobody", executions.failed, 2) == ([], 0)


# ------------------------------------------------------------------------------------------------------- the link


def test_the_command_prints_the_link_of_a_running_platform(server, capsys):
    assert cli.main(["page", "--state-dir", str(server.state_dir)]) == 0
    assert capsys.readouterr().out == server.page + "\n"


def test_the_command_serves_a_folder_that_nothing_serves(tmp_path):
    command = [sys.executable, "-m", "alhelpers.cli", "page", "--state-dir", str(tmp_path / "state")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        link = process.stdout.readline().strip()
        url, _, query = link.partition("/?")
        try:
            assert Browser(url).send("GET", f"/?{query}").status == 303
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_starting_a_server_prints_no_key(tmp_path):
    command = [sys.executable, "-m", "alhelpers.platform", "--state-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        said = process.stdout.readline()
        running = alhelpers.platform.running(tmp_path)
        process.send_signal(signal.SIGTERM)
        said += process.stdout.read()
    assert json.loads(said.splitlines()[0])["url"] == running.url
    assert running.token not in said and running.page.partition("token=")[2] not in said
    assert running.page.partition("token=")[2] not in repr(running)


# ------------------------------------------------------------------------------------------------------- nonsense

JUNK = [
    None,
    True,
    0,
    -1.5,
    1e300,
    "",
    HOSTILE,
    [],
    [None],
    [[]],
    [{}],
    {},
    {"x": None},
    {"get": 1},
    {"items": []},
]
JUNK += [
    {"system": junk} for junk in (None, 5, [], {"tags": 5, "recipes": 7}, {"tags": [1], "recipes": [None]})
]
JUNK += [
    {"system": {"recipes": [{}], "tags": {"a": []}, "evaluate": junk}} for junk in (5, {"datasets": [None]})
]
JUNK += [
    {"user": {"model": junk}} for junk in (5, {"confidence": "high", "name": [1]}, {"confidence": 1e308})
]


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

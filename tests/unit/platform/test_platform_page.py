"""The page at '/': that it shows what the platform holds."""

import base64
import contextlib
import io
import json
import signal
import subprocess
import sys
import urllib.parse
from types import SimpleNamespace

import pytest
from page_browser import Browser, check_harmless, texts
from PIL import ExifTags, Image
from platform_client import Refused
from platform_samples import HOSTILE, NONSENSE, png

import alhelpers.platform
from alhelpers import cli
from alhelpers.platform.logs import Logs
from alhelpers.platform.services.executions import models
from alhelpers.platform.services.projects import models as projects
from alhelpers.platform.store import Store

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
    paths = ("/a/one.png", "/a/deep/two.png", "/b/three.png")
    one, _, three = (client.upload(dataset["id"], path, png())["id"] for path in paths)
    tags = {"metadata": {"system": {"tags": {"train": True}}}}
    client.send("PATCH", f"/items/{one}?system=true", tags)
    client.annotate(three, {"type": "class", "label": "cat"})
    base = f"/datasets/{dataset['id']}"
    for query, expected in {
        "": "one three two",
        "folder=/a": "one two",
        "folder=/a/deep": "two",
        "tag=train": "one",
        "label=cat": "three",
        "name=t": "three two",
        "name=T*o.p": "two",
        "name=deep/": "two",
        "name=%5Bt%5D": "",
        "name=tw%3F": "",
        "folder=/%2A": "",
        "name=t&folder=/a&label=&tag=": "two",
    }.items():
        assert names(browser.page(f"{base}?{query}")) == [f"{name}.png" for name in expected.split()], query
    folders = [option.text for option in browser.page(base).select("select[name=folder] option")]
    assert folders == ["/", "/a", "/a/deep", "/b"]


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


@pytest.fixture
def show(browser, client, world):
    """Upload a picture with annotations, and return its page and what was made."""

    def show(path, *annotations, content=None, dataset=world.dataset):
        item = client.upload(dataset["id"], path, content or png())
        made = client.annotate(item["id"], *annotations)
        page = browser.page(f"/items/{item['id']}")
        check_harmless(page)
        return page, made

    return show


@pytest.mark.parametrize("kind", DRAWN)
def test_annotations_are_drawn_over_the_image(show, kind):
    coordinates, tag, attributes = DRAWN[kind]
    metadata = {"user": {"model": {"name": "detector", "confidence": 0.873}}}
    annotation = {"type": kind, "label": "cat", "coordinates": coordinates, "metadata": metadata}
    page, _ = show(f"/drawn/{kind}.png", annotation)
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


def test_a_picture_that_the_camera_turned_is_annotated_upright(show):
    file = io.BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (20, 10)).save(file, "JPEG", exif=exif)
    page, _ = show("/turned.jpg", content=file.getvalue())
    assert page.select_one("svg.picture")["viewbox"] == "0 0 10 20"


def test_thumbnails_of_large_pictures_are_small_files(browser, client, world):
    item = client.upload(world.dataset["id"], "/large.png", png(600, 300))
    page = browser.page(f"/datasets/{world.dataset['id']}?name=large")
    source = page.select_one(".thumb image")["href"]
    assert source == f"/items/{item['id']}/thumbnail"
    answer = browser.send("GET", source)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (256, 128)


def test_a_mask_is_a_picture_of_its_own(browser, show):
    page, (made,) = show("/mask.png", {"type": "binary", "label": "cat", "coordinates": MASK})
    path = f"/annotations/{made['id']}/mask"
    assert page.select_one("svg.picture mask image")["href"] == path
    answer = browser.send("GET", path)
    assert (answer.headers["Content-Type"], answer.content) == ("image/png", png())
    assert "sandbox" in answer.headers["Content-Security-Policy"]


def test_a_classification_has_no_place(show):
    page, _ = show("/class.png", {"type": "class", "label": "outdoor"})
    assert not page.select("svg.picture .mark") and texts(page.select_one("tbody th")) == "outdoor"


@pytest.mark.parametrize("kind", [*DRAWN, "binary", "class", "cube_3d", HOSTILE])
def test_coordinates_that_are_nonsense_are_listed_without_a_drawing(browser, client, world, kind):
    item = client.upload(world.dataset["id"], "/nonsense.png", png())
    accepted = 0
    for number, value in enumerate([*NONSENSE, "data:image/png;base64,!!!"]):
        with contextlib.suppress(Refused):  # the API may refuse more than the page does
            client.annotate(item["id"], {"type": kind, "label": f"n{number}", "coordinates": value})
            accepted += 1
    page = browser.page(f"/items/{item['id']}")
    check_harmless(page)
    assert len(page.select("table tbody tr")) >= accepted
    assert not page.select("svg.picture image[href^=data]")
    browser.page(f"/datasets/{world.dataset['id']}?name=nonsense")


def test_a_recipe_gives_the_colours_and_only_colours(client, show):
    dataset = client.dataset("coloured")
    recipe = client.send("GET", f"/recipes/{dataset['metadata']['system']['recipes'][0]}")
    labels = [{"tag": "cat", "color": "#123456"}, {"tag": "dog", "color": '"><script>'}]
    ontology = f"/ontologies/{recipe['ontologyIds'][0]}"
    client.send("PATCH", f"{ontology}/labels", {"labelsNode": labels, "upsert": True})
    box = {"type": "box", "coordinates": [{"x": 1, "y": 2}, {"x": 5, "y": 8}]}
    page, _ = show("/one.png", box | {"label": "cat"}, box | {"label": "dog"}, dataset=dataset)
    cat, dog = page.select("svg.picture .mark")
    assert cat["stroke"] == "#123456" and dog["stroke"].startswith("#") and len(dog["stroke"]) == 7


# ----------------------------------------------------------------------------------------------------- executions


@pytest.fixture
def executions(tmp_path):
    """A platform with an execution that has failed, one that runs and one that waits, and what they have logged."""
    folder = tmp_path / "state"
    folder.mkdir()
    store = Store(folder)
    with store.transaction():
        project = projects.create(store, "runs", "me")
        made = [
            models.create(
                store,
                HOSTILE,
                {"x": HOSTILE},
                "me",
                project_id=project["id"],
                serviceId="service",
                serviceName=HOSTILE,
            )
            for _ in range(3)
        ]
        for execution in made[:2]:
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
        ids = dict(zip(("failed", "running", "waiting"), (each["id"] for each in made), strict=True))
        yield SimpleNamespace(browser=browser, project=project["id"], logs=logs, **ids)


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


def test_what_waits_has_not_started(executions):
    for name, started, lasted in (
        ("failed", True, True),
        ("running", True, False),
        ("waiting", False, False),
    ):
        page = executions.browser.page(f"/executions/{getattr(executions, name)}")
        facts = {each.dt.text: each.dd for each in page.select(".facts div")}
        assert bool(facts["Started"].find("time")) == started and facts["Created"].find("time")
        assert ("seconds" in facts["Duration"].text) == lasted
    rows = executions.browser.page(f"/projects/{executions.project}/executions").select("tbody tr")
    assert [bool(row.find("time")) for row in rows] == [False, True, True]


def test_a_phone_scrolls_drawings_that_it_could_not_show_legibly(browser):
    style = browser.send("GET", "/login/style.css").text
    assert "@media (min-width: 761px) { .graph.fits svg {" in style and style.count(".graph.fits") == 1


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

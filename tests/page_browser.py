"""A small browser for the tests of the page: cookies, forms, and parsed HTML."""

import http.client
import urllib.parse
from types import SimpleNamespace

from bs4 import BeautifulSoup


class Browser:
    """Follows no redirect by itself, and keeps cookies as a browser does."""

    def __init__(self, url):
        self.host = url.removeprefix("http://")
        self.cookies = {}

    def send(self, method, path, form=None, headers=None):
        connection = http.client.HTTPConnection(self.host, timeout=30)
        headers = dict(headers or {})
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        body = None
        if form is not None:
            body = urllib.parse.urlencode(form)
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        cookies = [value for name, value in answer.getheaders() if name == "Set-Cookie"]
        for cookie in cookies:
            name, value = cookie.split(";")[0].split("=", 1)
            self.cookies[name] = value.strip('"')
        return SimpleNamespace(
            status=answer.status,
            headers=answer.headers,
            content=content,
            text=content.decode(errors="replace"),
            cookies=cookies,
        )

    def page(self, path, status=200):
        answer = self.send("GET", path)
        assert answer.status == status, answer.text
        page = BeautifulSoup(answer.text, "html.parser")
        check_sound(page)
        return page


def texts(page):
    return " ".join(page.stripped_strings)


def texts_of(page, tag):
    return "".join(element.get_text() for element in page.find_all(tag))


def check_harmless(page):
    """Check that a page has nothing that browsers run, beside our scripts, or load from other hosts."""
    scripts = [script.attrs for script in page.find_all("script")]
    ours = ["/boxes.js", "/label.js"] if page.find(id="label") else []
    assert scripts == [{"src": source, "defer": ""} for source in ours]
    assert not page.find("iframe") and not page.find("style") and not texts_of(page, "script")
    for element in page.find_all(True):
        assert not [name for name in element.attrs if name.startswith("on") or name == "style"], element
        for name in ("href", "src", "action", "formaction", "xlink:href"):
            value = element.get(name, "/")
            assert value.startswith(("/", "#", "?")) and not value.startswith("//"), element


def fields(form):
    """The fields that a form sends beside the button."""
    return {field["name"]: field.get("value", "") for field in form.select("input")}


def check_sound(page):
    """Check the accessibility of a page; done for every page of every test."""
    assert page.html["lang"] == "en" and page.title.text and len(page.select("h1")) == 1 and page.main
    ids = [element["id"] for element in page.select("[id]")]
    assert "" not in ids and len(set(ids)) == len(ids)
    for drawing in page.select("svg[role=img]"):
        assert drawing.get("aria-label")
    for image in page.select("svg:not([role=img])"):
        assert image.get("aria-hidden") == "true"
    for field in page.select("input:not([type=hidden]), select, progress"):
        assert (
            field.find_parent("label")
            or field.get("aria-label")
            or page.find("label", {"for": field.get("id")})
        )
    for element in page.select("a, button, nav, [role=region]"):
        assert element.get_text(strip=True) or element.get("aria-label"), element
    for part in page.select("nav, [role=region]"):
        assert part.get("aria-label")
    for table in page.select("table"):
        assert all(cell.get("scope") for cell in table.select("th"))
    for link in page.select("main a[href^='#']"):
        assert link["href"][1:] in ids, link

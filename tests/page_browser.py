"""A small browser for the tests of the page: cookies, forms, and HTML that can be asked."""

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
        return BeautifulSoup(answer.text, "html.parser")


def texts(page):
    return " ".join(page.stripped_strings)


def check_harmless(page):
    """What browsers would run is not there, and what comes from elsewhere neither."""
    assert not page.find("script") and not page.find("iframe") and not page.find("style")
    for element in page.find_all(True):
        assert not [name for name in element.attrs if name.startswith("on") or name == "style"], element
        for name in ("href", "src", "action", "xlink:href"):
            value = element.get(name, "/")
            assert value.startswith(("/", "#", "?")) and not value.startswith("//"), element


def fields(form):
    """Give what a form sends beside the button that is pressed."""
    return {field["name"]: field.get("value", "") for field in form.select("input")}

"""The page of the offline platform, in a browser."""

from alhelpers import platform


def test_the_first_page_is_shown(page, tmp_path):
    server = platform.start(tmp_path / "state")
    try:
        page.goto(server.page)
        assert page.locator("h1").count() == 1 and page.title()
    finally:
        server.stop()

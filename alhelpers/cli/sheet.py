"""A page with the pictures that were picked, in one file that needs no other."""

import base64
import io
from collections.abc import Iterable
from html import escape
from pathlib import Path

_SIDE = 200  # of a picture on the page, in pixels

_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 2em; color: #1c2733; background: #fff }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 1em }}
figure {{ margin: 0; padding: 8px; border: 1px solid #d5dbe1; border-radius: 6px }}
img {{ display: block; width: 100%; height: 200px; object-fit: contain; background: #f3f5f7 }}
figcaption {{ overflow-wrap: anywhere; margin-top: 6px }}
@media (prefers-color-scheme: dark) {{
  body {{ color: #e6ebf0; background: #14191f }} figure {{ border-color: #3a444e }} img {{ background: #20272e }}
}}
</style>
<h1>{title}</h1>
<main>
{figures}
</main>
</html>
"""


def write_sheet(target: Path, title: str, root: Path, picks: Iterable[tuple[str, int, float]]) -> None:
    """Write the pictures of path, rank and score, small and embedded."""
    figures = [
        f'<figure><img src="data:image/jpeg;base64,{_thumbnail(root / path)}" alt="{escape(path)}">'
        f"<figcaption><b>{rank}</b> &middot; {score:.4g}<br>{escape(path)}</figcaption></figure>"
        for path, rank, score in picks
    ]
    target.write_text(_PAGE.format(title=escape(title), figures="\n".join(figures)), encoding="utf-8")


def _thumbnail(file: Path) -> str:
    from alhelpers.data.images import open_image

    image = open_image(file, "RGB", least=_SIDE)
    image.thumbnail((_SIDE, _SIDE))
    if max(image.size) < _SIDE // 2:  # small pictures are seen better in whole pixels
        scale = _SIDE // max(image.size)
        image = image.resize((image.width * scale, image.height * scale), 0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()

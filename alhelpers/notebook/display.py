"""Show a figure, a recorded value, or the progress of a loop."""

import base64
import html
import io
import json
from collections.abc import Iterable, Iterator, Sized
from typing import Any

from IPython.display import display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from alhelpers.runs.notebooks import METADATA_KEY, RECORD_MIME


def show(figure: Figure, *, alt: str, caption: str, result: bool = False) -> None:
    """Display a figure with alternative text and a caption, then close it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    alt : str
        Description of the picture, for a reader who can't see it.
    caption : str
        What to notice; printed under the picture.
    result : bool
        Whether this is the one figure that shows the notebook's result: ``alhelpers tutorial --record`` saves it as the
        picture of the first cell, and writes its alternative text there.

    Raises
    ------
    ValueError
        If one of the texts is empty.
    """
    if not alt.strip() or not caption.strip():
        raise ValueError("show() needs both an alternative text and a caption")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", dpi=figure.dpi)
    plt.close(figure)
    image = base64.b64encode(buffer.getvalue()).decode()
    # The HTML form comes first for JupyterLab and the report, which show no alternative text of a plain PNG.
    page = (
        f'<figure style="margin: 0"><img style="max-width: 100%" alt="{html.escape(alt)}"'
        f' src="data:image/png;base64,{image}"><figcaption>{html.escape(caption)}</figcaption></figure>'
    )
    data = {"text/html": page, "image/png": image, "text/plain": f"{caption}\n[{alt}]"}
    marked = {METADATA_KEY: {"result": True}} if result else {}
    display(data, raw=True, metadata={"image/png": {"alt": alt}} | marked)


def record(name: str, value: Any, *, tolerance: float | None = None) -> None:
    """Store a value in the executed notebook, for tests, sweeps and the prose to use.

    ``alhelpers tutorial --record`` writes it into ``recorded.json``, and later runs are compared with that.

    Parameters
    ----------
    name : str
        Its name in ``runs.recorded``; a later value of the same name replaces it.
    value : number, str, bool, None, list or dict
        Numpy scalars and arrays become plain ones, also inside a list or dict.
    tolerance : float, optional
        How far each number in the value may be from the recorded one, which means that nothing is printed by a later
        run; ``math.inf`` for a value that differs each time, such as a name with an id. The default is 0 for whole
        numbers, and for other ones 0.02 or 2 % of the recorded number, whichever is larger.

    Raises
    ------
    ValueError
        If the value is of another type, or not finite, which JSON can't hold; or if the tolerance is below 0.
    """
    if tolerance is not None and not tolerance >= 0:
        raise ValueError(f"record({name!r}, ...): tolerance is {tolerance}: it must be at least 0")
    plain = _plain(value)
    try:
        json.dumps(plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"record({name!r}, ...) can't store {value!r}: {error}. It must be a finite number, a text, or a list or"
            " dict of these"
        ) from error
    said = ("yes" if plain else "no") if isinstance(plain, bool) else plain
    text = f"{said:.4g}" if isinstance(said, float) else str(said)
    # As a text, for JSON has no infinity.
    marked = {} if tolerance is None else {METADATA_KEY: {"tolerance": str(float(tolerance))}}
    display({RECORD_MIME: {name: plain}, "text/plain": f"{name} = {text}"}, raw=True, metadata=marked)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_plain(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value.tolist() if hasattr(value, "tolist") else value


def progress(iterable: Iterable[Any], text: str, *, total: int | None = None) -> Iterator[Any]:
    """Yield from an iterable, and show the progress in one line of text.

    Plain text, not a widget, so that it is kept by saving, papermill and the report.

    Parameters
    ----------
    iterable : iterable
        The entries.
    text : str
        What is being done.
    total : int, optional
        Number of entries, if the iterable has no length; a ValueError is raised if it is unknown.
    """
    if total is None and not isinstance(iterable, Sized):
        raise ValueError(f"progress({text!r}) needs the number of entries: pass total=...")
    count = total if total is not None else len(iterable)
    handle = display({"text/plain": f"{text}: 0 of {count}"}, raw=True, display_id=True)
    for number, entry in enumerate(iterable, start=1):
        yield entry
        if handle is None:  # a plain Python session
            continue
        handle.update({"text/plain": f"{text}: {number} of {count}"}, raw=True)

"""Show a figure, a recorded value, or how far a loop has come."""

import base64
import html
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from IPython.display import display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from alhelpers.experiments.runner import RECORD_MIME


def show(figure: Figure, *, alt: str, caption: str) -> None:
    """Display a figure with alternative text and a caption, then close it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    alt : str
        What the picture shows, for a reader who can't see it.
    caption : str
        What to notice; printed under the picture.

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
    display(data, raw=True, metadata={"image/png": {"alt": alt}})


def image_grid(images: np.ndarray, titles: Sequence[str] = (), *, columns: int = 10) -> Figure:
    """Draw grey images in rows, each with its title.

    Parameters
    ----------
    images : numpy.ndarray, shape (N, H, W)
    titles : sequence of str, optional
        One an image.
    columns : int
        Images in a row.

    Returns
    -------
    matplotlib.figure.Figure
    """
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(columns, 1.25 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.axis("off")
    for number, image in enumerate(images):
        axes.flat[number].imshow(image, cmap="gray_r")
        if len(titles):
            axes.flat[number].set_title(titles[number], fontsize=8)
    return figure


def record(name: str, value: Any) -> None:
    """Leave a value in the executed notebook, for tests and sweeps to read.

    Parameters
    ----------
    name : str
        Under which ``experiments.recorded`` finds it; a later value of the same name replaces it.
    value : number, str, bool, list or dict
        Numpy scalars and arrays become plain ones.
    """
    plain = value.tolist() if hasattr(value, "tolist") else value
    text = f"{plain:.4g}" if isinstance(plain, float) else str(plain)
    display({RECORD_MIME: {name: plain}, "text/plain": f"{name} = {text}"}, raw=True)


def progress(iterable: Iterable[Any], text: str, *, total: int | None = None) -> Iterator[Any]:
    """Yield from an iterable, and show how far it has come in one line of text.

    Plain text and no widget: it survives saving, papermill and the report.

    Parameters
    ----------
    iterable : iterable
    text : str
        What is being done.
    total : int, optional
        Number of entries, if the iterable has no length.
    """
    count = total if total is not None else len(iterable)
    handle = display({"text/plain": f"{text}: 0 of {count}"}, raw=True, display_id=True)
    for number, entry in enumerate(iterable, start=1):
        yield entry
        handle.update({"text/plain": f"{text}: {number} of {count}"}, raw=True)

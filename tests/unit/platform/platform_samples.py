"""What a hostile or broken client sends: texts, coordinates and documents; and a picture."""

import io
import math

from PIL import Image

HOSTILE = """"><script>alert('x')</script><img src=x onerror=alert(1)>&{{7*7}}{%raw%}"""

#: Coordinates that are not those of any shape.
NONSENSE = [
    *(None, 7, "x", True, [], {}, [[]], [None], [[None]], [[], []], {"x": "1", "y": 2}, [{"x": 1}]),
    *({"center": 1}, {"box": []}, {"box": None}, [{"x": math.nan, "y": 1}] * 2, [[{"x": True, "y": 1}]]),
    *([{"x": 1e308, "y": 1}, {"x": -1e308, "y": 5}], [{"x": math.inf, "y": 1}] * 2, {"data": 5}),
    *({"x": 1, "y": HOSTILE}, [{"x": HOSTILE, "y": 1}] * 2, [[{"x": 1, "y": HOSTILE}]], HOSTILE),
    *({"center": {"x": 1, "y": 1}, "rx": HOSTILE, "ry": 1}, [{"x": 1, "y": 1}, {"x": 2, "y": 2}, HOSTILE]),
    *("data:image/svg+xml;base64,AAAA", "data:text/html,<script>", [[{"x": 1, "y": 1}] * 3000]),
]

#: Values of fields that expect something else.
JUNK = [
    *(
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
    ),
    *(
        {"system": junk}
        for junk in (None, 5, [], {"tags": 5, "recipes": 7}, {"tags": [1], "recipes": [None]})
    ),
    *(
        {"system": {"recipes": [{}], "tags": {"a": []}, "evaluate": junk}}
        for junk in (5, {"datasets": [None]})
    ),
    *({"user": {"model": junk}} for junk in (5, {"confidence": "high", "name": [1]}, {"confidence": 1e308})),
]


def png(width=20, height=10, colour=(10, 200, 90)):
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "PNG")
    return file.getvalue()

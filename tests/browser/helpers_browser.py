"""What the tests of both labelling pages do with the mouse."""


def drag(page, image, start, end):
    """Drag the mouse between two places in the image of an SVG, in its pixels."""
    frame = image.bounding_box()
    scale = frame["width"] / float(image.get_attribute("width"))
    (x, y), (to_x, to_y) = ((frame["x"] + x * scale, frame["y"] + y * scale) for x, y in (start, end))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(to_x, to_y, steps=3)
    page.mouse.up()

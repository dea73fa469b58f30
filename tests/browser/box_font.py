"""A font in which every character is the same box, so that pages have the same layout on every machine."""

from base64 import b64encode
from functools import cache
from io import BytesIO

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

NAME = "Boxes"
UNITS, WIDTH, HEIGHT = 1000, 500, 520
LETTERS = [*range(0x21, 0x250), *range(0x2010, 0x2060)]


@cache
def style() -> str:
    """Return CSS that sets all text of a page in this font."""
    source = f"url(data:font/ttf;base64,{b64encode(_draw()).decode()})"
    return (
        f"@font-face {{ font-family: {NAME}; src: {source}; }}"
        f" *, *::before, *::after {{ font-family: {NAME} !important; caret-color: transparent !important; }}"
    )


def _draw() -> bytes:
    empty, box = TTGlyphPen(None), TTGlyphPen(None)
    box.moveTo((40, 0))
    for corner in ((40, HEIGHT), (WIDTH - 40, HEIGHT), (WIDTH - 40, 0)):
        box.lineTo(corner)
    box.closePath()
    font = FontBuilder(UNITS, isTTF=True)
    font.setupGlyphOrder([".notdef", "space", "box"])
    font.setupCharacterMap({0x20: "space", 0xA0: "space", **dict.fromkeys(LETTERS, "box")})
    nothing = empty.glyph()
    font.setupGlyf({".notdef": nothing, "space": nothing, "box": box.glyph()})
    font.setupHorizontalMetrics(dict.fromkeys((".notdef", "space", "box"), (WIDTH, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": NAME, "styleName": "Regular"})
    font.setupOS2(sTypoAscender=800, sTypoDescender=-200, usWinAscent=800, usWinDescent=200)
    font.setupPost()
    written = BytesIO()
    font.save(written)
    return written.getvalue()

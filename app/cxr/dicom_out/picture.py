"""The film as people see it who have no viewer for reports: regions drawn, and words below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from app.cxr.regions import Region

#: Displays in use show 2 megapixels at most, and the film itself lies beside it in full.
LONGEST_SIDE = 1536
#: A smaller film would be narrower than its words.
SHORTEST_LONGEST_SIDE = 768
# Amber, which no film has and which the colour blind tell from grey, on a dark seam that keeps it
# apart from bone.
AMBER, SEAM, INK, BAND = (255, 176, 0), (0, 0, 0), (235, 235, 235), (0, 0, 0)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def can_draw(line: str) -> bool:
    """Whether the font at hand has all letters of a line: it knows ASCII and few more."""
    font = _font(24)
    missing = _drawn(font, "\U0010ffff")
    return all(letter == " " or _drawn(font, letter) != missing for letter in line)


def _drawn(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter, "L")
    return mask.size, bytes(mask)


def drawn(pixels: np.ndarray, regions: Sequence[Region], caption: Sequence[str]) -> np.ndarray:
    """The film in colour with boxes around the regions and a band of words below it.

    ``pixels`` uint8 ``(height, width)``, never turned or mirrored; uint8 ``(rows, columns, 3)``.
    Raises ValueError for a line that the font cannot draw: see ``can_draw``.
    """
    for line in caption:
        if not can_draw(line):
            raise ValueError("letters that cannot be drawn")
    film, scale = _fitted(pixels)
    _draw_boxes(film, regions, scale)
    band = _band(film.width, caption)
    whole = Image.new("RGB", (film.width, film.height + band.height), BAND)
    whole.paste(film, (0, 0))
    whole.paste(band, (0, film.height))
    return np.asarray(whole)


def _fitted(pixels: np.ndarray) -> tuple[Image.Image, float]:
    longest = max(pixels.shape)
    scale = min(max(longest, SHORTEST_LONGEST_SIDE), LONGEST_SIDE) / longest
    height, width = (max(1, round(side * scale)) for side in pixels.shape)
    image = Image.fromarray(pixels)
    if scale != 1:
        smooth = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
        image = image.resize((width, height), smooth)
    return image.convert("RGB"), scale


def _draw_boxes(film: Image.Image, regions: Sequence[Region], scale: float) -> None:
    draw = ImageDraw.Draw(film)
    line = max(2, round(max(film.size) / 320))
    # All seams first: the seam of one box must not cut through the line of another
    for colour, out, width in ((SEAM, line, 3 * line), (AMBER, 0, line)):
        for region in regions:
            draw.rectangle(_box(region, scale, film.size, out), outline=colour, width=width)


def _box(region: Region, scale: float, size: tuple[int, int], out: int) -> list[int]:
    """A region's first and last column and row, ``out`` pixels wider on all sides."""
    left, top = region.x * scale, region.y * scale
    right, bottom = left + region.width * scale, top + region.height * scale
    return [
        max(0, round(left) - out),
        max(0, round(top) - out),
        min(size[0], round(right) + out) - 1,
        min(size[1], round(bottom) + out) - 1,
    ]


def _band(width: int, caption: Sequence[str]) -> Image.Image:
    """The words, the first line larger, each broken where it is too long for the film."""
    size = max(16, round(width / 44))
    margin = size
    rows = [
        (row, font)
        for number, line in enumerate(caption)
        for font in [_font(round(size * 1.35) if number == 0 else size)]
        for row in _broken(line, font, width - 2 * margin)
    ]
    steps = [round(1.5 * font.getbbox("Ag")[3]) for _, font in rows]
    band = Image.new("RGB", (width, sum(steps) + 2 * margin if rows else 0), BAND)
    draw = ImageDraw.Draw(band)
    top = margin
    for number, ((row, font), step) in enumerate(zip(rows, steps, strict=True)):
        draw.text((margin, top), row, fill=AMBER if number == 0 else INK, font=font)
        top += step
    return band


def _broken(line: str, font: Font, width: int) -> list[str]:
    rows = [""]
    for word in line.split():
        longer = f"{rows[-1]} {word}".strip()
        if rows[-1] and font.getlength(longer) > width:
            rows.append(word)
        else:
            rows[-1] = longer
    return rows


def _font(size: int) -> Font:
    """The one font that Pillow carries in itself, so that every computer draws the same."""
    return ImageFont.load_default(size)

"""The worst errors side by side. It shows films: it is written only where asked for, and stays with
whoever may see them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from app.cxr.radiograph import read_radiograph
from model_export.figures import Pair

MOST, COLUMNS = 24, 6
SIDE, CAPTION, GAP = 256, 46, 8
PAPER, INK, MARK = (250, 250, 247), (30, 34, 40), (255, 176, 0)


def worst_errors(pairs: Sequence[Pair], most: int = MOST) -> list[Pair]:
    """Films whose forced answer is wrong, the surest of them first (distance in log odds)."""
    wrong = [(distance, pair) for pair in pairs if (distance := _overshoot(pair)) > 0]
    wrong.sort(key=lambda found: (-found[0], str(found[1][0].path)))
    return [pair for _, pair in wrong[:most]]


def _overshoot(pair: Pair) -> float:
    """How far on the wrong side of its threshold a film lies; negative on the right side."""
    film, analysis = pair
    if analysis.probability is None or analysis.threshold is None:
        return -math.inf
    distance = _log_odds(analysis.probability) - _log_odds(analysis.threshold)
    if film.label:
        return -distance
    # at the threshold itself the forced answer is "likely"
    return max(distance, 1e-12) if analysis.probability >= analysis.threshold else distance


def _log_odds(probability: float) -> float:
    held = min(max(probability, 1e-12), 1 - 1e-12)
    return math.log(held / (1 - held))


def contact_sheet(pairs: Sequence[Pair]) -> Image.Image:
    """Films with the peak of their map marked, under each what was said and what was true."""
    rows = max(1, math.ceil(len(pairs) / COLUMNS))
    size = (COLUMNS * (SIDE + GAP) + GAP, rows * (SIDE + CAPTION + GAP) + GAP)
    sheet = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    if not pairs:
        pen.text((GAP, GAP), "No film was called wrong.", fill=INK, font=font)
    for index, pair in enumerate(pairs):
        left = GAP + index % COLUMNS * (SIDE + GAP)
        top = GAP + index // COLUMNS * (SIDE + CAPTION + GAP)
        sheet.paste(_thumbnail(pair), (left, top))
        for line, text in enumerate(_caption(pair)):
            pen.text((left, top + SIDE + 4 + 18 * line), text, fill=INK, font=font)
    return sheet


def _thumbnail(pair: Pair) -> Image.Image:
    film, analysis = pair
    picture = Image.fromarray(read_radiograph(film.path).pixels).convert("RGB")
    scale = SIDE / max(picture.size)
    small = picture.resize(
        (max(1, round(picture.width * scale)), round(picture.height * scale) or 1)
    )
    tile = Image.new("RGB", (SIDE, SIDE), (0, 0, 0))
    corner = ((SIDE - small.width) // 2, (SIDE - small.height) // 2)
    tile.paste(small, corner)
    if analysis.peak is not None:
        x, y = (round(at * scale) + edge for at, edge in zip(analysis.peak, corner, strict=True))
        ImageDraw.Draw(tile).ellipse((x - 9, y - 9, x + 9, y + 9), outline=MARK, width=2)
    return tile


def _caption(pair: Pair) -> tuple[str, str]:
    film, analysis = pair
    truth = film.kind or ("positive" if film.label else "negative")
    said = f"{analysis.answer.replace('_', ' ')} {analysis.probability:.3f}; label: {truth}"
    return _held(film.path.name, 34), _held(said, 38)


def _held(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"

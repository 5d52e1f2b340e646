"""The whole pictures that fuzzing begins with: a small film in every format that is read."""

from __future__ import annotations

import numpy as np
from PIL import Image

from model_export.phantom import chest_film
from tests import films

#: Hardly larger than what is refused as too small: what an example costs is mostly pixels.
FILM = chest_film(3, (112, 100))


def pictures() -> list[bytes]:
    """The film as PNG, JPEG, TIFF, BMP, WebP and GIF, in the modes of cameras and scanners."""
    grey = Image.fromarray(FILM)
    deep = Image.fromarray(FILM.astype(np.uint16) * 257)
    colour = films.rgb(FILM)
    turned = Image.Exif()
    turned[0x0112] = 6
    made = [films.encode(one, "PNG") for one in (grey, deep, colour, colour.convert("RGBA"))]
    made += [films.encode(grey.convert(mode), "PNG") for mode in ("1", "P", "LA")]
    made += [films.encode(one, "JPEG", exif=turned) for one in (grey, colour)]
    made += [films.encode(colour, "JPEG", progressive=True)]
    made += [films.encode(colour.convert("CMYK"), "JPEG")]
    for how in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        made.append(films.encode(grey, "TIFF", compression=how))
    made.append(films.encode(grey.convert("1"), "TIFF", compression="group4"))
    made.append(films.encode(deep, "TIFF"))
    made.append(films.encode(grey, "TIFF", save_all=True, append_images=[grey, grey]))
    made += [films.encode(one, "BMP") for one in (grey, colour)]
    made += [films.encode(colour, "WEBP"), films.encode(colour, "WEBP", lossless=True)]
    made.append(films.encode(grey, "GIF"))
    return made


def pngs() -> list[bytes]:
    """Those of ``pictures`` that are PNG."""
    return [one for one in pictures() if one.startswith(b"\x89PNG")]

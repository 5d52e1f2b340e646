"""What is plainly no usable frontal chest film, by rules that can be read; the model's gate judges
the rest.

Each limit was measured on 7107 real chest films (children and adults, five collections), of which
none is refused; the margin stands beside it. A rule that costs real films has no place here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageFilter

from app.cxr.radiograph import Radiograph

CODES = frozenset(
    {
        "not_a_radiograph",  # details: modality
        "not_a_chest_film",  # details: body_part
        "lateral_view",
        "for_processing",
        "too_small",  # details: width, height, minimum
        "odd_shape",
        "constant_image",
        "unusable_exposure",
        "too_dark",
        "too_bright",
        "too_blurred",
        "almost_empty",
        "colour_photograph",
        "page_of_text",
        "two_films",
    }
)


@dataclass(frozen=True)
class Refusal:
    """Why a film is not answered: a stable code of CODES, and what fills its sentence."""

    code: str
    details: Mapping[str, str] = field(default_factory=dict)


def refusals(film: Radiograph) -> list[Refusal]:
    """Every reason not to answer this film, the most telling first; none for a usable one."""
    found = [*_by_tags(film), *_by_shape(film)]
    if not any(refusal.code == "too_small" for refusal in found):
        found += _by_look(film)
    return found


# --- what the tags say ------------------------------------------------------------------------

# PS3.3 C.7.3.1.1.1. Unknown, OT and SC are let through: scanned films come under them.
_OTHER_MODALITIES = re.compile(
    "CT|MR|US|IVUS|BDUS|NM|PT|ES|GM|SM|XC|OP|OPT|OPV|OPTBSV|OCT|OPM|OSS|DMS|BMD|"
    "ECG|EPS|HD|RESP|RTDOSE|RTIMAGE|RTPLAN|RTSTRUCT|RTRECORD|SEG|SR|PR|KO|REG|DOC"
)
_OTHER_FILMS = {"MG": "BREAST", "PX": "JAW", "IO": "TEETH"}
# PS3.4 B.5: CT, MR, ultrasound, nuclear medicine, PET, visible light, radiotherapy
_IMAGES = r"1\.2\.840\.10008\.5\.1\.4\.1\.1\."
_OTHER_SOP_CLASSES = re.compile(_IMAGES + r"(2|4|3\.1|6\.[12]|20|128|130|77\.1|481)(\..*)?")

# PS3.16 annex L. Tags are often left at the unit's last setting, so only parts that no chest film
# is mistaken for: not the abdomen, the shoulder, the ribs or the thoracic spine.
_OTHER_PARTS = re.compile(
    "ANKLE|ARM|BREAST|CALCANEUS|CSPINE|ELBOW|EXTREMITY|FEMUR|FINGER|FOOT|FOREARM|HAND|HEAD|HIP|"
    "HUMERUS|JAW|KNEE|LEG|LSPINE|MANDIBLE|MAXILLA|NOSE|ORBIT|PATELLA|PELVIS|SINUS|SKULL|TEETH|"
    "THUMB|TIBIA|TOE|ULNA|WRIST|ZYGOMA"
)
# LL and RL are the standard's (PS3.3 C.8.1.2); LLD and RLD are decubitus films, seen frontally.
_LATERAL = re.compile(r"(LL|RL|((L|R|LT|RT|LEFT|RIGHT)[ _-]?)?LAT(ERAL)?)")


def _by_tags(film: Radiograph) -> Iterator[Refusal]:
    modality, part = film.modality or "", film.body_part or ""
    other_class = _OTHER_SOP_CLASSES.fullmatch(film.sop_class_uid or "")
    if _OTHER_MODALITIES.fullmatch(modality) or other_class:
        yield Refusal("not_a_radiograph", {"modality": modality or "?"})
    part = _OTHER_FILMS.get(modality, part)
    if _OTHER_PARTS.fullmatch(part):
        yield Refusal("not_a_chest_film", {"body_part": part})
    if _LATERAL.fullmatch(film.view_position or ""):
        yield Refusal("lateral_view")
    if film.is_raw:
        yield Refusal("for_processing")


# --- shape --------------------------------------------------------------------------------------

# Below this no rib can be told from a vessel; published films of 224 px and thumbnails of 128 pass.
MINIMUM_SIDE = 96
# The widest real film measured is 2.6 times as wide as high (an infant, cropped to the lungs).
LONGEST_ASPECT = 4.0


def _by_shape(film: Radiograph) -> Iterator[Refusal]:
    short, long = sorted((film.width, film.height))
    if short < MINIMUM_SIDE:
        size = {"width": str(film.width), "height": str(film.height)}
        yield Refusal("too_small", {**size, "minimum": str(MINIMUM_SIDE)})
    elif long > LONGEST_ASPECT * short:
        yield Refusal("odd_shape")


# --- look, on a small copy ------------------------------------------------------------------------

_SIDE = 128


def _by_look(film: Radiograph) -> list[Refusal]:
    image = Image.fromarray(film.pixels)
    small = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX))
    low, high = np.percentile(small, (1, 99))
    if high - low < CONSTANT_SPREAD:
        return [Refusal("constant_image")]
    if film.colourfulness > MOST_COLOUR:
        return [Refusal("colour_photograph")]
    if _is_almost_empty(small):
        return [Refusal("almost_empty")]
    if _is_page(film):
        return [Refusal("page_of_text")]
    if code := _exposure(small, high - low):
        return [Refusal(code)]
    if sharpness(film) < LEAST_SHARPNESS:
        return [Refusal("too_blurred")]
    return [Refusal("two_films")] if _is_two_films(small) else []


# Grey levels between the first and the last percent; the flattest real film spans 63.
CONSTANT_SPREAD = 8
LEAST_SPREAD = 24
# Of the middle of a film, without its outer tenth. The median of the darkest real film is 53, its
# darkest tenth reaches 203 on the palest, and on the most burnt out 53 % of it is white.
DARKEST_MEDIAN, PALEST_DARK, MOST_WHITE = 35.0, 212.0, 0.58
_MIDDLE = slice(_SIDE // 10 + 1, -_SIDE // 10)


def _exposure(small: np.ndarray, spread: float) -> str | None:
    """What is wrong with the exposure of a small copy; None where it can be read."""
    middle = small[_MIDDLE, _MIDDLE]
    white = (middle >= 250).mean()
    if white > MOST_WHITE or np.percentile(middle, 10) > PALEST_DARK:
        return "too_bright"
    if np.median(middle) < DARKEST_MEDIAN and (middle > 0).any():
        return "too_dark"
    return "unusable_exposure" if spread < LEAST_SPREAD else None


# Of real films the least sharp has 0.060; one blurred by a fiftieth of its width has 0.02 to 0.06.
LEAST_SHARPNESS = 0.045
# Where the gate doubts a film and it is less sharp than 999 in 1000 films, that is why.
DOUBTFUL_SHARPNESS = 0.07


def sharpness(film: Radiograph) -> float:
    """Mean size of the Laplacian on a copy of 128 pixels, in deviations of its greys, 0 or more."""
    image = Image.fromarray(film.pixels).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    grey = np.asarray(image, np.float64)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    edges = np.abs(4 * grey[1:-1, 1:-1] - around)[_MIDDLE, _MIDDLE]
    return float(edges.mean() / (grey[_MIDDLE, _MIDDLE].std() + 1e-3))


# Grey levels of colour beyond a tint (`radiograph.colourfulness`): films 0, everyday photographs 20
# to 60.
MOST_COLOUR = 20.0


def _is_almost_empty(small: np.ndarray) -> bool:
    """One grey, within 3 levels, nearly everywhere: at most 0.58 of a real film (its rim)."""
    counts = np.bincount(small.ravel(), minlength=256)
    return float(np.convolve(counts, np.ones(7), "same").max()) > 0.85 * small.size


def _is_page(film: Radiograph) -> bool:
    """Even paper with thin dark strokes: they vanish when the bright parts are let grow by 2 %.

    What is left then is as bright in its darkest twentieth as in its brightest: 0.99 or more on
    printed pages, 0.85 at most on real films, whose lungs are no thin strokes.
    """
    image = Image.fromarray(film.pixels).resize((256, 256), Image.Resampling.BOX)
    page = np.asarray(image)
    if np.median(page) < 150:
        return False
    paper = np.asarray(image.filter(ImageFilter.MaxFilter(9)))
    dark, bright = np.percentile(paper, (5, 95))
    return bool(dark > 0.9 * bright and (page < 0.75 * bright).mean() > 0.02)


def _is_two_films(small: np.ndarray) -> bool:
    """Two chests side by side: each half is like the other and like its own mirror image.

    In one film the halves mirror each other instead, and neither is symmetric in itself. Rows are
    compared about their mean, for bright below and dark above says nothing about the number of
    chests. Besides, each half must have its own bright middle (spine and heart) between two darker
    fields. Finds nearly all pairs of children's films and about half of those of adults.
    """
    cells = small.reshape(32, 4, 32, 4).mean(axis=(1, 3))[4:28]
    left, right = cells[:, :16], cells[:, 16:]
    likeness = min(
        _likeness(left, right), _likeness(left, left[:, ::-1]), _likeness(right, right[:, ::-1])
    )
    return likeness > 0.1 and min(_middle_ridge(cells)) > 0.1


def _likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation about the mean of each row."""
    one = one - one.mean(axis=1, keepdims=True)
    other = other - other.mean(axis=1, keepdims=True)
    scale = np.sqrt((one * one).sum() * (other * other).sum())
    return float((one * other).sum() / scale) if scale else 0.0


def _middle_ridge(cells: np.ndarray) -> tuple[float, float]:
    """By how much the middle of each half outshines its flanks, in deviations, at lung height."""
    profile = cells[4:16].mean(axis=0)
    profile = (profile - profile.mean()) / (profile.std() + 1e-3)
    ridges = [
        half[7:9].mean() - max(half[3:6].mean(), half[10:13].mean())
        for half in (profile[:16], profile[16:])
    ]
    return float(ridges[0]), float(ridges[1])

"""DICOM objects as films: pixels by the grey scale pipeline of the standard, and what tags tell.

PS3.3 C.11 and PS3.4 N.2: stored values, modality LUT or rescale, VOI LUT or window, and last the
inversion that MONOCHROME1 asks for. All of these treat each pixel by itself, so they are computed
once for each stored value that can occur and looked up for the pixels.
"""

from __future__ import annotations

import io
import re
import zlib
from datetime import date

import numpy as np
import pydicom
from PIL import Image
from pydicom import config
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from app.cxr.radiograph import (
    MAX_FILE_BYTES,
    Radiograph,
    UnreadableFilm,
    check_size,
    colourfulness,
    grey_from_depth,
    grey_range,
    percentiles,
    to_bytes,
    too_large,
    too_many_pixels,
)
from app.cxr.stored import Ends, StoredValues, of_grey, packed, usual_ends

# Clinics' units write values that break their VR's rules; they are read as far as they make sense.
config.settings.reading_validation_mode = config.IGNORE

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_UNDEFINED_LENGTH = 0xFFFFFFFF
_ELEMENT_HEADER = 8  # bytes, the least there can be (PS3.5, 7.1)


def read_dicom(content: bytes) -> Radiograph:
    """The first frame as displayed, and what the tags say; raises UnreadableFilm."""
    dataset = _dataset(content)
    pixels, colour = _pixels(dataset)
    return Radiograph(
        pixels,
        frames=_number(dataset, "NumberOfFrames") or 1,
        view_position=_view_position(dataset),
        age_years=_age_years(dataset),
        sex=_one_of(dataset, "PatientSex", ("M", "F", "O")),
        colourfulness=colour,
        modality=_code(dataset, "Modality"),
        sop_class_uid=_text(dataset, "SOPClassUID"),
        body_part=_code(dataset, "BodyPartExamined"),
        patient_name=_name(dataset),
        patient_id=_text(dataset, "PatientID"),
        study_uid=_text(dataset, "StudyInstanceUID"),
        sop_instance_uid=_text(dataset, "SOPInstanceUID"),
    )


def read_stored_values(content: bytes) -> StoredValues:
    """The first frame before any window; raises UnreadableFilm."""
    dataset = _dataset(content)
    stored, photometric = _first_frame(dataset)
    if stored.ndim == 3:
        return of_grey(_grey_of_colour(stored)[0])
    inverted = photometric == "MONOCHROME1"
    values = _without_padding(stored, dataset, inverted)
    slope, intercept = 1.0, 0.0
    if dataset.get("ModalityLUTSequence"):
        values = _table(values, dataset.ModalityLUTSequence[0], dataset)[0].astype(np.int64)
    else:
        slope, intercept = _rescale(dataset) or (1.0, 0.0)
    pixels, step, lowest = packed(values)
    slope, intercept = slope * step, slope * lowest + intercept
    window = _ends_of(_window_ends(dataset), pixels, slope, intercept)
    depth = _number(dataset, "BitsStored")
    return StoredValues(
        pixels,
        bits=depth or 8 * pixels.dtype.itemsize,
        start=window
        or _ends_of(_table_ends(pixels, slope, intercept, dataset), pixels, slope, intercept)
        or usual_ends(pixels, slope, intercept, depth),
        window=window,
        slope=slope,
        intercept=intercept,
        inverted=inverted != (slope < 0),
    )


# --- the data set ---------------------------------------------------------------------------------


def _dataset(content: bytes) -> Dataset:
    _check_deflated(content)
    try:
        dataset = pydicom.dcmread(io.BytesIO(content), force=True)
    except EOFError as error:
        raise UnreadableFilm("truncated", format="DICOM") from error
    has_prefix = content[128:132] == b"DICM"
    if not has_prefix and "SOPClassUID" not in dataset and "Rows" not in dataset:
        raise UnreadableFilm("not_an_image")
    if not _has_pixels(dataset) and _ends_early(dataset, len(content)):
        raise UnreadableFilm("truncated", format="DICOM")
    return dataset


def _ends_early(dataset: Dataset, size: int) -> bool:
    """Does the file end within an element? pydicom takes what there is and says nothing."""
    if not len(dataset):
        return True
    last: object = dataset.get_item(max(dataset.keys()))
    if not isinstance(last, RawDataElement) or last.length == _UNDEFINED_LENGTH:
        kind = UID(_text(dataset, "SOPClassUID") or "").name
        return kind.endswith("Image Storage") and "Rows" not in dataset
    rest = size - last.value_tell - last.length
    return rest < 0 or 0 < rest < _ELEMENT_HEADER


def _has_pixels(dataset: Dataset) -> bool:
    return any(keyword in dataset for keyword in _PIXELS)


def _check_deflated(content: bytes) -> None:
    """A deflated data set may be a thousand times its file: look before pydicom inflates it."""
    if DeflatedExplicitVRLittleEndian.encode() not in content[132:1024]:
        return
    meta_ends = 144 + int.from_bytes(content[140:144], "little")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    size = 0
    rest = content[meta_ends:]
    while rest and not inflater.eof:
        size += len(inflater.decompress(rest, 1 << 24))
        rest = inflater.unconsumed_tail
        if size > MAX_FILE_BYTES:
            raise too_large()
    if not inflater.eof:
        raise UnreadableFilm("truncated", format="DICOM")


# --- pixels ---------------------------------------------------------------------------------------


def _pixels(dataset: Dataset) -> tuple[np.ndarray, float]:
    """Pixels uint8 as displayed, and their colourfulness."""
    stored, photometric = _first_frame(dataset)
    if stored.ndim == 3:
        return _grey_of_colour(stored)
    return _grey_of_stored(stored, dataset, inverted=photometric == "MONOCHROME1"), 0.0


def _first_frame(dataset: Dataset) -> tuple[np.ndarray, str]:
    """The first frame's stored values, colour as RGB, and the photometric interpretation."""
    if not _has_pixels(dataset):
        raise UnreadableFilm("no_pixels", format="DICOM")
    check_size(_number(dataset, "Columns") or 0, _number(dataset, "Rows") or 0)
    _check_transfer_syntax(dataset)
    _check_length(dataset)
    stored = _stored(dataset)
    check_size(stored.shape[1], stored.shape[0])
    photometric = _code(dataset, "PhotometricInterpretation") or "MONOCHROME2"
    if photometric == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
    return stored, photometric


def _check_transfer_syntax(dataset: Dataset) -> None:
    """Name the transfer syntax where no decoder for it is at hand; find out one left unsaid."""
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if not syntax:
        if "PixelData" in dataset and dataset["PixelData"].is_undefined_length:
            raise UnreadableFilm("transfer_syntax_not_supported", transfer_syntax="not stated")
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        syntax = dataset.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if implicit else explicit
        )
    try:
        available = get_decoder(syntax).is_available
    except (NotImplementedError, ValueError):
        available = False
    if not available:
        raise _not_supported(syntax)


def _check_length(dataset: Dataset) -> None:
    """Uncompressed pixels must all be there."""
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated or "PixelData" not in dataset:
        return
    names = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
    bits = np.prod([_number(dataset, name) or 1 for name in names], dtype=np.float64)
    if _code(dataset, "PhotometricInterpretation") == "YBR_FULL_422":
        bits *= 2 / 3  # PS3.3 C.7.6.3.1.2: half the chrominance is stored
    if 8 * len(dataset.PixelData or b"") < bits:
        raise UnreadableFilm("truncated", format="DICOM")


def _stored(dataset: Dataset) -> np.ndarray:
    """The first frame's stored values, colour as RGB."""
    if "NumberOfFrames" in dataset and _number(dataset, "NumberOfFrames") is None:
        del dataset.NumberOfFrames
    try:
        return pixel_array(dataset, index=0)
    except RuntimeError as error:
        # pydicom wraps what its decoders say into one message
        if "does not support" in str(error):
            raise _not_supported(dataset.file_meta.TransferSyntaxUID) from error
        if "exceeds limit" in str(error):
            raise too_many_pixels() from error
        raise


def _not_supported(syntax: str) -> UnreadableFilm:
    return UnreadableFilm("transfer_syntax_not_supported", transfer_syntax=UID(syntax).name)


def _grey_of_colour(stored: np.ndarray) -> tuple[np.ndarray, float]:
    if stored.dtype.itemsize > 1:
        stored = grey_from_depth(stored)
    image = Image.fromarray(stored.astype(np.uint8, copy=False))
    return np.asarray(image.convert("L")), colourfulness(image)


def _grey_of_stored(stored: np.ndarray, dataset: Dataset, inverted: bool) -> np.ndarray:
    """The grey scale pipeline: once for each stored value where there are few enough of them."""
    padding = _padding(dataset)
    lowest, highest = stored.min(), stored.max()
    if stored.dtype.kind == "f" or int(highest) - int(lowest) > 1 << 17:
        return _inverted(grey_from_depth(stored, _number(dataset, "BitsStored")), inverted)
    lowest, highest = int(lowest), int(highest)
    index = stored.astype(np.int32) - lowest if lowest else stored
    ramp = np.arange(lowest, highest + 1)
    is_padding = np.zeros(ramp.shape, bool)
    if padding is not None:
        is_padding = (ramp >= padding[0]) & (ramp <= padding[1])
    counts = np.bincount(index.ravel(), minlength=ramp.size)
    counts[is_padding] = 0
    grey = _inverted(_shown(ramp, counts, dataset), inverted)
    grey[is_padding] = 0  # PS3.3 C.7.5.1.1.2: no part of the picture, so shown as its black rim
    return grey[index]


def _inverted(grey: np.ndarray, inverted: bool) -> np.ndarray:
    return 255 - grey if inverted else grey


def _shown(ramp: np.ndarray, counts: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Grey 0..255 of each value of the ramp; ``counts`` tells how often each occurs."""
    values = _modality(ramp, dataset)
    for transform in (_voi_table, _window):
        grey = transform(values, dataset)
        # A window that shows one even grey is a wrong window: units do write such.
        if grey is not None and (np.ptp(grey[counts > 0]) if counts.any() else 0) > 1:
            return to_bytes(grey)
    if values is ramp and (_number(dataset, "BitsStored") or 16) == 8 and ramp[0] >= 0:
        return to_bytes(ramp)
    return _by_depth(values, counts, dataset)


def _by_depth(values: np.ndarray, counts: np.ndarray, dataset: Dataset) -> np.ndarray:
    """No window at all: the rule for other deep pictures (`radiograph.grey_from_depth`)."""
    if not counts.any():
        return np.zeros(values.shape, np.uint8)
    order = np.argsort(values, kind="stable")
    low, high = (values[order][end] for end in percentiles(counts[order]))
    black, white = grey_range(float(low), float(high), _number(dataset, "BitsStored"))
    return to_bytes((values - black) * (255 / (white - black)))


def _modality(ramp: np.ndarray, dataset: Dataset) -> np.ndarray:
    """PS3.3 C.11.1: the modality LUT, or rescale slope and intercept."""
    if dataset.get("ModalityLUTSequence"):
        return _table(ramp, dataset.ModalityLUTSequence[0], dataset)[0]
    rescale = _rescale(dataset)
    return ramp if rescale is None else ramp * rescale[0] + rescale[1]


def _rescale(dataset: Dataset) -> tuple[float, float] | None:
    """Slope and intercept, None where they are absent or change nothing."""
    slope, intercept = _real(dataset, "RescaleSlope"), _real(dataset, "RescaleIntercept")
    if slope is None or intercept is None or (slope, intercept) == (1, 0) or slope == 0:
        return None
    return slope, intercept


def _voi_table(values: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    """PS3.3 C.11.2.1.1: a VOI LUT goes before a window where both are given."""
    if not dataset.get("VOILUTSequence"):
        return None
    table, bits = _table(values, dataset.VOILUTSequence[0], dataset)
    return table * (255.0 / (2**bits - 1))


def _table(values: np.ndarray, item: Dataset, dataset: Dataset) -> tuple[np.ndarray, int]:
    """Values through a LUT (PS3.3 C.11.1.1), and the bits of its entries."""
    entries, first, bits = (int(number) for number in item.LUTDescriptor)
    entries = entries or 1 << 16
    if isinstance(item.LUTData, bytes):
        order = "<" if dataset.original_encoding[1] is not False else ">"
        packed = len(item.LUTData) < 2 * entries  # 8 bits an entry, two to a word
        table = np.frombuffer(item.LUTData, np.uint8 if packed else f"{order}u2")
    else:
        table = np.atleast_1d(np.asarray(item.LUTData, dtype=np.int64))
    if first > 32767 and values.min() < 0:
        first -= 1 << 16  # signed, but written under the other of the descriptor's two VRs
    place = np.clip(np.rint(values).astype(np.int64) - first, 0, min(entries, table.size) - 1)
    return table[place].astype(np.float64), bits


def _window(values: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    """PS3.3 C.11.2.1.2 and .3: the first window as LINEAR, LINEAR_EXACT or SIGMOID."""
    window = _stated_window(dataset)
    if window is None:
        return None
    center, width = window
    if _code(dataset, "VOILUTFunction") == "SIGMOID":
        return 255 / (1 + np.exp(np.clip(-4 * (values - center) / width, -80, 80)))
    if width == 0:
        return np.where(values > center, 255.0, 0.0)
    return np.clip((values - center) / width + 0.5, 0, 1) * 255


def _stated_window(dataset: Dataset) -> tuple[float, float] | None:
    """Centre and width of the first window; those of LINEAR as its formula uses them."""
    center, width = _real(dataset, "WindowCenter"), _real(dataset, "WindowWidth")
    linear = (_code(dataset, "VOILUTFunction") or "LINEAR") == "LINEAR"
    if center is None or width is None or width <= 0 or (linear and width < 1):
        return None
    return (center - 0.5, width - 1) if linear else (center, width)


def _window_ends(dataset: Dataset) -> Ends | None:
    """The values that the window shows black and white; of a SIGMOID, where its slope would end."""
    window = _stated_window(dataset)
    return window and (window[0] - window[1] / 2, window[0] + window[1] / 2)


def _table_ends(
    pixels: np.ndarray, slope: float, intercept: float, dataset: Dataset
) -> Ends | None:
    """The window nearest to a VOI LUT: the line through a tenth and nine tenths of its grey."""
    ramp = np.arange(int(pixels.min()), int(pixels.max()) + 1) * slope + intercept
    grey = _voi_table(ramp, dataset)
    if grey is None:
        return None
    within = ramp[(grey >= 25.5) & (grey <= 229.5)]
    if within.size < 2 or np.ptp(within) == 0:
        return None
    margin = np.ptp(within) / 8
    return float(within.min() - margin), float(within.max() + margin)


def _ends_of(ends: Ends | None, pixels: np.ndarray, slope: float, intercept: float) -> Ends | None:
    """Values as pixel values, None where they would show the film as one even grey."""
    if ends is None:
        return None
    black, white = sorted((end - intercept) / slope for end in ends)
    shown = np.clip((pixels.min(), pixels.max()), black, white)
    # A window that shows one even grey is a wrong window: units do write such.
    return (black, white) if np.ptp(shown) * 255 > white - black else None


def _without_padding(stored: np.ndarray, dataset: Dataset, inverted: bool) -> np.ndarray:
    """Padding as the blackest value of the picture, which is how it is shown."""
    padding = _padding(dataset)
    if padding is None:
        return stored
    is_padding = (stored >= padding[0]) & (stored <= padding[1])
    if is_padding.all() or not is_padding.any():
        return stored
    picture = stored[~is_padding]
    return np.where(is_padding, picture.max() if inverted else picture.min(), stored)


def _padding(dataset: Dataset) -> tuple[int, int] | None:
    """The range of stored values that are no part of the picture."""
    value = _number(dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = _number(dataset, "PixelPaddingRangeLimit")
    ends = (value, value if limit is None else limit)
    return min(ends), max(ends)


# --- tags -----------------------------------------------------------------------------------------


def _value(dataset: Dataset, keyword: str) -> object:
    """A tag's first value, None where it is absent, empty, or nonsense."""
    try:
        value = dataset.get(keyword)
    except Exception:  # noqa: BLE001  pydicom converts on access, and raises anything
        return None
    if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
        value = value[0] if len(value) else None
    return value


def _text(dataset: Dataset, keyword: str) -> str | None:
    value = _value(dataset, keyword)
    return str(value).replace("\0", "").strip() or None if value is not None else None


def _code(dataset: Dataset, keyword: str) -> str | None:
    text = _text(dataset, keyword)
    return text.upper() if text else None


def _one_of(dataset: Dataset, keyword: str, allowed: tuple[str, ...]) -> str | None:
    code = _code(dataset, keyword)
    return code if code in allowed else None


def _real(dataset: Dataset, keyword: str) -> float | None:
    try:
        number = float(str(_value(dataset, keyword)))
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _number(dataset: Dataset, keyword: str) -> int | None:
    number = _real(dataset, keyword)
    return None if number is None else int(number)


def _name(dataset: Dataset) -> str | None:
    """The patient's name as it is read: family, given and other names, without the carets."""
    text = _text(dataset, "PatientName")
    groups = [" ".join(group.replace("^", " ").split()) for group in (text or "").split("=")]
    return next((group for group in groups if group), None)


def _view_position(dataset: Dataset) -> str | None:
    """View position, or the meaning of the view code that newer objects carry instead."""
    stated = _code(dataset, "ViewPosition")
    if stated:
        return stated
    codes = dataset.get("ViewCodeSequence")
    return _VIEWS.get(_text(codes[0], "CodeValue") or "") if codes else None


# PS3.16 CID 4010: SNOMED CT and the SNOMED RT codes it replaced
_VIEWS = {
    "399348003": "AP",
    "R-10206": "AP",
    "272479007": "PA",
    "R-40888": "PA",
    "R-10214": "PA",
    "399198007": "RL",
    "R-10232": "RL",
    "399173006": "LL",
    "R-10236": "LL",
    "399067008": "LATERAL",
    "R-102CD": "LATERAL",
}

_DAYS = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}
_OLDEST = 120


def _age_years(dataset: Dataset) -> float | None:
    """Age at the study: what is stated, else from the date of birth; None rather than a guess.

    An age of zero is what anonymisers leave behind, and a film read with the wrong age band is
    worse than one read with none.
    """
    return _stated_age(_code(dataset, "PatientAge")) or _age_from_dates(dataset)


def _stated_age(stated: str | None) -> float | None:
    """PS3.5 6.2, AS: 018M. A bare number means years, as many archives write it."""
    match = re.fullmatch(r"(\d{1,3})\s*([DWMY]?)", stated or "", re.ASCII)
    if match is None:
        return None
    years = round(int(match[1]) * _DAYS[match[2] or "Y"] / 365.25, 3)
    return years if 0 < years <= _OLDEST else None


def _age_from_dates(dataset: Dataset) -> float | None:
    born = _date(dataset, "PatientBirthDate")
    seen = next(filter(None, (_date(dataset, name) for name in _STUDY_DATES)), None)
    if born is None or seen is None:
        return None
    years = round((seen - born).days / 365.25, 3)
    return years if 0 < years <= _OLDEST else None


_STUDY_DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")


def _date(dataset: Dataset, keyword: str) -> date | None:
    text = (_text(dataset, keyword) or "").replace(".", "").replace("-", "")
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None

"""DICOM objects as films: from a file's bytes to its data set, its first frame, and the film."""

from __future__ import annotations

import io
import zlib
from typing import BinaryIO

import numpy as np
import pydicom
from PIL import Image
from pydicom import config
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset as read_elements
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from app.cxr import dicom_grey
from app.cxr.dicom_codecs import can_decode, check_frame, decoding_bytes, plugin_for
from app.cxr.dicom_structure import Malformed, values_of
from app.cxr.dicom_tags import (
    age_years,
    code,
    is_raw,
    number,
    one_of,
    patient_name,
    text,
    view_position,
)
from app.cxr.radiograph import (
    MAX_FILE_BYTES,
    Radiograph,
    UnreadableFilm,
    blocks,
    check_memory,
    check_size,
    colourfulness,
    grey_from_depth,
    too_large,
)
from app.cxr.stored import StoredValues, of_grey

# Clinics' units write values that break their VR's rules; they are read as far as they make sense.
config.settings.reading_validation_mode = config.IGNORE

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_UNDEFINED_LENGTH = 0xFFFFFFFF
_ELEMENT_HEADER = 8  # bytes, the least there can be (PS3.5, 7.1)


def read_dicom(content: bytes) -> Radiograph:
    """The first frame as displayed, and what the tags say; raises UnreadableFilm."""
    dataset = read_dataset(content)
    pixels, colour = _pixels(dataset)
    return Radiograph(
        pixels,
        frames=number(dataset, "NumberOfFrames") or 1,
        view_position=view_position(dataset),
        age_years=age_years(dataset),
        sex=one_of(dataset, "PatientSex", ("M", "F", "O")),
        colourfulness=colour,
        modality=code(dataset, "Modality"),
        sop_class_uid=text(dataset, "SOPClassUID"),
        body_part=code(dataset, "BodyPartExamined"),
        patient_name=patient_name(dataset),
        patient_id=text(dataset, "PatientID"),
        study_uid=text(dataset, "StudyInstanceUID"),
        sop_instance_uid=text(dataset, "SOPInstanceUID"),
        is_raw=is_raw(dataset),
    )


def read_stored_values(content: bytes) -> StoredValues:
    """The first frame before any window; raises UnreadableFilm."""
    dataset = read_dataset(content)
    stored, photometric = first_frame(dataset)
    if stored.ndim == 3:
        return of_grey(_grey_of_colour(stored)[0])
    return dicom_grey.at_full_depth(stored, dataset, photometric == "MONOCHROME1")


# --- the data set ---------------------------------------------------------------------------------


def read_dataset(content: bytes) -> Dataset:
    """A file's data set, with or without preamble and meta information; raises UnreadableFilm."""
    _check_shape(content)
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
        kind = UID(text(dataset, "SOPClassUID") or "").name
        return kind.endswith("Image Storage") and "Rows" not in dataset
    rest = size - last.value_tell - last.length
    return rest < 0 or 0 < rest < _ELEMENT_HEADER


def _has_pixels(dataset: Dataset) -> bool:
    return any(keyword in dataset for keyword in _PIXELS)


def _check_shape(content: bytes) -> None:
    """Count a file's elements before pydicom builds them, which takes a hundred times their room.

    Other faults are left to pydicom, which reads many a file that breaks the rules.
    """
    if content[128:132] != b"DICM":
        return
    file: BinaryIO = io.BytesIO(content)
    file.seek(132)
    try:
        meta = read_elements(file, False, True, stop_when=_is_past_meta)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, reading the whole will say it
        return
    syntax = UID(str(meta.get("TransferSyntaxUID") or ImplicitVRLittleEndian))
    if syntax == DeflatedExplicitVRLittleEndian:
        file = io.BytesIO(_inflated(content[file.tell() :]))
    explicit = not syntax.is_implicit_VR if syntax.is_transfer_syntax else True
    try:
        values_of(file, explicit, syntax != ExplicitVRBigEndian, ())
    except Malformed as error:
        if error.code in ("too_many_elements", "too_deep"):
            raise UnreadableFilm("damaged", format="DICOM") from error


def _is_past_meta(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag.group != 2


def _inflated(rest: bytes) -> bytes:
    """A deflated data set may be a thousand times its file: look before pydicom inflates it."""
    inflater, whole = zlib.decompressobj(-zlib.MAX_WBITS), bytearray()
    while rest and not inflater.eof:
        whole += inflater.decompress(rest, 1 << 24)
        rest = inflater.unconsumed_tail
        if len(whole) > MAX_FILE_BYTES:
            raise too_large()
    if not inflater.eof:
        raise UnreadableFilm("truncated", format="DICOM")
    return bytes(whole)


# --- pixels ---------------------------------------------------------------------------------------


def _pixels(dataset: Dataset) -> tuple[np.ndarray, float]:
    """Pixels uint8 as displayed, and their colourfulness."""
    stored, photometric = first_frame(dataset)
    if stored.ndim == 3:
        return _grey_of_colour(stored)
    return dicom_grey.displayed(stored, dataset, photometric == "MONOCHROME1"), 0.0


def first_frame(dataset: Dataset) -> tuple[np.ndarray, str]:
    """The first frame's stored values, colour as RGB, and the photometric interpretation.

    Raises UnreadableFilm.
    """
    if not _has_pixels(dataset):
        raise UnreadableFilm("no_pixels", format="DICOM")
    check_size(number(dataset, "Columns") or 0, number(dataset, "Rows") or 0)
    _check_transfer_syntax(dataset)
    _check_length(dataset)
    check_memory(_needed(dataset))
    stored = _stored(dataset)
    check_size(stored.shape[1], stored.shape[0])
    photometric = code(dataset, "PhotometricInterpretation") or "MONOCHROME2"
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
    if not can_decode(syntax):
        raise _not_supported(syntax)


def _check_length(dataset: Dataset) -> None:
    """Uncompressed pixels must all be there."""
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated or "PixelData" not in dataset:
        return
    names = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
    bits = np.prod([number(dataset, name) or 1 for name in names], dtype=np.float64)
    if code(dataset, "PhotometricInterpretation") == "YBR_FULL_422":
        bits *= 2 / 3  # PS3.3 C.7.6.3.1.2: half the chrominance is stored
    if 8 * len(dataset.PixelData or b"") < bits:
        raise UnreadableFilm("truncated", format="DICOM")


def _needed(dataset: Dataset) -> float:
    """The bytes that the file, its first frame and what is made of that take at most."""
    kept = sum(len(dataset.get(keyword) or b"") for keyword in _PIXELS)  # beside the file itself
    pixels = (number(dataset, "Rows") or 0) * (number(dataset, "Columns") or 0)
    samples = number(dataset, "SamplesPerPixel") or 1
    value = max(1, (number(dataset, "BitsAllocated") or 8) // 8)
    syntax = dataset.file_meta.TransferSyntaxUID
    decoding = decoding_bytes(syntax, value) if syntax.is_encapsulated else 0
    # Of integers so long there may be as many values as pixels, each to be looked up
    made = 2 if value < 4 or "PixelData" not in dataset else 30
    return 2 * kept + pixels * (samples * (value + decoding) + (3 if samples > 1 else made))


def _stored(dataset: Dataset) -> np.ndarray:
    """The first frame's stored values, colour as RGB."""
    if "NumberOfFrames" in dataset and (number(dataset, "NumberOfFrames") or 0) < 1:
        del dataset.NumberOfFrames
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        frames = number(dataset, "NumberOfFrames") or 1
        frame = get_frame(dataset.PixelData, 0, number_of_frames=frames)
        check_frame(frame, syntax, dataset.Rows, dataset.Columns)
        return pixel_array(dataset, index=0, decoding_plugin=plugin_for(syntax))
    if spare := _bits_below(dataset):
        return _without_bits_below(dataset, spare)
    return _uncompressed(dataset)


def _uncompressed(dataset: Dataset) -> np.ndarray:
    """The first frame, whether or not as many follow as are announced."""
    return pixel_array(dataset, index=0, number_of_frames=1)


def _bits_below(dataset: Dataset) -> int:
    """How many bits lie below the value by its high bit: none since 2014 (PS3.5 8.1.1)."""
    stored, high = number(dataset, "BitsStored"), number(dataset, "HighBit")
    allocated = number(dataset, "BitsAllocated") or 0
    if stored is None or high is None or not stored <= high + 1 <= allocated:
        return 0
    return high + 1 - stored


def _without_bits_below(dataset: Dataset, spare: int) -> np.ndarray:
    """Values that lie at the high bit; where bits are set below it, the high bit was a slip."""
    stored = dataset.BitsStored
    dataset.BitsStored = stored + spare
    pixels = _uncompressed(dataset)
    dataset.BitsStored = stored
    if (pixels & (1 << spare) - 1).any():
        return _uncompressed(dataset)
    return pixels >> spare


def _not_supported(syntax: str) -> UnreadableFilm:
    return UnreadableFilm("transfer_syntax_not_supported", transfer_syntax=UID(syntax).name)


def _grey_of_colour(stored: np.ndarray) -> tuple[np.ndarray, float]:
    if stored.dtype.itemsize > 1:
        stored = grey_from_depth(stored)
    height, width = stored.shape[:2]
    grey = np.empty((height, width), np.uint8)
    for rows in blocks(stored.shape):
        grey[rows] = np.asarray(_as_picture(stored[rows]).convert("L"))
    # The very pixels that would be looked at if the whole were one picture
    down, across = (((np.arange(64) + 0.5) * side / 64).astype(int) for side in (height, width))
    return grey, colourfulness(_as_picture(stored[down][:, across]))


def _as_picture(colours: np.ndarray) -> Image.Image:
    return Image.fromarray(colours.astype(np.uint8, copy=False))

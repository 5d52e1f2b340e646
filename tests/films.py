"""Files of every kind, made by code around one drawn film: what a clinic may put in."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)


def encode(pixels: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
    """The picture as a file of Pillow's format ``kind``."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def rgb(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels).convert("RGB")


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and brings almost no pixels: a bomb where it is huge."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(kind, content)
        for kind, content in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    )


def dataset(pixels: np.ndarray, bits: int = 8, **elements: Any) -> Dataset:
    """A CR object of these stored values, grey or RGB; None removes an element."""
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    content = repr(
        (
            pixels.shape,
            zlib.crc32(pixels.tobytes()),
            sorted((k, str(v)[:99]) for k, v in elements.items()),
        )
    )
    found.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["film", content])
    found.SOPClassUID = ComputedRadiographyImageStorage
    found.SOPInstanceUID = found.file_meta.MediaStorageSOPInstanceUID
    found.StudyInstanceUID = generate_uid(entropy_srcs=["study", content])
    found.SeriesInstanceUID = generate_uid(entropy_srcs=["series", content])
    found.Modality = "CR"
    found.PatientName = "Doe^Jane"
    found.PatientID = "C-17"
    found.Rows, found.Columns = pixels.shape[:2]
    found.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    found.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        found.PlanarConfiguration = 0
    found.BitsAllocated = 8 * pixels.dtype.itemsize
    found.BitsStored = bits
    found.HighBit = bits - 1
    found.PixelRepresentation = int(pixels.dtype.kind == "i")
    found.PixelData = pixels.tobytes()
    for keyword, value in elements.items():
        if value is None:
            delattr(found, keyword)
        else:
            setattr(found, keyword, value)
    return found


def dicom(pixels: np.ndarray, bits: int = 8, **elements: Any) -> bytes:
    """The file of `dataset`."""
    return written(dataset(pixels, bits, **elements))


def written(found: Dataset) -> bytes:
    """A data set as a file in the transfer syntax it names."""
    file = io.BytesIO()
    found.save_as(file, enforce_file_format=True)
    return file.getvalue()


def in_frames(pixels: np.ndarray, bits: int, syntax: UID, frame: bytes) -> bytes:
    """A film whose stored values are those of a compressed frame."""
    return with_frame(dataset(pixels, bits), frame, syntax)


def with_frame(found: Dataset, frame: bytes, syntax: UID | None = None) -> bytes:
    """The film with another compressed frame, of its own transfer syntax or of another."""
    found.PixelData = encapsulate([bytes(frame)])
    found["PixelData"].VR = "OB"
    found["PixelData"].is_undefined_length = True
    if syntax is not None:
        found.file_meta.TransferSyntaxUID = syntax
    return written(found)

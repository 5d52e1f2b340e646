"""Reading: every kind of file gives the film's pixels, or a stable word for why not."""

from __future__ import annotations

import errno
import io
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_files
from pydicom.pixels.processing import apply_modality_lut, apply_windowing
from pydicom.uid import (
    MPEG4HP41,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from app.cxr import radiograph
from app.cxr.radiograph import CODES, Radiograph, UnreadableFilm, read_radiograph, to_model_input
from model_export import phantom
from tests import films

FILM = phantom.chest_film(1, (180, 150))


def read(content: bytes | Path) -> np.ndarray:
    return read_radiograph(content).pixels


def fault(content: bytes | Path) -> str:
    with pytest.raises(UnreadableFilm) as caught:
        read_radiograph(content)
    assert caught.value.code in CODES
    return caught.value.code


def difference(one: np.ndarray, other: np.ndarray) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


class TestPictures:
    @pytest.mark.parametrize(
        ("kind", "options", "tolerance"),
        [
            ("PNG", {}, 0),
            ("BMP", {}, 0),
            ("GIF", {}, 0),
            ("WEBP", {"lossless": True}, 0),
            ("TIFF", {}, 0),
            ("TIFF", {"compression": "tiff_lzw"}, 0),
            ("TIFF", {"compression": "tiff_deflate"}, 0),
            ("TIFF", {"compression": "packbits"}, 0),
            ("TIFF", {"big_tiff": True}, 0),
            ("JPEG2000", {}, 0),
            ("JPEG", {"quality": 95}, 6),
            ("JPEG", {"quality": 95, "progressive": True}, 6),
            ("WEBP", {"quality": 95}, 12),
        ],
    )
    def test_each_format_gives_the_film(self, kind, options, tolerance):
        film = read_radiograph(films.encode(FILM, kind, **options))
        assert film.pixels.dtype == np.uint8
        assert difference(film.pixels, FILM) <= tolerance
        assert film.frames == 1

    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP"])
    def test_a_grey_film_saved_in_colour_is_the_same_film(self, kind):
        options = {"lossless": True} if kind == "WEBP" else {}
        content = films.encode(films.rgb(FILM), kind, **options)
        assert difference(read(content), FILM) == 0

    @pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
    def test_cmyk_is_read(self, kind):
        content = films.encode(films.rgb(FILM).convert("CMYK"), kind)
        assert difference(read(content), FILM) <= 10

    def test_ycbcr_is_read(self):
        assert difference(read(films.encode(films.rgb(FILM).convert("YCbCr"), "TIFF")), FILM) <= 2

    def test_lab_gives_its_lightness(self):
        grey = Image.fromarray(FILM)
        flat = Image.new("L", grey.size, 128)
        assert (
            difference(read(films.encode(Image.merge("LAB", [grey, flat, flat]), "TIFF")), FILM)
            == 0
        )

    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "GIF", "BMP"])
    def test_a_palette_is_looked_up(self, kind):
        image = Image.fromarray(255 - FILM, "P")
        image.putpalette([255 - level for level in range(256) for _ in range(3)])
        assert difference(read(films.encode(image, kind)), FILM) == 0

    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
    def test_one_bit_is_black_and_white(self, kind):
        pixels = read(films.encode(Image.fromarray(FILM > 100), kind))
        assert np.array_equal(pixels, np.where(FILM > 100, 255, 0))

    @pytest.mark.parametrize("mode", ["LA", "RGBA"])
    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_opaque_alpha_changes_nothing(self, kind, mode):
        assert difference(read(films.encode(Image.fromarray(FILM).convert(mode), kind)), FILM) == 0

    def test_what_is_transparent_is_black(self):
        image = Image.fromarray(FILM).convert("LA")
        alpha = np.full(FILM.shape, 255, np.uint8)
        alpha[:, :40] = 0
        image.putalpha(Image.fromarray(alpha))
        pixels = read(films.encode(image, "PNG"))
        assert not pixels[:, :40].any()
        assert np.array_equal(pixels[:, 40:], FILM[:, 40:])

    def test_an_alpha_channel_left_empty_does_not_hide_the_film(self):
        image = Image.fromarray(FILM).convert("RGBA")
        image.putalpha(0)
        assert difference(read(films.encode(image, "PNG")), FILM) == 0

    def test_the_content_decides_and_not_the_name(self, tmp_path):
        path = tmp_path / "film.jpg"
        path.write_bytes(films.encode(FILM, "PNG"))
        assert np.array_equal(read(path), FILM)

    def test_a_name_that_is_no_utf8_is_read(self, tmp_path):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/fi\xff\nlm.png"))
        path.write_bytes(films.encode(FILM, "PNG"))
        assert np.array_equal(read(path), FILM)


class TestPagesAndFrames:
    @pytest.mark.parametrize(
        ("kind", "options"),
        [("TIFF", {}), ("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True})],
    )
    def test_the_first_is_read_and_all_are_counted(self, kind, options):
        others = [Image.fromarray(np.roll(FILM, 20 * n, axis=1)) for n in (1, 2)]
        content = films.encode(FILM, kind, save_all=True, append_images=others, **options)
        film = read_radiograph(content)
        assert film.frames == 3
        assert difference(film.pixels, FILM) == 0

    def test_a_telephones_second_preview_is_no_page(self):
        preview = Image.fromarray(FILM[::4, ::4])
        content = films.encode(FILM, "MPO", save_all=True, append_images=[preview], quality=95)
        film = read_radiograph(content)
        assert film.frames == 1
        assert film.pixels.shape == FILM.shape


TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda film: film,
    2: np.fliplr,
    3: lambda film: np.rot90(film, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda film: np.rot90(film, 1),
    7: lambda film: np.rot90(film, 2).T,
    8: lambda film: np.rot90(film, -1),
}


class TestOrientation:
    @pytest.mark.parametrize("orientation", sorted(TURNS))
    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
    def test_a_turned_camera_gives_an_upright_film(self, kind, orientation):
        stored = np.ascontiguousarray(TURNS[orientation](FILM))
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"lossless": True} if kind == "WEBP" else {}
        assert np.array_equal(read(films.encode(stored, kind, exif=exif, **options)), FILM)

    @pytest.mark.parametrize("orientation", sorted(TURNS))
    def test_jpeg_too(self, orientation):
        stored = np.ascontiguousarray(TURNS[orientation](FILM))
        exif = Image.Exif()
        exif[0x0112] = orientation
        content = films.encode(stored, "JPEG", exif=exif, quality=97)
        assert difference(read(content), FILM) <= 6

    def test_sixteen_bits_turn_as_well(self):
        exif = Image.Exif()
        exif[0x0112] = 6
        stored = np.ascontiguousarray(np.rot90(FILM)).astype(np.uint16) * 257
        assert np.array_equal(read(films.encode(stored, "PNG", exif=exif)), FILM)

    @pytest.mark.parametrize(
        "broken", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"x" * 99]
    )
    def test_a_broken_exif_block_does_not_cost_the_film(self, broken):
        assert difference(read(films.encode(FILM, "JPEG", exif=broken, quality=97)), FILM) <= 6

    @given(st.integers(0, 1000), st.sampled_from(sorted(TURNS)))
    @settings(max_examples=30, deadline=None)
    def test_turning_keeps_every_pixel(self, seed, orientation):
        pixels = np.random.default_rng(seed).integers(0, 256, (5, 9), dtype=np.uint8)
        exif = Image.Exif()
        exif[0x0112] = orientation
        found = read(films.encode(pixels, "PNG", exif=exif))
        assert sorted(found.ravel()) == sorted(pixels.ravel())
        assert found.shape == (pixels.shape if orientation < 5 else pixels.shape[::-1])


class TestDepth:
    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    @pytest.mark.parametrize("factor", [1, 4, 16, 64, 256, 257])
    def test_a_film_of_8_to_16_bits_gives_the_same_grey(self, kind, factor):
        stored = FILM.astype(np.uint16) * factor
        assert difference(read(films.encode(stored, kind)), FILM) <= 1

    @pytest.mark.parametrize("top", [1023, 4095, 16383, 65535])
    def test_rounding_to_a_depth_moves_no_grey_by_more_than_one(self, top):
        stored = np.rint(FILM * (top / 255)).astype(np.uint16)
        assert difference(read(films.encode(stored, "TIFF")), FILM) <= 1

    def test_big_endian_sixteen_bits(self):
        stored = FILM.astype(">u2") * 257
        image = Image.frombytes("I;16B", (150, 180), stored.tobytes())
        assert difference(read(films.encode(image, "TIFF")), FILM) == 0

    def test_a_white_letter_does_not_darken_the_film(self):
        stored = FILM.astype(np.uint16) * 16
        stored[:5, :20] = 65535
        assert difference(read(films.encode(stored, "PNG"))[5:], FILM[5:]) <= 1

    def test_a_film_in_a_narrow_band_is_stretched(self):
        stored = (FILM.astype(np.float64) * 8 + 30000).astype(np.uint16)
        pixels = read(films.encode(stored, "PNG"))
        assert np.percentile(pixels, 1) < 10
        assert np.percentile(pixels, 99) > 245

    def test_white_is_zero_is_turned_over(self):
        stored = 65535 - FILM.astype(np.uint16) * 257
        content = films.encode(stored, "TIFF", tiffinfo={262: 0})
        assert difference(read(content), FILM) == 0

    @pytest.mark.parametrize("factor", [1, 16, 257, 8421504])
    def test_32_bit_integers(self, factor):
        stored = (FILM.astype(np.int64) * factor).astype(np.int32)
        assert difference(read(films.encode(stored, "TIFF")), FILM) <= 1

    def test_negative_integers_are_stretched(self):
        stored = FILM.astype(np.int32) * 10 - 1000
        pixels = read(films.encode(stored, "TIFF"))
        assert np.corrcoef(pixels.ravel(), FILM.ravel())[0, 1] > 0.99

    @pytest.mark.parametrize("top", [1.0, 255.0, 4095.0, 65535.0])
    def test_floats(self, top):
        stored = (FILM * (top / 255)).astype(np.float32)
        assert difference(read(films.encode(stored, "TIFF")), FILM) <= 1

    def test_what_is_no_number_is_black_and_infinity_white(self):
        stored = (FILM / 255).astype(np.float32)
        stored[0, :3] = np.nan, np.inf, -np.inf
        pixels = read(films.encode(stored, "TIFF"))
        assert list(pixels[0, :3]) == [0, 255, 0]
        assert difference(pixels[1:], FILM[1:]) == 0

    def test_a_film_of_nothing_but_nan_is_black(self):
        assert not read(films.encode(np.full((100, 100), np.nan, np.float32), "TIFF")).any()

    @given(
        st.integers(0, 2**16 - 1),
        st.integers(0, 2**16 - 1),
        st.sampled_from([None, 8, 10, 12, 14, 16]),
    )
    def test_black_is_always_below_white(self, one, other, declared):
        black, white = radiograph.grey_range(min(one, other), max(one, other), declared)
        assert black < white

    @given(st.integers(0, 500))
    @settings(max_examples=25, deadline=None)
    def test_a_brighter_value_is_never_shown_darker(self, seed):
        dice = np.random.default_rng(seed)
        values = np.sort(dice.integers(0, 2 ** int(dice.integers(1, 17)), 400)).astype(np.uint16)
        shown = radiograph.grey_from_depth(values.reshape(20, 20)).ravel()
        assert (np.diff(shown.astype(int)) >= 0).all()


class TestBadFiles:
    def test_an_empty_file(self, tmp_path):
        (tmp_path / "film.jpg").touch()
        assert fault(tmp_path / "film.jpg") == "empty"
        assert fault(b"") == "empty"

    def test_a_missing_file(self, tmp_path):
        assert fault(tmp_path / "gone.png") == "missing"

    def test_a_file_under_a_file(self, tmp_path):
        (tmp_path / "film.png").touch()
        assert fault(tmp_path / "film.png" / "film.png") == "missing"

    def test_a_name_no_file_can_have(self, tmp_path):
        assert fault(tmp_path / "a\0b") == "missing"

    def test_a_folder(self, tmp_path):
        assert fault(tmp_path) == "not_a_file"

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
    def test_a_pipe_does_not_hang(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        assert fault(tmp_path / "pipe") == "not_a_file"

    @pytest.mark.parametrize(
        ("number", "code"),
        [(errno.EACCES, "not_allowed"), (errno.EIO, "read_failed"), (errno.ENODEV, "read_failed")],
    )
    def test_a_medium_that_fails(self, tmp_path, monkeypatch, number, code):
        path = tmp_path / "film.png"
        path.write_bytes(films.encode(FILM, "PNG"))

        def fail(self):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(Path, "read_bytes", fail)
        assert fault(path) == code

    def test_memory_that_runs_out(self, monkeypatch):
        def fail(self, mode):
            raise MemoryError

        monkeypatch.setattr(Image.Image, "convert", fail)
        assert fault(films.encode(FILM, "PNG")) == "out_of_memory"

    @pytest.mark.parametrize(
        "content",
        [b"\0", b"hello", b"<html></html>", b"PK\3\4" + bytes(99), b"BMW is a car", bytes(5000)],
    )
    def test_what_is_no_picture(self, content):
        assert fault(content) == "not_an_image"

    def test_a_text_file_does_not_cost_the_import_of_pydicom(self):
        lines = (
            "import sys; from app.cxr.radiograph import *",
            "try: read_radiograph(b'just words')",
            "except UnreadableFilm: sys.exit('pydicom' in sys.modules)",
        )
        assert subprocess.run([sys.executable, "-c", "\n".join(lines)], check=False).returncode == 0

    @pytest.mark.parametrize(
        ("content", "code"),
        [
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "heic_not_supported"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(100), "heic_not_supported"),
            (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(100), "pdf_not_supported"),
            (b"\n\n%PDF-1.4\n" + bytes(100), "pdf_not_supported"),
            (b"\0\0\0\x18ftypisom\0\0\0\0mp41" + bytes(100), "not_an_image"),
        ],
    )
    def test_kinds_that_are_named_but_not_read(self, content, code):
        assert fault(content) == code

    @pytest.mark.parametrize("size", [(50_000, 50_000), (12_000, 10_001), (2**31 - 1, 2**31 - 1)])
    def test_a_bomb_is_refused_by_its_header(self, size):
        started = time.process_time()
        assert fault(films.png_header(*size)) in ("too_many_pixels", "damaged")
        assert time.process_time() - started < 1

    def test_a_bomb_tells_the_limit(self):
        with pytest.raises(UnreadableFilm) as caught:
            read_radiograph(films.png_header(50_000, 50_000))
        assert caught.value.code == "too_many_pixels"
        assert caught.value.details == {"limit": "120"}

    def test_the_largest_size_is_not_refused_by_its_header(self):
        assert fault(films.png_header(12_000, 10_000)) == "truncated"

    def test_a_dicom_bomb(self):
        content = films.dicom(FILM, Rows=60_000, Columns=60_000)
        assert fault(content) == "too_many_pixels"

    def test_a_file_larger_than_any_film(self, tmp_path):
        path = tmp_path / "film.dcm"
        with path.open("wb") as file:
            file.truncate(radiograph.MAX_FILE_BYTES + 1)
        assert fault(path) == "too_large"

    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            ("JPEG", {}),
            ("JPEG", {"progressive": True}),
            ("PNG", {}),
            ("BMP", {}),
            ("GIF", {}),
            ("WEBP", {}),
            ("TIFF", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("JPEG2000", {}),
        ],
    )
    @pytest.mark.parametrize("part", [0.01, 0.1, 0.5, 0.9, 0.99])
    def test_a_file_cut_short_is_called_so(self, kind, options, part):
        content = films.encode(FILM, kind, **options)
        assert fault(content[: max(30, int(len(content) * part))]) == "truncated"

    def test_a_png_with_nonsense_inside_is_damaged(self):
        content = bytearray(films.encode(FILM, "PNG"))
        content[60:200] = bytes(140)
        assert fault(bytes(content)) == "damaged"

    @given(st.binary(max_size=400))
    @settings(max_examples=150, deadline=None)
    def test_any_bytes_give_a_film_or_a_fault(self, content):
        assert_film_or_fault(content)

    @given(
        st.sampled_from(
            [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"GIF89a", b"BM"]
        ),
        st.binary(max_size=300),
    )
    @settings(max_examples=150, deadline=None)
    def test_any_bytes_after_a_known_beginning_too(self, beginning, content):
        assert_film_or_fault(beginning + content)

    @given(st.binary(max_size=300))
    @settings(max_examples=100, deadline=None)
    def test_any_bytes_after_a_dicom_prefix_too(self, content):
        assert_film_or_fault(bytes(128) + b"DICM" + content)

    @pytest.mark.parametrize(
        "kind", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "DICOM"]
    )
    def test_flipped_bytes_give_a_film_or_a_fault(self, kind, soak):
        small = FILM[::3, ::3]
        whole = films.dicom(small) if kind == "DICOM" else films.encode(small, kind)
        dice = random.Random(kind)
        for _ in range(60 * soak):
            content = bytearray(whole)
            for _ in range(dice.randint(1, 8)):
                content[dice.randrange(min(len(content), 700))] = dice.randrange(256)
            assert_film_or_fault(bytes(content))


def outcome(source: bytes | Path) -> Radiograph | UnreadableFilm:
    try:
        return read_radiograph(source)
    except UnreadableFilm as error:
        return error


def assert_film_or_fault(source: bytes | Path) -> None:
    found = outcome(source)
    if isinstance(found, UnreadableFilm):
        assert found.code in CODES
        assert all(isinstance(value, str) for value in found.details.values())
    else:
        assert found.pixels.dtype == np.uint8
        assert found.pixels.ndim == 2
        assert found.frames >= 1


DEEP = np.arange(180 * 150).reshape(180, 150) % 4096


class TestDicomPixels:
    """PS3.3 C.11 and PS3.4 N.2."""

    def test_eight_bits_without_a_window_are_shown_as_they_are(self):
        assert np.array_equal(read(films.dicom(FILM)), FILM)

    def test_monochrome1_is_the_inverse_of_monochrome2(self):
        content = films.dicom(255 - FILM, PhotometricInterpretation="MONOCHROME1")
        assert np.array_equal(read(content), FILM)

    @given(st.integers(0, 300), st.integers(50, 4000), st.integers(2, 5000))
    @settings(max_examples=25, deadline=None)
    def test_of_the_same_values_one_is_the_others_inverse(self, seed, center, width):
        values = np.random.default_rng(seed).integers(0, 4096, (20, 20)).astype(np.uint16)
        window = {"WindowCenter": center, "WindowWidth": width}
        one, two = (
            read(films.dicom(values, 12, PhotometricInterpretation=f"MONOCHROME{n}", **window))
            for n in (1, 2)
        )
        assert np.array_equal(one, 255 - two)

    @pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
    @pytest.mark.parametrize("windowed", [False, True])
    @pytest.mark.parametrize("inverted", [False, True])
    def test_every_depth_gives_the_same_grey(self, bits, windowed, inverted):
        top = 2**bits - 1
        stored = np.rint((255 - FILM if inverted else FILM) * (top / 255.0))
        window = {"WindowCenter": (top + 1) / 2, "WindowWidth": top + 1} if windowed else {}
        content = films.dicom(
            stored.astype(np.uint8 if bits == 8 else np.uint16),
            bits,
            PhotometricInterpretation="MONOCHROME1" if inverted else "MONOCHROME2",
            **window,
        )
        assert difference(read(content), FILM) <= 1

    @pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
    @pytest.mark.parametrize(
        ("center", "width"), [(2048, 4096), (1000, 500), (40.5, 1.5), (3000, 9000)]
    )
    @pytest.mark.parametrize("rescale", [(1, 0), (2, -1024), (0.5, 10)])
    def test_windows_agree_with_pydicoms(self, function, center, width, rescale):
        found = films.dataset(
            DEEP.astype(np.uint16),
            12,
            WindowCenter=center,
            WindowWidth=width,
            VOILUTFunction=function,
            RescaleSlope=rescale[0],
            RescaleIntercept=rescale[1],
        )
        with np.errstate(over="ignore"):
            shown = apply_windowing(apply_modality_lut(DEEP.astype(np.uint16), found), found)
        low, high = (value * rescale[0] + rescale[1] for value in (0, 4095))
        expected = np.rint((shown - low) * (255 / (high - low)))
        assert difference(read(films.written(found)), expected) <= (function == "SIGMOID")

    def test_the_first_of_several_windows_is_taken(self):
        first = films.dicom(DEEP.astype(np.uint16), 12, WindowCenter=900, WindowWidth=700)
        both = films.dicom(
            DEEP.astype(np.uint16), 12, WindowCenter=[900, 50], WindowWidth=[700, 20]
        )
        assert np.array_equal(read(first), read(both))

    @pytest.mark.parametrize(
        "window", [(100, 0), (100, -5), (100_000, 10), ("", ""), (2048, None), (None, 300)]
    )
    def test_a_window_that_shows_nothing_is_passed_over(self, window):
        stored = np.rint(FILM * (4095 / 255)).astype(np.uint16)
        found = films.dataset(stored, 12)
        for keyword, value in zip(("WindowCenter", "WindowWidth"), window, strict=True):
            if value is not None:
                setattr(found, keyword, value)
        assert difference(read(films.written(found)), FILM) <= 1

    def test_signed_values(self):
        stored = (np.rint(FILM * (4095 / 255)) - 2048).astype(np.int16)
        window = {"WindowCenter": 0, "WindowWidth": 4096}
        assert difference(read(films.dicom(stored, 12, **window)), FILM) <= 1

    def test_signed_values_without_a_window_are_stretched(self):
        stored = FILM.astype(np.int16) * 4 - 500
        pixels = read(films.dicom(stored, 16))
        assert np.corrcoef(pixels.ravel(), FILM.ravel())[0, 1] > 0.99

    def test_bits_above_those_stored_are_no_part_of_the_value(self):
        stored = np.rint(FILM * (4095 / 255)).astype(np.uint16)
        overlaid = stored | 0x8000
        window = {"WindowCenter": 2048, "WindowWidth": 4096}
        assert np.array_equal(
            read(films.dicom(overlaid, 12, **window)), read(films.dicom(stored, 12, **window))
        )

    def test_one_bit(self):
        found = films.dataset(np.zeros((16, 16), np.uint8), 1, BitsAllocated=1)
        found.PixelData = np.packbits(np.eye(16, dtype=bool), bitorder="little").tobytes()
        assert np.array_equal(read(films.written(found)), 255 * np.eye(16))

    @pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
    def test_padding_is_black_and_does_not_count(self, photometric):
        stored = np.rint(FILM * (4095 / 255)).astype(np.uint16) // 2 + 1
        padded = stored.copy()
        padded[:, :50] = 4095
        options = {"PhotometricInterpretation": photometric, "PixelPaddingValue": 4095}
        pixels = read(films.dicom(padded, 12, **options))
        assert not pixels[:, :50].any()
        assert difference(pixels[:, 50:], read(films.dicom(stored, 12, **options))[:, 50:]) <= 1

    def test_a_range_of_padding(self):
        stored = FILM.astype(np.uint16) + 100
        stored[:, :50] = 3
        pixels = read(films.dicom(stored, 12, PixelPaddingValue=0, PixelPaddingRangeLimit=9))
        assert not pixels[:, :50].any()

    def test_nothing_but_padding_is_black(self):
        assert not read(
            films.dicom(np.full((100, 100), 7, np.uint16), 12, PixelPaddingValue=7)
        ).any()

    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
    def test_look_up_tables(self, keyword, packed):
        table = 255 - np.arange(256)
        item = pydicom.Dataset()
        item.LUTDescriptor = [256, 0, 8 if keyword == "VOILUTSequence" else 16]
        item.LUTExplanation = "negative"
        item.ModalityLUTType = "US"
        item.add_new(
            "LUTData",
            "OW" if packed else "US",
            table.astype(np.uint8).tobytes() if packed else table.tolist(),
        )
        found = films.dataset(255 - FILM)
        setattr(found, keyword, [item])
        assert difference(read(films.written(found)), FILM) == 0

    def test_a_voi_table_goes_before_a_window(self):
        item = pydicom.Dataset()
        item.LUTDescriptor = [256, 0, 8]
        item.add_new("LUTData", "US", (255 - np.arange(256)).tolist())
        content = films.dicom(255 - FILM, VOILUTSequence=[item], WindowCenter=9, WindowWidth=3)
        assert difference(read(content), FILM) == 0

    @pytest.mark.parametrize("planar", [0, 1])
    def test_colour_objects_are_made_grey(self, planar):
        pixels = np.stack([FILM] * 3, axis=-1)
        found = films.dataset(pixels, PlanarConfiguration=planar)
        if planar:
            found.PixelData = np.ascontiguousarray(pixels.transpose(2, 0, 1)).tobytes()
        film = read_radiograph(films.written(found))
        assert difference(film.pixels, FILM) == 0
        assert film.colourfulness == 0

    def test_ybr_full_is_converted(self):
        neutral = np.full(FILM.shape, 128, np.uint8)
        pixels = np.stack([FILM, neutral, neutral], axis=-1)
        assert (
            difference(read(films.dicom(pixels, PhotometricInterpretation="YBR_FULL")), FILM) <= 1
        )

    def test_palette_colour_is_looked_up(self):
        found = films.dataset(255 - FILM, PhotometricInterpretation="PALETTE COLOR")
        table = ((255 - np.arange(256)) * 257).astype(np.uint16).tobytes()
        for colour in ("Red", "Green", "Blue"):
            setattr(found, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
            setattr(found, f"{colour}PaletteColorLookupTableData", table)
        assert difference(read(films.written(found)), FILM) <= 1

    def test_the_first_of_several_frames_is_read(self):
        found = films.dataset(FILM, NumberOfFrames=3)
        found.PixelData = np.stack([FILM, 255 - FILM, FILM // 2]).tobytes()
        film = read_radiograph(films.written(found))
        assert film.frames == 3
        assert np.array_equal(film.pixels, FILM)

    @pytest.mark.parametrize(
        "syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless]
    )
    def test_lossless_transfer_syntaxes_give_every_pixel(self, syntax):
        found = films.dataset(FILM.astype(np.uint16) * 16, 12)
        before = read(films.written(found))
        if syntax == RLELossless:
            found.compress(RLELossless)
        else:
            found.file_meta.TransferSyntaxUID = syntax
        assert np.array_equal(read(films.written(found)), before)

    def test_big_endian(self):
        found = films.dataset(FILM.astype(np.uint16) * 16, 12)
        found.PixelData = (FILM.astype(">u2") * 16).tobytes()
        found["PixelData"].VR = "OW"
        found.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        found.PixelData = (FILM.astype(np.uint16) * 16).byteswap().tobytes()
        file = io.BytesIO()
        pydicom.dcmwrite(file, found, implicit_vr=False, little_endian=False)
        assert difference(read(file.getvalue()), FILM) <= 1

    @pytest.mark.parametrize(
        ("syntax", "kind", "options", "tolerance"),
        [
            (JPEGBaseline8Bit, "JPEG", {"quality": 95}, 6),
            (JPEG2000Lossless, "JPEG2000", {"no_jp2": True}, 0),
        ],
    )
    def test_compressed_pixels(self, syntax, kind, options, tolerance):
        found = encapsulated(syntax, films.encode(FILM, kind, **options))
        assert difference(read(found), FILM) <= tolerance

    @pytest.mark.parametrize("syntax", [MPEG4HP41, "1.2.840.10008.1.2.4.55", "1.2.3.4"])
    def test_a_transfer_syntax_without_a_decoder_is_named(self, syntax):
        with pytest.raises(UnreadableFilm) as caught:
            read_radiograph(encapsulated(pydicom.uid.UID(syntax), b"\xff\xd8\xff\xd9"))
        assert caught.value.code == "transfer_syntax_not_supported"
        assert caught.value.details == {"transfer_syntax": pydicom.uid.UID(syntax).name}

    def test_a_bomb_in_compressed_pixels(self):
        stream = bytearray(films.encode(FILM, "JPEG"))
        place = stream.index(b"\xff\xc0") + 5
        stream[place : place + 4] = b"\xff\xff\xff\xff"
        assert fault(encapsulated(JPEGBaseline8Bit, bytes(stream))) == "too_many_pixels"

    def test_an_object_without_pixels(self):
        assert fault(films.dicom(FILM, PixelData=None)) == "no_pixels"

    @pytest.mark.parametrize("part", [0.3, 0.6, 0.99])
    def test_pixels_cut_short(self, part):
        content = films.dicom(FILM)
        assert fault(content[: int(len(content) * part)]) == "truncated"

    @pytest.mark.parametrize("length", [132, 140, 200, 333, 450, 600])
    def test_a_header_cut_short_is_no_picture(self, length):
        assert fault(films.dicom(FILM)[:length]) in ("truncated", "no_pixels")

    def test_a_deflated_object_cut_short(self):
        found = films.dataset(FILM)
        found.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        content = films.written(found)
        assert fault(content[: len(content) // 2]) == "truncated"

    def test_a_deflated_bomb(self, monkeypatch):
        monkeypatch.setattr("app.cxr.dicom_in.MAX_FILE_BYTES", 10_000_000)
        found = films.dataset(np.zeros((6000, 6000), np.uint8))
        found.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        assert fault(films.written(found)) == "too_large"

    def test_without_preamble_and_meta_information(self):
        found = films.dataset(FILM)
        file = io.BytesIO()
        pydicom.dcmwrite(file, without_meta(found), implicit_vr=True, little_endian=True)
        assert np.array_equal(read(file.getvalue()), FILM)

    def test_a_preamble_that_looks_like_a_tiff(self):
        content = b"II*\0" + films.dicom(FILM)[4:]
        assert np.array_equal(read(content), FILM)


def encapsulated(syntax: pydicom.uid.UID, stream: bytes) -> bytes:
    found = films.dataset(FILM)
    found.PixelData = pydicom.encaps.encapsulate([stream])
    found["PixelData"].VR = "OB"
    found["PixelData"].is_undefined_length = True
    found.file_meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    pydicom.dcmwrite(file, found, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return file.getvalue()


def without_meta(found: pydicom.Dataset) -> pydicom.Dataset:
    bare = pydicom.Dataset()
    bare.update(found)
    return bare


class TestDicomTags:
    @pytest.mark.parametrize(
        ("stated", "years"),
        [
            ("005Y", 5),
            ("018M", 1.5),
            ("012W", 0.23),
            ("003D", 0.008),
            ("62", 62),
            ("5Y", 5),
            ("045y", 45),
            ("000Y", None),
            ("999Y", None),
            ("", None),
            ("adult", None),
            ("-05Y", None),
        ],
    )
    def test_age(self, stated, years):
        found = read_radiograph(films.dicom(FILM, PatientAge=stated)).age_years
        assert found == (None if years is None else pytest.approx(years, abs=0.002))

    @pytest.mark.parametrize(
        ("born", "seen", "years"),
        [
            ("20200101", "20260101", 6.0),
            ("20260101", "20260401", 0.246),
            ("20260101", "20250101", None),
            ("18500101", "20260101", None),
            ("", "20260101", None),
            ("20200101", "", None),
            ("20201340", "20260101", None),
        ],
    )
    def test_age_from_the_date_of_birth(self, born, seen, years):
        found = read_radiograph(films.dicom(FILM, PatientBirthDate=born, StudyDate=seen)).age_years
        assert found == (None if years is None else pytest.approx(years, abs=0.003))

    def test_a_stated_age_goes_before_dates(self):
        content = films.dicom(
            FILM, PatientAge="030Y", PatientBirthDate="20200101", StudyDate="20260101"
        )
        assert read_radiograph(content).age_years == 30

    def test_an_age_of_zero_is_left_to_the_dates(self):
        content = films.dicom(
            FILM, PatientAge="000Y", PatientBirthDate="20260101", StudyDate="20260701"
        )
        assert read_radiograph(content).age_years == pytest.approx(0.496, abs=0.002)

    @pytest.mark.parametrize(
        ("stated", "sex"), [("F", "F"), ("m", "M"), ("O", "O"), ("", None), ("W", None)]
    )
    def test_sex(self, stated, sex):
        assert read_radiograph(films.dicom(FILM, PatientSex=stated)).sex == sex

    @pytest.mark.parametrize(
        ("stated", "name"),
        [
            ("Doe^Jane", "Doe Jane"),
            ("Doe^Jane^^Dr", "Doe Jane Dr"),
            ("", None),
            ("^^^^", None),
            ("=山田^太郎", "山田 太郎"),
        ],
    )
    def test_name(self, stated, name):
        content = films.dicom(FILM, SpecificCharacterSet="ISO_IR 192", PatientName=stated)
        assert read_radiograph(content).patient_name == name

    def test_view_position_from_its_tag(self):
        assert read_radiograph(films.dicom(FILM, ViewPosition="pa")).view_position == "PA"

    @pytest.mark.parametrize(
        ("value", "view"),
        [("399348003", "AP"), ("272479007", "PA"), ("399173006", "LL"), ("1", None)],
    )
    def test_view_position_from_its_code(self, value, view):
        code = pydicom.Dataset()
        code.CodeValue = value
        assert read_radiograph(films.dicom(FILM, ViewCodeSequence=[code])).view_position == view

    def test_what_the_object_says_of_itself(self):
        found = films.dataset(FILM, BodyPartExamined="chest")
        film = read_radiograph(films.written(found))
        assert (film.modality, film.body_part) == ("CR", "CHEST")
        assert film.sop_class_uid == found.SOPClassUID
        assert film.sop_instance_uid == found.SOPInstanceUID
        assert film.study_uid == found.StudyInstanceUID
        assert film.patient_id == "C-17"

    def test_what_it_does_not_say_is_none(self):
        content = films.dicom(FILM, PatientName=None, PatientID=None, Modality=None)
        film = read_radiograph(content)
        said = (film.view_position, film.age_years, film.sex, film.body_part)
        assert (*said, film.patient_name, film.patient_id, film.modality) == (None,) * 7

    def test_another_modality_is_read_all_the_same(self):
        film = read_radiograph(films.dicom(FILM, Modality="CT", SOPClassUID=CTImageStorage))
        assert film.modality == "CT"


class TestModelInput:
    def test_the_shape_and_range_of_the_networks_input(self):
        values = to_model_input(Radiograph(FILM), 64)
        assert values.shape == (1, 64, 64, 1)
        assert values.dtype == np.float32
        assert 0 <= values.min() < values.max() <= 255

    def test_it_is_what_the_network_was_trained_on(self):
        image = Image.fromarray(FILM).resize((96, 96), Image.Resampling.BILINEAR)
        assert np.array_equal(to_model_input(Radiograph(FILM), 96)[0, :, :, 0], np.asarray(image))

    @pytest.mark.parametrize("mode", ["L", "RGB"])
    def test_a_jpeg_is_read_as_pillow_reads_it(self, mode):
        content = films.encode(Image.fromarray(FILM).convert(mode), "JPEG")
        assert np.array_equal(
            read(content), np.asarray(Image.open(io.BytesIO(content)).convert("L"))
        )


def carried_files() -> list[str]:
    """The files pydicom itself carries; those it would fetch are left alone."""
    folder = (Path(pydicom.__file__).parent / "data").resolve()
    found = get_testdata_files("**/*.dcm")
    return sorted(name for name in found if folder in Path(name).resolve().parents)


class TestPydicomsOwnFiles:
    def test_there_are_many(self):
        assert len(carried_files()) > 50

    @pytest.mark.parametrize("path", carried_files(), ids=lambda path: Path(path).name)
    def test_each_is_read_or_refused_with_its_reason(self, path):
        assert_film_or_fault(Path(path))
        film = outcome(Path(path))
        if isinstance(film, Radiograph):
            found = pydicom.dcmread(path, force=True)
            assert film.pixels.shape == (found.Rows, found.Columns)

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("MR_truncated.dcm", "truncated"),
            ("rtplan.dcm", "no_pixels"),
            ("test-SR.dcm", "no_pixels"),
        ],
    )
    def test_the_reason_is_the_right_one(self, name, code):
        path = next(path for path in carried_files() if Path(path).name == name)
        assert fault(Path(path)) == code


class TestRealFilms:
    def test_the_photometric_interpretation_alone_turns_the_picture_over(self, cxr_data):
        # The two files hold the same stored values under different tags.
        one, two = (read_radiograph(cxr_data / "dicom" / f"cr_monochrome{n}.dcm") for n in (1, 2))
        assert np.array_equal(one.pixels, 255 - two.pixels)
        assert (one.view_position, one.age_years, one.sex) == ("PA", 62, "M")

    def test_the_originals_are_read_upright_and_whole(self, cxr_data):
        for path in sorted((cxr_data / "originals").rglob("*.jp*g"))[:20]:
            film = read_radiograph(path)
            assert (film.width, film.height) == Image.open(path).size

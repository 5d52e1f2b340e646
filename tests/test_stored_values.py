"""Films at full depth: the very values of the file, and what is needed to show them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays
from PIL import Image
from pydicom.dataset import Dataset

from app.cxr.radiograph import UnreadableFilm, read_radiograph
from app.cxr.stored import StoredValues, packed, read_stored
from model_export.phantom import chest_film
from tests.films import dataset, dicom, encode, rgb
from tests.films import written as film_of

DEEP = (chest_film(3, (48, 40)).astype(np.uint16) * 16) + np.arange(40, dtype=np.uint16) % 16


def displayed(stored: StoredValues) -> np.ndarray:
    """What a viewer shows at first: the start window laid over the values."""
    black, white = stored.start
    grey = 255 * np.clip((stored.pixels - black) / (white - black), 0, 1)
    return 255 - grey if stored.inverted else grey


@pytest.mark.parametrize(
    ("values", "bits"),
    [
        (DEEP // 16, 8),
        (DEEP // 4, 10),
        (DEEP, 12),
        (DEEP * 4, 14),
        (DEEP * 16 + 3, 16),
    ],
)
def test_a_dicom_film_keeps_every_value(values, bits):
    stored = read_stored(dicom(values.astype(np.uint16), bits))

    assert np.array_equal(stored.pixels, values)
    assert (stored.bits, stored.slope, stored.intercept) == (bits, 1, 0)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_deep_picture_keeps_every_value(kind):
    stored = read_stored(encode(DEEP, kind))

    assert stored.pixels.dtype == np.uint16
    assert np.array_equal(stored.pixels, DEEP)


def test_a_deep_picture_lies_the_way_its_radiograph_does():
    content = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(DEEP).save(content, "PNG", exif=exif)

    assert read_stored(content.getvalue()).pixels.shape == (40, 48)
    assert np.array_equal(read_stored(content.getvalue()).pixels, np.rot90(DEEP, -1))


def test_a_negative_tiff_is_told_from_a_positive():
    positive, negative = (
        read_stored(encode(DEEP, "TIFF", tiffinfo={262: kind})) for kind in (1, 0)
    )

    assert (positive.inverted, negative.inverted) == (False, True)
    assert np.array_equal(negative.pixels, DEEP)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_an_eight_bit_picture_is_the_radiograph_itself(kind):
    content = encode(chest_film(2, (40, 32)), kind)

    stored = read_stored(content)
    assert stored.pixels.dtype == np.uint8
    assert np.array_equal(stored.pixels, read_radiograph(content).pixels)
    assert stored.start == (0, 255)


def test_a_colour_dicom_film_is_grey():
    pixels = np.asarray(rgb(chest_film(2, (40, 32))))

    stored = read_stored(dicom(pixels))
    assert np.array_equal(stored.pixels, read_radiograph(dicom(pixels)).pixels)


class TestModality:
    def test_the_rescale_says_what_a_pixel_stands_for(self):
        stored = read_stored(dicom(DEEP, 12, RescaleSlope=0.5, RescaleIntercept=-1024))

        assert np.array_equal(stored.pixels, DEEP)
        assert (stored.slope, stored.intercept) == (0.5, -1024)

    def test_signed_values_become_unsigned_and_say_by_how_much(self):
        signed = DEEP.astype(np.int16) - 1000

        stored = read_stored(dicom(signed, 16, RescaleSlope=2, RescaleIntercept=5))
        assert np.array_equal(
            stored.pixels * stored.slope + stored.intercept, signed.astype(float) * 2 + 5
        )

    def test_a_falling_rescale_shows_high_values_dark(self):
        plain = read_stored(dicom(DEEP, 12, RescaleSlope=-1, RescaleIntercept=4095))
        negative = dicom(
            DEEP,
            12,
            RescaleSlope=-1,
            RescaleIntercept=4095,
            PhotometricInterpretation="MONOCHROME1",
        )

        assert plain.inverted
        assert not read_stored(negative).inverted

    def test_a_modality_table_is_looked_up(self):
        item = Dataset()
        item.LUTDescriptor = [4096, 0, 16]
        item.LUTData = (np.arange(4096) * 3).astype("<u2").tobytes()

        stored = read_stored(dicom(DEEP, 12, ModalityLUTSequence=[item], ModalityLUTType="US"))
        assert np.array_equal(stored.pixels, DEEP * 3)

    def test_of_fractions_a_modality_table_says_nothing(self):
        item = Dataset()
        item.LUTDescriptor = [4096, 0, 16]
        item.LUTData = (np.arange(4096) * 3).astype("<u2").tobytes()
        found = dataset(DEEP, 12, ModalityLUTSequence=[item], ModalityLUTType="US")
        del found.PixelData
        found.FloatPixelData = (DEEP / 4096).astype(np.float32).tobytes()
        found.BitsAllocated = found.BitsStored = 32
        found.HighBit = 31

        stored = read_stored(film_of(found))
        shown = stored.pixels * stored.slope + stored.intercept
        assert np.abs(shown - DEEP / 4096).max() < 1e-4

    def test_padding_is_as_black_as_the_picture_gets(self):
        padded = DEEP.copy()
        padded[:5] = 4095

        bright = read_stored(dicom(padded, 12, PixelPaddingValue=4095))
        dark = read_stored(
            dicom(padded, 12, PixelPaddingValue=4095, PhotometricInterpretation="MONOCHROME1")
        )
        assert (bright.pixels[:5] == DEEP[5:].min()).all()
        assert (dark.pixels[:5] == DEEP[5:].max()).all()


class TestWindow:
    def test_the_window_of_the_file_is_told_in_pixel_values(self):
        stored = read_stored(
            dicom(
                DEEP,
                12,
                WindowCenter=100.5,
                WindowWidth=201,
                RescaleSlope=0.5,
                RescaleIntercept=-10,
            )
        )

        # PS3.3 C.11.2.1.2: value 0 is black and 200 white; (0 + 10) / 0.5 = 20
        assert stored.window == (20, 420)
        assert stored.start == stored.window

    @pytest.mark.parametrize(
        "elements",
        [
            {},
            {"WindowCenter": None, "WindowWidth": None},
            {"WindowCenter": 100, "WindowWidth": 0},
            {"WindowCenter": 900_000, "WindowWidth": 10},
        ],
    )
    def test_a_film_without_a_sensible_window_has_none(self, elements):
        elements = {name: value for name, value in elements.items() if value is not None}

        stored = read_stored(dicom(DEEP, 12, **elements))
        assert stored.window is None
        assert stored.start == (0, 4095)

    @pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
    @pytest.mark.parametrize(
        "elements",
        [
            {},
            {"WindowCenter": 2000, "WindowWidth": 1500},
            {"WindowCenter": 2000, "WindowWidth": 1500, "VOILUTFunction": "LINEAR_EXACT"},
            {"RescaleSlope": 0.25, "RescaleIntercept": 7, "WindowCenter": 500, "WindowWidth": 600},
        ],
    )
    def test_at_first_it_looks_as_the_film_is_displayed_elsewhere(self, elements, photometric):
        content = dicom(DEEP, 12, PhotometricInterpretation=photometric, **elements)

        shown = displayed(read_stored(content))
        assert np.abs(shown - read_radiograph(content).pixels).max() <= 1

    def test_a_voi_table_becomes_the_window_nearest_to_it(self):
        item = Dataset()
        item.LUTDescriptor = [4096, 0, 12]
        ramp = np.clip((np.arange(4096) - 1000) * 2, 0, 4095)
        item.LUTData = ramp.astype("<u2").tobytes()
        content = dicom(DEEP, 12, VOILUTSequence=[item])

        stored = read_stored(content)
        assert stored.window is None
        assert np.abs(displayed(stored) - read_radiograph(content).pixels).max() <= 3


class TestPacking:
    @given(arrays.arrays(np.uint16, (3, 4)))
    def test_unsigned_values_stay_what_they_are(self, values):
        pixels, slope, intercept = packed(values)

        assert np.array_equal(pixels, values)
        assert (slope, intercept) == (1, 0)

    @given(arrays.arrays(np.int16, (3, 4)))
    def test_signed_values_come_back_exactly(self, values):
        pixels, slope, intercept = packed(values)

        assert pixels.dtype.kind == "u"
        assert np.array_equal(pixels * slope + intercept, values.astype(float))

    @given(arrays.arrays(np.int32, (3, 4)))
    def test_wider_values_lose_no_more_than_half_a_step(self, values):
        pixels, slope, intercept = packed(values)

        assert np.abs(pixels * slope + intercept - values).max() <= slope / 2 + 1e-6

    @given(arrays.arrays(np.float32, (3, 4)))
    def test_whatever_is_no_number_becomes_the_lowest(self, values):
        pixels, slope, _ = packed(values)

        assert np.isfinite(slope)
        assert (pixels[~np.isfinite(values) & ~(values > 0)] == 0).all()

    def test_fractions_keep_sixteen_bits(self):
        pixels, slope, intercept = packed(np.linspace(0, 1, 1001, dtype=np.float32)[np.newaxis])

        assert np.unique(pixels).size == 1001
        assert pixels[0, -1] * slope + intercept == pytest.approx(1)


@pytest.mark.parametrize("content", [b"", b"no picture", encode(DEEP, "PNG")[:200]])
def test_what_cannot_be_read_is_refused_as_ever(content):
    with pytest.raises(UnreadableFilm):
        read_stored(content)

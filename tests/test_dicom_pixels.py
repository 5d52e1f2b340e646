"""What DICOM tags say of the pixels beyond a window: which bits, what is padding, how it is meant.

`test_film_formats` holds windows and look-up tables, `test_dicom_transfer_syntaxes` compression.
"""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    RLELossless,
)

from app.cxr.quality import refusals
from app.cxr.radiograph import Radiograph, UnreadableFilm, read_radiograph
from app.cxr.stored import read_stored
from model_export import phantom
from tests import films

FILM = phantom.chest_film(1, (180, 150))
DEEP = FILM.astype(np.uint16) * 16 + np.arange(150, dtype=np.uint16) % 16
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}


def film(pixels: np.ndarray = DEEP, bits: int = 12, **elements: object) -> Radiograph:
    return read_radiograph(films.dicom(pixels, bits, **elements))


def codes(found: Radiograph) -> list[str]:
    return [refusal.code for refusal in refusals(found)]


class TestBits:
    def test_values_at_the_high_end_of_their_word_are_moved_down(self):
        moved = film(DEEP << 4, HighBit=15, **WINDOW)

        assert np.array_equal(moved.pixels, film(**WINDOW).pixels)

    def test_signed_ones_too(self):
        signed = DEEP.astype(np.int16) - 2048
        window = {"WindowCenter": 0, "WindowWidth": 4096}

        moved = film(signed << 4, HighBit=15, **window)
        assert np.array_equal(moved.pixels, film(signed, **window).pixels)

    def test_a_high_bit_that_the_pixels_contradict_is_a_slip(self):
        assert np.array_equal(film(HighBit=15, **WINDOW).pixels, film(**WINDOW).pixels)

    @pytest.mark.parametrize("high", [0, 3, 16, 99])
    def test_a_high_bit_that_cannot_be_is_passed_over(self, high):
        assert np.array_equal(film(HighBit=high, **WINDOW).pixels, film(**WINDOW).pixels)

    def test_a_film_of_32_bits_obeys_its_window(self):
        wide = DEEP.astype(np.uint32) * 1_000_000
        window = {"WindowCenter": 2048e6, "WindowWidth": 4096e6}

        found = film(wide, 32, **window)
        assert np.abs(found.pixels.astype(int) - film(**WINDOW).pixels).max() <= 1

    @pytest.mark.parametrize("keyword", ["Rows", "Columns", "BitsAllocated", "BitsStored"])
    @pytest.mark.parametrize("value", [0, 1, 7, 65535])
    def test_no_number_in_these_tags_breaks_the_reader(self, keyword, value):
        content = films.dicom(DEEP, 12)
        tag = {"Rows": b"\x28\0\x10\0", "Columns": b"\x28\0\x11\0"}.get(keyword)
        tag = tag or {"BitsAllocated": b"\x28\0\0\x01"}.get(keyword, b"\x28\0\x01\x01")
        place = content.index(tag + b"US") + 8
        changed = content[:place] + value.to_bytes(2, "little") + content[place + 2 :]

        assert outcome(changed) in ("read", "damaged", "truncated", "too_many_pixels")

    @pytest.mark.parametrize("keyword", ["Rows", "Columns", "BitsStored", "HighBit"])
    def test_nor_does_one_that_is_missing(self, keyword):
        assert outcome(films.dicom(DEEP, 12, **{keyword: None})) in ("read", "damaged", "truncated")


def outcome(content: bytes) -> str:
    try:
        return "read" if read_radiograph(content).pixels.ndim == 2 else "?"
    except UnreadableFilm as error:
        return error.code


class TestPadding:
    @pytest.mark.parametrize("bright", ["MONOCHROME1", "MONOCHROME2"])
    @pytest.mark.parametrize("limit", [None, 9])
    def test_it_is_black_whichever_way_up_the_grey_goes(self, bright, limit):
        stored = DEEP // 2 + 100
        stored[:, :40] = 5
        elements = {} if limit is None else {"PixelPaddingRangeLimit": limit}

        value = 5 if limit is None else 0
        found = film(stored, PhotometricInterpretation=bright, PixelPaddingValue=value, **elements)
        assert not found.pixels[:, :40].any()
        assert found.pixels[:, 40:].max() > 100

    def test_the_limit_may_be_the_lower_end(self):
        stored = DEEP + 100
        stored[:, :40] = 3

        assert (
            not film(stored, 13, PixelPaddingValue=9, PixelPaddingRangeLimit=0).pixels[:, :40].any()
        )

    def test_a_signed_value_written_as_unsigned_is_found(self):
        stored = DEEP.astype(np.int16)
        stored[:, :40] = -2000
        found = films.dataset(stored, 16)
        found.add_new("PixelPaddingValue", "US", 65536 - 2000)

        assert not read_radiograph(films.written(found)).pixels[:, :40].any()


class TestPresentation:
    @pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
    @pytest.mark.parametrize("shape", ["IDENTITY", "INVERSE"])
    def test_the_photometric_interpretation_alone_turns_the_grey_over(self, photometric, shape):
        plain = film(PhotometricInterpretation=photometric)

        shaped = film(PhotometricInterpretation=photometric, PresentationLUTShape=shape)
        assert np.array_equal(plain.pixels, shaped.pixels)

    @pytest.mark.parametrize("relationship", ["LIN", "LOG", "DISP"])
    @pytest.mark.parametrize("sign", [1, -1])
    @pytest.mark.parametrize("intent", ["FOR PRESENTATION", "FOR PROCESSING"])
    def test_what_the_values_say_of_the_dose_does_not_change_the_picture(
        self, relationship, sign, intent
    ):
        found = film(
            PresentationIntentType=intent,
            PixelIntensityRelationship=relationship,
            PixelIntensityRelationshipSign=sign,
        )
        assert np.array_equal(found.pixels, film().pixels)

    @pytest.mark.parametrize(
        ("intent", "kind"),
        [
            ("FOR PROCESSING", DigitalXRayImageStorageForProcessing),
            ("FOR PROCESSING", ComputedRadiographyImageStorage),
            (None, DigitalXRayImageStorageForProcessing),
        ],
    )
    def test_a_raw_image_is_refused(self, intent, kind):
        elements = {} if intent is None else {"PresentationIntentType": intent}

        assert "for_processing" in codes(film(SOPClassUID=kind, **elements))

    @pytest.mark.parametrize(
        ("intent", "kind"),
        [
            ("FOR PRESENTATION", DigitalXRayImageStorageForPresentation),
            ("FOR PRESENTATION", DigitalXRayImageStorageForProcessing),
            (None, DigitalXRayImageStorageForPresentation),
            (None, ComputedRadiographyImageStorage),
        ],
    )
    def test_a_finished_one_is_not(self, intent, kind):
        elements = {} if intent is None else {"PresentationIntentType": intent}

        assert "for_processing" not in codes(film(SOPClassUID=kind, **elements))

    def test_one_that_says_how_to_show_it_is_not(self):
        found = film(PresentationIntentType="FOR PROCESSING", **WINDOW)

        assert "for_processing" not in codes(found)
        assert np.array_equal(found.pixels, film(**WINDOW).pixels)

    def test_a_look_up_table_says_so_too(self):
        item = Dataset()
        item.LUTDescriptor = [4096, 0, 12]
        item.add_new("LUTData", "US", list(range(4096)))

        found = film(PresentationIntentType="FOR PROCESSING", VOILUTSequence=[item])
        assert "for_processing" not in codes(found)

    def test_half_a_window_says_nothing(self):
        assert "for_processing" in codes(
            film(PresentationIntentType="FOR PROCESSING", WindowCenter=2048)
        )

    def test_the_viewer_shows_a_raw_image_all_the_same(self):
        content = films.dicom(DEEP, 12, PresentationIntentType="FOR PROCESSING")

        assert np.array_equal(read_stored(content).pixels, DEEP)


class TestSecondaryCapture:
    @pytest.mark.parametrize(
        ("kind", "pixels", "bits"),
        [
            (MultiFrameGrayscaleByteSecondaryCaptureImageStorage, FILM, 8),
            (MultiFrameGrayscaleWordSecondaryCaptureImageStorage, DEEP, 12),
        ],
    )
    @pytest.mark.parametrize("frames", [1, 3])
    @pytest.mark.parametrize("packed", [False, True])
    def test_the_first_frame_of_a_multi_frame_object_is_read(
        self, kind, pixels, bits, frames, packed
    ):
        found = films.dataset(
            pixels,
            bits,
            SOPClassUID=kind,
            Modality="OT",
            NumberOfFrames=frames,
            RescaleSlope=1,
            RescaleIntercept=0,
        )
        found.PixelData = np.stack([pixels, pixels // 2, pixels // 3][:frames]).tobytes()
        if packed:
            found.compress(RLELossless)

        shown = read_radiograph(films.written(found))
        assert shown.frames == frames
        assert np.array_equal(shown.pixels, film(pixels, bits).pixels)
        assert codes(shown) == []

    def test_fewer_frames_than_announced_cost_nothing(self):
        found = film(NumberOfFrames=9)

        assert np.array_equal(found.pixels, film().pixels)

    @pytest.mark.parametrize("frames", ["", "0", "-1", "many"])
    def test_a_number_of_frames_that_is_none_is_one(self, frames):
        found = films.dataset(DEEP, 12)
        found.add_new("NumberOfFrames", "LO", frames)

        assert np.array_equal(read_radiograph(films.written(found)).pixels, film().pixels)


def view_code(value: str) -> Sequence:
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = "SCT"
    item.CodeMeaning = "as it is written"
    return Sequence([item])


class TestViewPosition:
    @pytest.mark.parametrize(
        ("value", "view"),
        [
            ("399348003", "AP"),
            ("272479007", "PA"),
            ("399198007", "RL"),
            ("399173006", "LL"),
            ("399067008", "LATERAL"),
            ("R-10214", "PA"),
            ("R-10236", "LL"),
            ("12345", None),
        ],
    )
    @pytest.mark.parametrize("position", [None, ""])
    def test_a_view_code_serves_where_the_position_is_empty(self, value, view, position):
        elements = {} if position is None else {"ViewPosition": position}

        found = film(ViewCodeSequence=view_code(value), **elements)
        assert found.view_position == view

    def test_the_position_goes_before_the_code_and_the_orientation(self):
        found = film(
            ViewPosition="PA",
            ViewCodeSequence=view_code("399173006"),
            PatientOrientation=["A", "F"],
        )
        assert found.view_position == "PA"

    @pytest.mark.parametrize(
        ("orientation", "view"),
        [
            (["A", "F"], "LATERAL"),
            (["P", "F"], "LATERAL"),
            (["A", "FR"], "LATERAL"),
            (["P", "H"], "LATERAL"),
            (["L", "F"], None),
            (["R", "F"], None),
            (["LA", "F"], None),
            (["A", "R"], None),
            (["A"], None),
            ("A", None),
            ("", None),
        ],
    )
    def test_an_orientation_tells_a_side_view_and_nothing_else(self, orientation, view):
        assert film(PatientOrientation=orientation).view_position == view

    @pytest.mark.parametrize(
        "elements",
        [
            {"ViewPosition": "LL"},
            {"ViewPosition": "RL"},
            {"ViewCodeSequence": view_code("399198007")},
            {"PatientOrientation": ["A", "F"]},
        ],
    )
    def test_a_side_view_is_refused(self, elements):
        assert "lateral_view" in codes(film(**elements))

    @pytest.mark.parametrize(
        "elements",
        [
            {"SeriesDescription": "Chest lateral"},
            {"ProtocolName": "Thorax LAT"},
            {"ImageLaterality": "L"},
            {"ViewCodeSequence": Sequence()},
            {"ViewCodeSequence": Sequence([Dataset()])},
        ],
    )
    def test_free_text_and_laterality_tell_no_view(self, elements):
        found = film(**elements)

        assert found.view_position is None
        assert "lateral_view" not in codes(found)

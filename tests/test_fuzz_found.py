"""What fuzzing found (tests/fuzz), each as a test of its own."""

from __future__ import annotations

import struct
import subprocess
import sys
import zipfile
from io import BytesIO

import numpy as np
import pyrage
import pytest
from django.test import Client
from PIL import Image

from app.cxr import radiograph
from app.cxr.picture_in import displayed
from model_export.open_readings import NotOpened, open_readings
from tests.people import browser
from tests.running import ROOT

WORDS = ["0", "site", "clinic:worklist", "people"]


@pytest.mark.django_db
@pytest.mark.parametrize("word", WORDS)
def test_a_word_to_go_on_to_is_no_address_of_ours(word, site):
    """Once a 500: ``redirect`` takes a word without a slash for the name of a page."""
    client = browser("clinician")

    assert client.post("/language", {"language": "fr", "next": word})["Location"] == "/"
    assert client.get("/log-in", {"next": word})["Location"] == "/"


@pytest.mark.django_db
@pytest.mark.parametrize("end", ["%0A", "%C2%85", "%0A%0A"])
def test_an_address_of_the_interface_with_a_line_end_is_answered_in_json(end, site):
    """Once a page, because ``<path:rest>`` stops at a line end."""
    for path in (f"/api/v1/studies/1{end}", f"/api/v1/{end}", f"/api/v1/x{end}y"):
        response = Client().get(path)

        assert response["Content-Type"].partition(";")[0] == "application/json", path
        assert response.status_code in (401, 404)


def test_a_contribution_with_an_offset_before_its_beginning_is_damaged(tmp_path):
    """Once an OSError, because ``zipfile`` seeks where the directory says."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("contribution.json", b"{}")
    content = bytearray(file.getvalue())
    (start,) = struct.unpack_from("<I", content, len(content) - 6)
    struct.pack_into("<I", content, len(content) - 6, start + 40)  # the directory, said to be later
    identity = pyrage.x25519.Identity.generate()
    sealed = tmp_path / "june.clinicreadings"
    sealed.write_bytes(pyrage.encrypt(bytes(content), [identity.to_public()]))

    with pytest.raises(NotOpened, match="damaged"):
        open_readings(sealed, identity, tmp_path / "out")


READ_AND_TELL = """
import sys
from app.cxr.radiograph import read_radiograph
from tests.fuzz.watch import forget_peak, peak_megabytes
forget_peak()
before = peak_megabytes()
film = read_radiograph(sys.stdin.buffer.read())
print(film.width, film.height, peak_megabytes() - before)
"""


def test_a_small_file_that_is_a_huge_coloured_picture_needs_no_second_one():
    """Once 500 MB: a palette's colours were laid out for all 105 million pixels at once."""
    file = BytesIO()
    Image.new("P", (8, 8)).save(file, "GIF")
    content = bytearray(file.getvalue())
    struct.pack_into("<HH", content, 6, 19332, 5464)  # the logical screen, of which 8 x 8 are drawn

    # In a process of its own: what other tests left running takes memory too
    told = subprocess.run(
        [sys.executable, "-c", READ_AND_TELL],
        input=content,
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    width, height, megabytes = told.stdout.split()

    assert (int(width), int(height)) == (19332, 5464)
    assert float(megabytes) < 400


@pytest.mark.parametrize("mode", ["P", "PA", "LA", "RGBA", "CMYK"])
def test_a_picture_is_as_grey_in_strips_as_in_one_piece(mode, monkeypatch):
    colours = np.random.default_rng(1).integers(0, 256, (61, 47, 4), np.uint8)
    picture = Image.fromarray(colours, "RGBA")
    picture = picture.convert("RGB").convert(mode) if mode == "CMYK" else picture.convert(mode)
    whole = displayed(picture)

    monkeypatch.setattr(radiograph, "BLOCK_PIXELS", 500)

    assert np.array_equal(displayed(picture), whole)

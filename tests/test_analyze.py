"""``analyze``: the command line by which scripts, and whoever measures the model, ask for answers.

Every call runs the real program in a process of its own; calls are few, and each is looked at from
many sides.
"""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.cxr.release import OperatingPoint
from app.management.commands.analyze import inputs
from model_export.phantom import chest_film, ct_slice_like
from tests.tiny_release import logit_of, make_release

KEYS = {
    "file", "answer", "probability", "threshold", "reason", "message", "regions", "peak",
    "view_position", "age_years", "width", "height", "frames", "map", "model", "milliseconds",
}  # fmt: skip
POINT = {"threshold": 0.5, "lower": 0.4, "upper": 0.6}


@dataclass
class Run:
    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        def no_constant(name: str) -> None:
            raise AssertionError(f"{name} is no JSON")

        text = self.out.decode("utf-8").splitlines()
        return [json.loads(line, parse_constant=no_constant) for line in text]


def analyze(*arguments: object, home: Path | None, **environment: str) -> Run:
    """Run ``analyze`` as a script would; ``home`` becomes its ``--data-dir``."""
    root = Path(__file__).resolve().parent.parent
    given = [os.fsencode(str(argument)) for argument in arguments]
    if home is not None:
        given += [b"--data-dir", os.fsencode(home)]
    kept = {k: v for k, v in os.environ.items() if k not in ("CLINIC_HOME", "PYTHONIOENCODING")}
    done = subprocess.run(
        [sys.executable, root / "run_clinic.py", "analyze", *given],
        capture_output=True,
        env=kept | environment,
        check=False,
        timeout=300,
    )
    return Run(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def film_of_brightness(factor: float) -> np.ndarray:
    """The same chest film, printed lighter or darker."""
    return np.clip(chest_film(3, (240, 200)) * factor, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory whose active release is the tiny one."""
    folder = tmp_path_factory.mktemp("home")
    make_release(folder / "models" / "tiny")
    (folder / "active.json").write_text('{"release": "models/tiny"}')
    return folder


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stick as it comes: films, folders, hidden files, and what is no film."""
    folder = tmp_path_factory.mktemp("films")
    for index, factor in enumerate(np.linspace(0.75, 1.35, 6)):
        save(folder / "answered" / f"film{index}.png", film_of_brightness(float(factor)))
    save(folder / "a" / "same.png", film_of_brightness(1.2))
    save(folder / "b" / "same.png", film_of_brightness(0.8))
    save(folder / "b" / "deep" / "er" / "same.png", film_of_brightness(1.0))
    save(folder / "b" / ".hidden.png", film_of_brightness(1.0))
    save(folder / ".hidden" / "film.png", film_of_brightness(1.0))
    save(folder / "b" / "small.png", np.zeros((20, 20), np.uint8))
    (folder / "b" / "empty.jpg").write_bytes(b"")
    (folder / "b" / "notes.txt").write_text("no film")
    return folder


@pytest.fixture(scope="module")
def batch(home: Path, films: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One call over everything: folders and files mixed, some twice, some missing."""
    odd = tmp_path_factory.mktemp("odd")
    save(odd / "two\nlines.png", film_of_brightness(1.0))
    (odd / "two\nlines.png").rename(odd / "line one\nline two.png")
    os.link(odd / "line one\nline two.png", os.fsencode(odd) + b"/not-utf8-\xff.png")
    os.link(odd / "line one\nline two.png", odd / "lungenröntgen 胸片.png")
    os.link(odd / "line one\nline two.png", odd / ("n" * 250 + ".png"))
    return analyze(
        films / "b", films / "answered" / "film3.png", films / "a", films / "missing.png",
        films / "answered", odd, "--json", "--maps", odd.parent / f"{odd.name}-maps", home=home,
    )  # fmt: skip


def by_name(run: Run, name: str) -> dict[str, Any]:
    return next(line for line in run.lines if Path(line["file"]).name == name)


def test_every_key_is_in_every_line(batch):
    assert all(set(line) == KEYS for line in batch.lines)


def test_lines_come_in_the_order_of_the_arguments_and_folders_sorted(batch, films):
    files = [line["file"] for line in batch.lines]
    expected = [
        "b/deep/er/same.png", "b/empty.jpg", "b/notes.txt", "b/same.png", "b/small.png",
        "answered/film3.png", "a/same.png", "missing.png",
        *(f"answered/film{index}.png" for index in range(6)),
    ]  # fmt: skip
    assert files[: len(expected)] == [str(films / name) for name in expected]


def test_names_are_given_back_as_found(batch):
    odd = [os.fsencode(Path(line["file"]).name) for line in batch.lines[-4:]]
    names = {b"line one\nline two.png", b"not-utf8-\xff.png", b"n" * 250 + b".png"}
    assert set(odd) == names | {"lungenröntgen 胸片.png".encode()}
    assert all(line["probability"] is not None for line in batch.lines[-4:])


def test_hidden_files_are_skipped_and_every_other_file_is_tried(batch):
    assert not any("hidden" in line["file"] for line in batch.lines)
    assert by_name(batch, "notes.txt")["answer"] == "unreadable"


def test_one_unreadable_file_makes_the_exit_status_1_and_stops_nothing(batch):
    assert batch.code == 1
    assert len(batch.lines) == 18


@pytest.mark.parametrize(
    ("name", "answer", "reason"),
    [
        ("empty.jpg", "unreadable", "empty"),
        ("notes.txt", "unreadable", "not_an_image"),
        ("missing.png", "unreadable", "missing"),
        ("small.png", "refused", "too_small"),
    ],
)
def test_what_got_no_answer_has_a_reason_and_nothing_made_up(batch, name, answer, reason):
    line = by_name(batch, name)
    assert (line["answer"], line["reason"]) == (answer, reason)
    assert [line[key] for key in ("probability", "threshold", "peak", "map")] == [None] * 4
    assert line["regions"] == []
    assert len(line["message"]) > 20
    assert line["model"] == "tiny@1.2.3"


def test_size_and_frames_are_known_as_soon_as_there_are_pixels(batch):
    small, empty = by_name(batch, "small.png"), by_name(batch, "empty.jpg")
    assert [small[key] for key in ("width", "height", "frames")] == [20, 20, 1]
    assert [empty[key] for key in ("width", "height", "frames")] == [None] * 3


def answered(run: Run) -> list[dict[str, Any]]:
    return [line for line in run.lines if line["probability"] is not None]


def test_the_films_get_every_kind_of_answer(batch):
    assert {line["answer"] for line in answered(batch)} == {"likely", "unlikely", "cannot_say"}


def test_answers_are_decided_on_the_printed_values(batch):
    for line in answered(batch):
        assert line["answer"] == OperatingPoint(**POINT).decide(line["probability"])
        assert line["threshold"] == POINT["threshold"]


def test_probability_rises_with_the_score_and_has_six_digits_or_more(batch):
    found = [by_name(batch, f"film{index}.png")["probability"] for index in range(6)]
    assert found == sorted(set(found))
    for index, factor in enumerate(np.linspace(0.75, 1.35, 6)):
        grey = Image.fromarray(film_of_brightness(float(factor)))
        seen = np.asarray(grey.resize((40, 40), Image.Resampling.BILINEAR), np.float64)
        wanted = 1 / (1 + math.exp(-logit_of(seen.mean())))
        assert found[index] == pytest.approx(wanted, abs=2e-6)


def test_only_an_answer_withheld_has_a_reason(batch):
    for line in answered(batch):
        withheld = line["answer"] == "cannot_say"
        assert line["reason"] == ("near_the_threshold" if withheld else None)


def test_peak_and_regions_lie_in_the_film(batch):
    for line in answered(batch):
        assert (line["width"], line["height"]) == (200, 240)
        assert 0 <= line["peak"]["x"] < 200
        assert 0 <= line["peak"]["y"] < 240
        for region in line["regions"]:
            assert set(region) == {"x", "y", "width", "height", "zone", "score"}
            assert 0 <= region["x"] < region["x"] + region["width"] <= 200
            assert 0 <= region["y"] < region["y"] + region["height"] <= 240


def test_the_time_each_film_took_is_told(batch):
    assert all(0 < line["milliseconds"] < 60_000 for line in batch.lines if line["file"])


def test_maps_have_the_size_of_the_film_and_repeated_names_are_numbered(batch):
    maps = [Path(line["map"]) for line in batch.lines if line["map"]]
    assert len(set(maps)) == len(maps)
    same = [Path(line["map"]).name for line in batch.lines if line["file"].endswith("/same.png")]
    assert same == ["same.map.png", "same.2.map.png", "same.3.map.png"]
    third = [Path(line["map"]).name for line in batch.lines if line["file"].endswith("film3.png")]
    assert third == ["film3.map.png", "film3.2.map.png"]
    for path in maps:
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("L", (200, 240))


def test_a_map_whose_name_would_be_too_long_costs_no_answer(batch):
    line = by_name(batch, "n" * 250 + ".png")
    assert line["probability"] is not None
    assert line["map"] is None
    assert "cannot be written" in batch.err


def test_progress_goes_to_stderr_alone(batch):
    assert "film3.png" in batch.err
    assert batch.out.count(b"\n") == len(batch.lines)


def test_all_inputs_answered_or_refused_is_exit_status_0_and_stores_nothing(tmp_path, films):
    nowhere = tmp_path / "nowhere"
    folder = films / "b" / "deep"
    run = analyze(folder, films / "b" / "small.png", "--json", home=nowhere)
    assert run.code == 0, run.err
    assert [line["answer"] for line in run.lines][1] == "refused"
    assert not nowhere.exists()
    assert {path.name for path in folder.rglob("*")} == {"er", "same.png"}


def test_an_age_chooses_the_operating_point_and_is_printed(home, films):
    run = analyze(films / "a", "--json", "--age", "3", home=home)
    (line,) = run.lines
    assert (line["age_years"], line["threshold"]) == (3, 0.3)


def test_a_local_operating_point_is_obeyed_without_a_database(home, films, tmp_path):
    make_release(tmp_path / "tiny")
    point = {"model": "tiny@1.2.3", "threshold": 0.9, "lower": 0.0, "upper": 1.0}
    own = {"unknown": point}
    active = {"release": "tiny", "operating_points": own}
    (tmp_path / "active.json").write_text(json.dumps(active))
    run = analyze(films / "answered", "--json", home=None, CLINIC_HOME=str(tmp_path))
    assert {line["threshold"] for line in run.lines} == {0.9}
    assert {line["answer"] for line in run.lines} == {"cannot_say"}
    assert not list(tmp_path.glob("*.sqlite3*"))


def test_without_json_a_line_is_for_people_even_on_a_console_of_few_letters(home, tmp_path):
    save(tmp_path / "胸片.png", film_of_brightness(1.3))
    run = analyze(tmp_path, home=home, PYTHONIOENCODING="ascii")
    assert run.code == 0, run.err
    assert "胸片.png: Signs of pneumonia: likely" in run.out.decode("utf-8")


@pytest.mark.parametrize(
    "arguments",
    [[], ["--json"], ["a.png", "--age", "-1"], ["a.png", "--age", "old"], ["a.png", "--nonsense"]],
    ids=" ".join,
)
def test_a_wrong_call_is_exit_status_2_with_a_sentence(home, arguments):
    run = analyze(*arguments, home=home)
    assert (run.code, run.out) == (2, b"")
    assert run.err.strip()
    assert "Traceback" not in run.err


def test_without_a_usable_model_the_exit_status_is_2_with_a_sentence(tmp_path):
    (tmp_path / "active.json").write_text('{"release": "gone"}')
    run = analyze(tmp_path, "--json", home=tmp_path)
    assert (run.code, run.out) == (2, b"")
    assert "model" in run.err
    assert "Traceback" not in run.err


def test_a_folder_for_maps_that_is_a_file_is_exit_status_2(home, films, tmp_path):
    (tmp_path / "file").write_text("")
    run = analyze(films / "a", "--maps", tmp_path / "file", home=home)
    assert (run.code, run.out) == (2, b"")
    assert "maps" in run.err


def test_each_line_is_there_as_soon_as_its_film_is_read(home, films):
    """A reader of the pipe gets the first answer while the batch still runs."""
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, root / "run_clinic.py", "analyze", "--json", films / "a"]
    with subprocess.Popen(
        [*command, *[films / "answered"] * 30, "--data-dir", home],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        running = process.poll() is None
        process.kill()
    assert first["file"].endswith("same.png")
    assert running


def test_an_explicit_hidden_file_is_read_and_an_empty_folder_gives_nothing(tmp_path):
    (tmp_path / ".film.png").touch()
    (tmp_path / "empty").mkdir()
    given = [tmp_path / ".film.png", tmp_path / "empty", tmp_path / "missing"]
    assert list(inputs(given)) == [tmp_path / ".film.png", tmp_path / "missing"]


def test_a_folder_that_links_to_itself_ends(tmp_path):
    (tmp_path / "film.png").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    assert list(inputs([tmp_path])) == [tmp_path / "film.png"]


def test_no_pneumonia_is_seen_in_what_is_no_chest_film():
    """The factory release, whatever its own gate says, never calls a drawn slice likely."""
    from app.cxr.analysis import analyse
    from app.cxr.model import Model
    from app.cxr.release import FACTORY_DIRECTORY, Release

    if not FACTORY_DIRECTORY.is_dir():
        pytest.skip("no factory release in assets/release")
    file = io.BytesIO()
    Image.fromarray(ct_slice_like(1)).save(file, "PNG")
    assert analyse(file.getvalue(), Model.load(Release.load(FACTORY_DIRECTORY))).answer == "refused"

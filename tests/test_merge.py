"""Contributions of many sites taken together: what stays, what is left out, and why."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.cxr.radiograph import read_radiograph
from model_export import __main__ as command_line
from model_export import label_noise, likeness, merge
from model_export.contributed import edges_of, odd_values, read_opened
from model_export.datasets import load_contributions, load_labels_csv, split_by_patient
from model_export.label_noise import confident_classes, judge, judged_together, suspected
from model_export.likeness import joined_patients, same_films
from model_export.merge import largest_share
from model_export.merge_page import REASONS
from model_export.open_readings import COLUMNS
from tests.films import encode
from tests.opened import BRIGHT, Sent, clear, code, name_of, opened, person, sick
from tests.tiny_release import make_release


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("made") / "release")


@pytest.fixture
def run(release: Path, tmp_path: Path) -> Any:
    """The stage; what it reports."""

    def stage(*folders: Path, out: str = "merged", **more: Any) -> dict[str, Any]:
        words = ["--release", str(release), "--out", str(tmp_path / out)]
        for name, value in more.items():
            words += [f"--{name}", str(value)]
        assert command_line.main(["merge", *map(str, folders), *words]) == 0
        return json.loads((tmp_path / out / "report.json").read_text())

    return stage


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def out_of(report: dict[str, Any]) -> dict[str, str]:
    """Every film that was left out, with its reason."""
    return {f"{one['site']}-{one['film']}": one["reason"] for one in report["dropped"]}


def saved(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    """The picture once through another format, as a PNG."""
    again = Image.open(io.BytesIO(encode(pixels, kind, **options)))
    return encode(again.convert("L"), "PNG")


# --- what comes out -----------------------------------------------------------------------------


def test_films_of_all_sites_lie_in_one_folder_under_names_of_their_own(run, tmp_path):
    a = opened(tmp_path / "a", "amani", [sick(1), clear(2)])
    b = opened(tmp_path / "b", "bora", [sick(3)])
    report = run(a, b)
    rows = table(tmp_path / "merged")
    assert (report["read"], report["kept"], report["dropped"]) == (3, 3, [])
    names = {name_of("amani", sick(1)), name_of("amani", clear(2)), name_of("bora", sick(3))}
    assert {Path(row["file"]).stem for row in rows} == names
    images = tmp_path / "merged" / "images"
    assert {path.stem for path in images.iterdir()} == names
    original = a / "images" / f"{code('amani', 1, 0)}.png"
    assert (images / f"{name_of('amani', sick(1))}.png").read_bytes() == original.read_bytes()


def test_the_table_is_one_that_evaluate_and_train_read(run, tmp_path):
    run(opened(tmp_path / "a", "amani", [sick(1), clear(2, band="15_64", sex="M")]))
    merged = tmp_path / "merged"
    assert tuple(table(merged)[0]) == COLUMNS
    films = load_labels_csv(merged, "label", ["pneumonia"], ["no_pneumonia"])
    assert sorted((f.label, f.age_years, f.sex, f.site) for f in films) == [
        (0, 40.0, "M", code("amani")),
        (1, 2.5, "F", code("amani")),
    ]
    assert all(film.path.is_file() for film in films)


def test_the_same_input_gives_the_same_bytes_in_any_order_of_sites(run, tmp_path):
    a = opened(tmp_path / "a", "amani", [sick(1), clear(2), Sent(7, "unsure")])
    b = opened(tmp_path / "b", "bora", [sick(1), clear(4)])
    for out, folders in (("one", (a, b)), ("two", (a, b)), ("three", (b, a))):
        run(*folders, out=out)

    def everything(name: str) -> dict[str, bytes]:
        there = sorted((tmp_path / name).rglob("*"))
        return {
            p.relative_to(tmp_path / name).as_posix(): p.read_bytes() for p in there if p.is_file()
        }

    assert everything("one") == everything("two")
    other = everything("three")
    assert {n: c for n, c in everything("one").items() if "report" not in n} == {
        n: c for n, c in other.items() if "report" not in n
    }


def test_every_film_that_is_left_out_is_in_the_report_that_people_read(run, tmp_path):
    report = run(opened(tmp_path / "a", "amani", [sick(1), Sent(2, "unsure"), Sent(3, "other")]))
    text = (tmp_path / "merged" / "report.md").read_text()
    for name, reason in out_of(report).items():
        assert f"| {name} | {reason} |" in text
    assert REASONS["unsure"] in text
    assert "1 of 3 films" in text


def test_nothing_left_is_a_whole_folder_too(run, tmp_path):
    report = run(opened(tmp_path / "a", "amani", [Sent(1, "unsure")]))
    assert (report["kept"], table(tmp_path / "merged")) == (0, [])


def test_a_folder_that_is_there_is_not_written_over(release, tmp_path, capsys):
    a = opened(tmp_path / "a", "amani", [sick(1)])
    (tmp_path / "merged").mkdir()
    words = ["merge", str(a), "--release", str(release), "--out", str(tmp_path / "merged")]
    assert command_line.main(words) == 1
    assert "is there already" in capsys.readouterr().err
    assert list((tmp_path / "merged").iterdir()) == []


# --- what cannot be learnt from -----------------------------------------------------------------


@pytest.mark.parametrize("label", ["unsure", "other", "not_usable"])
def test_a_label_that_is_no_answer_is_left_out_under_its_own_name(run, tmp_path, label):
    report = run(opened(tmp_path / "a", "amani", [sick(1), Sent(2, label)]))
    assert out_of(report) == {name_of("amani", Sent(2, label)): label}


@pytest.mark.parametrize(
    ("picture", "detail"),
    [
        (encode(np.zeros((256, 224), np.uint8), "PNG"), "constant"),
        (encode(person(5)[:40, :40], "PNG"), "too_small"),
        (b"\x89PNG no picture", "not_an_image"),
    ],
)
def test_what_the_clinics_gate_refuses_is_left_out_with_its_code(run, tmp_path, picture, detail):
    bad = sick(2, picture=picture)
    report = run(opened(tmp_path / "a", "amani", [sick(1), bad]))
    assert out_of(report) == {name_of("amani", bad): "refused"}
    assert report["dropped"][0]["detail"]


# --- the same film ------------------------------------------------------------------------------


def test_of_the_very_same_picture_one_stays_within_a_site_and_across(run, tmp_path):
    again = sick(1, number=1, picture=encode(person(1, BRIGHT), "PNG"))
    a = opened(tmp_path / "a", "amani", [sick(1), again])
    b = opened(tmp_path / "b", "bora", [sick(1)])
    report = run(a, b)
    assert (report["kept"], report["reasons"]) == (1, {"duplicate": 2})


@pytest.mark.parametrize(
    "change",
    [
        lambda film: saved(film, "JPEG", quality=60),
        lambda film: encode(Image.fromarray(film).resize((170, 190)), "PNG"),
        lambda film: encode((film * 0.9).astype(np.uint8), "PNG"),
    ],
    ids=["saved as JPEG", "made smaller", "darker"],
)
def test_of_the_same_film_saved_anew_one_stays(run, tmp_path, change):
    a = opened(tmp_path / "a", "amani", [sick(1)])
    b = opened(tmp_path / "b", "bora", [sick(1, picture=change(person(1, BRIGHT)))])
    report = run(a, b)
    assert (report["kept"], report["reasons"]) == (1, {"near_duplicate": 1})


def test_films_of_different_people_are_not_taken_for_one(run, tmp_path):
    report = run(opened(tmp_path / "a", "amani", [sick(n) for n in range(12)]))
    assert report["kept"] == 12


def test_of_a_film_with_contradicting_labels_no_copy_stays(run, tmp_path):
    a = opened(tmp_path / "a", "amani", [sick(1, grey=100.0), sick(2)])
    b = opened(tmp_path / "b", "bora", [clear(1, grey=100.0), clear(3)])
    report = run(a, b)
    assert out_of(report) == {
        name_of("amani", sick(1)): "contradiction",
        name_of("bora", clear(1)): "contradiction",
    }
    details = {one["detail"] for one in report["dropped"]}
    assert details == {name_of("amani", sick(1)), name_of("bora", clear(1))}


def test_of_a_film_that_was_sent_again_the_later_reading_counts(run, tmp_path):
    june = opened(tmp_path / "june", "amani", [clear(1, grey=100.0)])
    july = opened(tmp_path / "july", "amani", [sick(1, grey=100.0)])
    report = run(june, july)
    assert [row["label"] for row in table(tmp_path / "merged")] == ["pneumonia"]
    assert [(one["folder"], one["reason"]) for one in report["dropped"]] == [("june", "superseded")]


def test_a_film_that_is_in_use_already_is_left_out_with_all_of_that_person(run, tmp_path):
    (tmp_path / "known").mkdir()
    Image.fromarray(person(1, BRIGHT)).save(tmp_path / "known" / "x.jpeg", quality=85)
    second = sick(1, number=1, picture=encode(person(50, BRIGHT), "PNG"))
    a = opened(tmp_path / "a", "amani", [sick(1), second, sick(2)])
    report = run(a, known=tmp_path / "known")
    assert set(out_of(report)) == {name_of("amani", sick(1)), name_of("amani", second)}
    assert report["reasons"] == {"known": 2}
    assert {one["detail"] for one in report["dropped"]} == {"", "another film of this person is"}


def test_patients_who_share_a_film_are_one_person_and_stay_on_one_side(run, tmp_path):
    other = sick(1, number=1, picture=encode(person(70, BRIGHT), "PNG"))
    a = opened(tmp_path / "a", "amani", [sick(1), other])
    b = opened(
        tmp_path / "b", "bora", [sick(1), sick(1, number=2, picture=encode(person(71), "PNG"))]
    )
    report = run(a, b)
    rows = table(tmp_path / "merged")
    assert (len(rows), len({row["patient"] for row in rows})) == (3, 1)
    assert len({row["site"] for row in rows}) == 2
    assert [len(names) for names in report["joined_patients"]] == [2]
    split = split_by_patient(load_contributions(tmp_path / "merged"))
    assert sorted(map(len, (split.train, split.validation, split.test))) == [0, 0, 3]


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4), max_size=8))
def test_whoever_is_linked_by_films_has_one_name_and_nobody_else(groups):
    person_of = joined_patients(groups, "abcdefgh")
    for group in groups:
        assert len({person_of[one] for one in group}) == 1
    apart = [set(group) for group in groups]
    for name, who in person_of.items():
        reached, size = {name}, 0
        while len(reached) > size:
            size = len(reached)
            reached |= {x for group in apart if group & reached for x in group}
        assert who in reached
        assert who == min(reached)


def test_equal_pixels_are_one_picture_even_without_edges():
    edges = np.zeros((3, 4), np.float32)
    assert same_films(edges, ["x", "y", "x"]) == [[0, 2], [1]]


def test_real_films_of_different_children_are_not_taken_for_one(cxr_data):
    paths = sorted((cxr_data / "kermany_train" / "NORMAL").iterdir())[:200]
    edges = np.stack([edges_of(read_radiograph(path)) for path in paths])
    same = edges @ edges.T
    np.fill_diagonal(same, 0)
    own = [path.name.rsplit("-", 1)[0] for path in paths]
    alike = [(own[i], own[j]) for i, j in np.argwhere(same >= likeness.SAME)]
    assert [pair for pair in alike if pair[0] != pair[1]] == []
    copy = saved(read_radiograph(paths[0]).pixels, "JPEG", quality=50)
    assert edges[0] @ edges_of(read_radiograph(copy)) > likeness.SAME


# --- whose labels -------------------------------------------------------------------------------


def good_site(first: int, count: int = 12) -> list[Sent]:
    return [
        make(first + 2 * n + index, grey=grey + n)
        for n in range(count)
        for index, (make, grey) in enumerate(((sick, 130.0), (clear, 70.0)))
    ]


def test_a_good_site_stays_whole(run, tmp_path):
    report = run(opened(tmp_path / "a", "amani", good_site(0)))
    judgement = report["sites"][code("amani")]["judgement"]
    assert report["kept"] == 24
    assert judgement["auc"]["low"] > 0.9
    assert (judgement["noise"], judgement["reason"]) == (0.0, None)


def test_a_site_whose_labels_are_turned_round_is_held_back_and_the_good_one_stays(run, tmp_path):
    turned = [clear(100 + n, grey=150.0 + n) for n in range(12)]
    turned += [sick(200 + n, grey=70.0 + n) for n in range(12)]
    report = run(
        opened(tmp_path / "a", "amani", good_site(0)), opened(tmp_path / "b", "bora", turned)
    )
    assert report["sites"][code("amani")]["kept"] == 24
    assert report["sites"][code("bora")]["reasons"] == {"no_better_than_chance": 24}
    assert report["sites"][code("bora")]["judgement"]["noise"] > 0.9


def test_a_flood_of_one_label_is_held_back(run, tmp_path):
    flood = [sick(100 + n, grey=120.0 + n) for n in range(label_noise.FLOOD)]
    report = run(
        opened(tmp_path / "a", "amani", good_site(0)), opened(tmp_path / "b", "bora", flood)
    )
    assert report["sites"][code("bora")]["reasons"] == {"one_class": label_noise.FLOOD}
    assert report["sites"][code("amani")]["kept"] == 24


def test_a_label_of_which_the_release_is_sure_of_the_opposite_waits_for_a_second_reader(
    run, tmp_path
):
    poison = clear(90, grey=BRIGHT)
    a = opened(tmp_path / "a", "amani", [*good_site(0), poison])
    report = run(a)
    assert out_of(report) == {name_of("amani", poison): "suspected"}
    assert float(report["dropped"][0]["detail"]) > 0.95
    (tmp_path / "seen.txt").write_text(f"{name_of('amani', poison)}\n")
    assert run(a, out="again", reviewed=tmp_path / "seen.txt")["kept"] == 25


def test_an_answer_that_was_corrected_near_the_threshold_stays(run, tmp_path):
    corrected = [clear(90, grey=115.0), sick(91, grey=85.0)]
    assert run(opened(tmp_path / "a", "amani", [*good_site(0), *corrected]))["kept"] == 26


def test_sites_that_are_too_small_to_judge_are_judged_together(run, tmp_path):
    honest = good_site(0, 6)
    turned = [clear(100 + n, grey=125.0 + n) for n in range(9)]
    turned += [sick(200 + n, grey=75.0 + n) for n in range(9)]
    folders = [opened(tmp_path / "a", "amani", honest), opened(tmp_path / "b", "bora", turned)]
    report = run(*folders)
    both = sorted([code("amani"), code("bora")])
    assert all(one["judgement"]["together_with"] == both for one in report["sites"].values())
    assert report["kept"] == 0  # the honest one waits until it has sent more
    alone = run(folders[0], out="alone")
    assert alone["kept"] == 12
    assert alone["sites"][code("amani")]["judgement"]["auc"]["value"] is None


def test_confident_is_who_is_as_sure_as_on_the_average_of_that_class():
    labels = np.array([1, 1, 1, 0, 0, 0])
    probabilities = np.array([0.9, 0.7, 0.1, 0.1, 0.3, 0.8])
    # bounds: 0.567 for pneumonia, 0.6 for none
    assert confident_classes(labels, probabilities).tolist() == [1, 1, 0, 0, 0, 1]


def test_between_both_bounds_nothing_is_confident():
    found = confident_classes(np.array([1, 0]), np.array([0.9, 0.1]))
    assert found.tolist() == [1, 0]
    assert confident_classes(np.array([1, 0, 1]), np.array([0.9, 0.1, 0.5])).tolist() == [1, 0, -1]


def test_without_a_class_nothing_is_confident_of_it():
    assert confident_classes(np.array([1, 1]), np.array([0.01, 0.5])).tolist() == [-1, 1]


def test_suspected_is_only_what_is_nearly_impossible_to_the_release():
    labels, probabilities = np.array([0, 0, 1]), np.array([0.96, 0.94, 0.02])
    assert suspected(labels, probabilities, np.array([1, 1, 0])).tolist() == [True, False, True]
    assert not suspected(labels, probabilities, np.array([-1, 0, 1])).any()


def test_labels_by_chance_are_told_from_good_ones():
    dice = np.random.default_rng(0)
    labels = np.array([0, 1] * 60)
    seen = np.clip(labels * 0.5 + dice.uniform(0, 0.5, 120), 0, 1)
    patients = np.arange(120).astype(str)
    nowhere = np.full(120, -1)
    assert judge(labels, seen, nowhere, patients).reason is None
    by_chance = dice.permutation(labels)
    assert judge(by_chance, seen, nowhere, patients).reason == "no_better_than_chance"


def test_small_sites_are_gathered_and_a_flood_is_not_hidden_among_them():
    sites = ["a"] * 20 + ["b"] * 4 + ["c"] * 20 + ["d"] * 6
    labels = np.array([0, 1] * 10 + [0, 1] * 2 + [1] * 20 + [0, 1] * 3)
    assert judged_together(sites, labels) == [["a"], ["c"], ["b", "d"]]


@pytest.mark.parametrize(
    ("counts", "most"),
    [
        ([], 0),
        ([900], 900),
        ([900, 5], 900),
        ([900, 5, 5], 300),  # up to here a site is never cut
        ([900, 400, 100], 500),
        ([400, 400, 400], 400),
    ],
)
def test_of_three_sites_none_brings_more_than_half(counts, most):
    assert largest_share(counts) == most


@given(st.lists(st.integers(1, 2000), min_size=3, max_size=8))
def test_the_share_of_a_site_is_kept_or_it_is_small(counts):
    most = largest_share(counts)
    total = sum(min(one, most) for one in counts)
    assert most <= merge.LARGEST_ALONE or most <= merge.MOST_SHARE * total


def test_what_goes_beyond_the_share_is_left_out_by_chance_and_alike_each_time(
    run, tmp_path, monkeypatch
):
    monkeypatch.setattr(merge, "LARGEST_ALONE", 4)
    folders = [
        opened(tmp_path / site, site, good_site(first, count))
        for site, first, count in (("amani", 0, 6), ("bora", 100, 1), ("chem", 200, 1))
    ]
    report = run(*folders)
    assert report["reasons"] == {"beyond_share": 8}
    assert out_of(run(*folders, out="again")) == out_of(report)


# --- never trusting what is opened --------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("file", "../../etc/passwd.png"),
        ("file", "film.png"),
        ("site", "amani"),
        ("patient", "0" * 20),
        ("patient", code("another") + "-" + "0" * 20),
        ("study", ""),
        ("month", "2025-13"),
        ("label", "Pneumonia"),
        ("label", "=1+1"),
        ("age", "3"),
        ("age", "nan"),
        ("age_band", "old"),
        ("sex", "female"),
        ("view", "LATERAL"),
        ("before_answer", "yes"),
        ("answer", "maybe"),
        ("probability", "nan"),
        ("probability", "1.5"),
        ("threshold", "inf"),
        ("threshold", ""),
        ("model", "=cmd()"),
        ("signs", "\x1b[2J"),
        ("why", "because"),
    ],
)
def test_a_value_that_open_readings_does_not_write_ends_the_merging(
    release, tmp_path, capsys, column, value
):
    folder = opened(tmp_path / "a", "amani", [sick(1)], **{column: value})
    words = ["merge", str(folder), "--release", str(release), "--out", str(tmp_path / "m")]
    assert command_line.main(words) == 1
    said = capsys.readouterr().err
    assert column in said.split("line 2: ")[1]
    assert not (tmp_path / "m").exists()


def test_an_honest_row_has_nothing_odd(tmp_path):
    (row,) = read_opened(opened(tmp_path / "a", "amani", [sick(1, band="unknown")]))
    assert odd_values(row.values) == []
    assert row.age_years is None


@pytest.mark.parametrize("spoil", ["columns", "short", "missing", "link"])
def test_a_folder_that_is_not_whole_ends_the_merging(release, tmp_path, spoil):
    folder = opened(tmp_path / "a", "amani", [sick(1)])
    labels, film = folder / "labels.csv", next((folder / "images").iterdir())
    if spoil == "columns":
        labels.write_text(labels.read_text().replace("label", "truth", 1))
    elif spoil == "short":
        labels.write_text(labels.read_text().rsplit(",", 3)[0] + "\n")
    else:
        film.unlink()
        if spoil == "link":
            film.symlink_to("/etc/hostname")
    words = ["merge", str(folder), "--release", str(release), "--out", str(tmp_path / "m")]
    assert command_line.main(words) == 1
    assert not (tmp_path / "m").exists()

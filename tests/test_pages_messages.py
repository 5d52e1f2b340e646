"""Sentences: every code of the program has one, in words a health worker can act on."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from app import checks, intake, messages
from app.cxr import analysis, model, quality, radiograph, release
from app.models import State

DECLARED = {
    "analysis": analysis.CODES,
    "model": model.CODES,
    "quality": quality.CODES,
    "radiograph": radiograph.CODES,
    "release": release.CODES,
    "intake": intake.CODES,
}
ALL_CODES = sorted(frozenset().union(*DECLARED.values()))
CARRIERS = {"UnreadableFilm", "Refusal", "Rejected", "UnusableRelease"}


def codes_used_in(path: Path) -> set[str]:
    """Literal codes handed to what carries them, and literal reasons."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    first = [
        call.args[0] for call in calls if getattr(call.func, "id", "") in CARRIERS and call.args
    ]
    reasons = [word.value for call in calls for word in call.keywords if word.arg == "reason"]
    literals = [node for value in first + reasons for node in ast.walk(value)]
    return {
        node.value
        for node in literals
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "_" in node.value
    }


@pytest.mark.parametrize("code", ALL_CODES)
def test_it_has_a_sentence_for_every_declared_code(code):
    assert code in messages.SENTENCES


def test_it_has_a_sentence_for_every_code_used_anywhere(root):
    used = set().union(*(codes_used_in(path) for path in sorted((root / "app").rglob("*.py"))))

    # what is made of parts at run time ("heic" + "_not_supported") is declared in CODES
    whole = {code for code in used if not code.startswith("_")}
    assert whole <= set(messages.SENTENCES), whole - set(messages.SENTENCES)
    assert len(whole) > 15


@pytest.mark.parametrize("code", sorted(messages.SENTENCES))
def test_it_never_shows_a_placeholder_instead_of_a_word(code):
    shown = messages.sentence(code, {})

    assert "%" not in shown
    assert shown.endswith((".", "?", ")"))


@pytest.mark.parametrize("code", ALL_CODES)
def test_it_never_shows_the_code_to_a_person_who_can_do_nothing_with_it(code):
    assert "_" not in messages.sentence(code, {})


@pytest.mark.parametrize("code", sorted(quality.CODES | radiograph.CODES))
def test_it_says_what_to_do_next_about_every_film_that_is_not_answered(code):
    advice = ("put in", "choose", "copy", "export", "set the", "hold", "still plugged", "open the")

    assert any(word in messages.sentence(code, {}).lower() for word in advice)


def test_it_owns_up_to_a_code_it_does_not_know():
    shown = messages.sentence("flux_capacitor_empty", {})

    assert "no words" in shown
    assert "flux_capacitor_empty" in shown


def test_it_fills_in_the_details():
    shown = messages.sentence("transfer_syntax_not_supported", {"transfer_syntax": "JPEG-LS"})

    assert "(JPEG-LS)" in shown


def test_it_says_the_sentence_even_where_a_detail_is_missing():
    assert "(?)" in messages.sentence("transfer_syntax_not_supported", {})


def test_it_does_not_take_a_percent_sign_in_a_detail_for_a_placeholder():
    assert "100%(format)s" in messages.sentence("format_not_supported", {"format": "100%(format)s"})


def test_it_takes_details_that_nothing_asked_for():
    assert messages.sentence("empty", {"limit": "3"}) == messages.sentence("empty")


@pytest.mark.parametrize("state", [*State.values, "likely", "unlikely", "cannot_say"])
def test_it_has_a_word_a_headline_and_a_next_step_for_every_answer_and_state(state):
    if state != "answered":
        assert state in messages.ANSWERS
        assert state in messages.HEADLINES
        assert state in messages.NEXT_STEPS


@pytest.mark.parametrize(
    "zone",
    [f"{side} {third}" for side in ("right", "left") for third in ("upper", "middle", "lower")],
)
def test_it_has_words_for_every_zone(zone):
    assert zone in messages.ZONES


def test_it_says_what_an_answer_does_not_mean():
    limits = " ".join(str(limit) for limit in messages.LIMITS)

    for needed in (
        "not a diagnosis",
        "clear film does not exclude",
        "tuberculosis",
        "The map shows",
    ):
        assert needed in limits


def test_every_start_up_problem_has_a_sentence_of_its_own():
    assert all(str(words).startswith("Fault ") for words in checks.SENTENCES.values())

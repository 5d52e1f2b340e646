"""Many studies with readings, written straight into the tables: for the review and its pages."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.utils import timezone

from app.models import Finding, Instance, Reading, Study, User

_numbers = itertools.count(1)


def read_studies(
    by: User,
    conclusion: str,
    probabilities: Iterable[float | None],
    *,
    model: str,
    age: float | None = 3.0,
    threshold: float = 0.5,
    at: datetime | None = None,
    blind: bool = True,
    answer: str = "",
) -> list[Study]:
    """One study for each probability (None: refused), read as ``conclusion`` ("": not read)."""
    at = at or timezone.now()
    scores = list(probabilities)
    numbers = [next(_numbers) for _ in scores]
    studies = Study.objects.bulk_create(
        Study(
            number=f"{at:%Y%m%d}-{number:06d}",
            created_at=at,
            age_years=age,
            is_read=bool(conclusion),
        )
        for number in numbers
    )
    films = Instance.objects.bulk_create(
        Instance(
            study=study,
            file_name=f"{number}.png",
            source="upload",
            sha256=f"{number:064x}",
            size_bytes=1,
            film=f"films/{number}",
            state="refused" if score is None else "answered",
        )
        for study, number, score in zip(studies, numbers, scores, strict=True)
    )
    given = {"model": model, "age": age, "threshold": threshold, "answer": answer}
    Finding.objects.bulk_create(
        _finding(film, score, **given) for film, score in zip(films, scores, strict=True)
    )
    if conclusion:
        Reading.objects.bulk_create(
            Reading(study=study, by=by, conclusion=conclusion, before_answer=blind)
            for study in studies
        )
    return studies


def found(film: Instance, probability: float | None, **given: Any) -> Finding:
    """A finding of a film; its answer is the forced one unless another is given."""
    finding = _finding(film, probability, **given)
    finding.save()
    return finding


def _finding(
    film: Instance,
    probability: float | None,
    *,
    model: str,
    age: float | None = 3.0,
    threshold: float = 0.5,
    answer: str = "",
    **more: Any,
) -> Finding:
    likely = probability is not None and probability >= threshold
    forced = "refused" if probability is None else "likely" if likely else "unlikely"
    return Finding(
        instance=film,
        answer=answer or forced,
        probability=probability,
        threshold=None if probability is None else threshold,
        age_years=age,
        model=model,
        milliseconds=40.0,
        **more,
    )

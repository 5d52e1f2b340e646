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
    made = []
    for probability in probabilities:
        number = next(_numbers)
        study = Study.objects.create(
            number=f"{at:%Y%m%d}-{number:06d}",
            created_at=at,
            age_years=age,
            is_read=bool(conclusion),
        )
        film = Instance.objects.create(
            study=study,
            file_name=f"{number}.png",
            source="upload",
            sha256=f"{number:064x}",
            size_bytes=1,
            film=f"films/{number}",
            state="refused" if probability is None else "answered",
        )
        found(film, probability, model=model, age=age, threshold=threshold, answer=answer)
        if conclusion:
            Reading.objects.create(study=study, by=by, conclusion=conclusion, before_answer=blind)
        made.append(study)
    return made


def found(
    film: Instance,
    probability: float | None,
    *,
    model: str,
    age: float | None = 3.0,
    threshold: float = 0.5,
    answer: str = "",
    **more: Any,
) -> Finding:
    """A finding of a film; its answer is the forced one unless another is given."""
    forced = (
        "refused" if probability is None else "likely" if probability >= threshold else "unlikely"
    )
    return Finding.objects.create(
        instance=film,
        answer=answer or forced,
        probability=probability,
        threshold=None if probability is None else threshold,
        age_years=age,
        model=model,
        milliseconds=40.0,
        **more,
    )

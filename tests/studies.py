"""Studies as the program itself makes them: taken in at the door, findings written down."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings

from app import films, intake
from app.cxr.analysis import Analysis
from app.cxr.regions import Region
from app.models import Instance, Study
from model_export.phantom import chest_film
from tests.films import encode

MODEL = "chest-test@1.2.3"
REGION = Region(x=40, y=90, width=50, height=60, zone="right lower", score=0.8)


def film_bytes(seed: int = 1, size: tuple[int, int] = (256, 224)) -> bytes:
    return encode(chest_film(seed, size), "PNG")


def stored(film: Instance) -> Path:
    """The file in which a film lies in the test's data directory."""
    return Path(settings.DATA_DIR / films.name_of(film.sha256))


def take_in(content: bytes | None = None, name: str = "film.png", **more: Any) -> Study:
    """A study with one film that waits."""
    file = io.BytesIO(film_bytes() if content is None else content)
    return intake.receive(file, name, "upload", intake.Belonging(**more)).instance.study


def answer(study: Study, **fields: Any) -> Study:
    """Write down an analysis of the study's film; what is not given is that of a likely answer."""
    heat = np.zeros((5, 5), np.float32)
    heat[3, 1] = 1.0
    found: dict[str, Any] = {
        "answer": "likely",
        "model": MODEL,
        "probability": 0.934,
        "threshold": 0.41,
        "regions": (REGION,),
        "peak": (60, 120),
        "milliseconds": 41.3,
        "width": 224,
        "height": 256,
        "frames": 1,
        "activation_map": heat,
    }
    study.instances.get().record(Analysis(**(found | fields)))
    return Study.objects.get(pk=study.pk)


def answered(name: str = "film.png", seed: int = 1, **fields: Any) -> Study:
    return answer(take_in(film_bytes(seed), name), **fields)


def turned_down(reason: str, verdict: str = "refused", seed: int = 1, **details: str) -> Study:
    """A study whose film was refused, or could not be read."""
    nothing = {"probability": None, "threshold": None, "regions": (), "peak": None}
    size = {} if verdict == "refused" else {"width": None, "height": None, "frames": None}
    return answered(
        seed=seed,
        answer=verdict,
        reason=reason,
        details=details,
        activation_map=None,
        **nothing,
        **size,
    )

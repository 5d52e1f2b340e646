"""Looking at examples of a subject, as many as are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.watch import Watch

#: Hypothesis remembers every example of a run: many short runs need less memory than a long one.
AT_ONCE = 250
#: The first of a run are the simplest, which every run has.
AT_LEAST = 25


@dataclass(frozen=True)
class Subject:
    """``look`` returns a word for what came of an example; whatever it raises is a finding."""

    examples: st.SearchStrategy[Any]
    look: Callable[[Any], str]
    written: Callable[[Any], bytes] = bytes
    #: Called before every few hundred examples.
    begin: Callable[[], None] = lambda: None
    #: Called at the end; figures for the report.
    end: Callable[[], dict[str, Any]] = dict


def explore(
    subject: Subject, watch: Watch, count: int, first_seed: int, shrink: bool = True
) -> None:
    """Look at so many different examples; raises what one of them raises, shrunken if wanted.

    The same seed gives the same examples. One that comes again is looked at, but not counted.
    """
    options = settings(
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
    )
    number = first_seed
    while (left := count - watch.examples) > 0:
        subject.begin()

        @seed(number)
        @settings(options, max_examples=min(max(left, AT_LEAST), AT_ONCE))
        @given(subject.examples)
        def look(example: object) -> None:
            written = subject.written(example)
            with watch.over(written):
                outcome = subject.look(example)
            watch.count(written, outcome)

        look()
        number += 1

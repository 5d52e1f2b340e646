"""Charts as lengths and places, drawn as SVG by ``chart.html``: no script, no plotting library.

Across everything is a share of the width ("12.50%"), down it is pixels, so that a chart fits a
phone and a laptop while its letters keep their size. Figures are text already, because a browser
knows no decimal comma.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

PLOT_TOP, PLOT_HEIGHT = 14, 150
#: The plot, and below it the names of what stands there.
HEIGHT = PLOT_TOP + PLOT_HEIGHT + 42


@dataclass(frozen=True)
class Line:
    """From one place to another."""

    x1: str
    y1: str
    x2: str
    y2: str


@dataclass(frozen=True)
class Mark:
    """A value, and the ends of its interval where it has one."""

    x: str
    y: str
    low: str
    high: str


@dataclass(frozen=True)
class Bar:
    """A share of films from ``x`` on."""

    x: str
    y: str
    width: str
    height: str


@dataclass(frozen=True)
class Series:
    """Marks of one kind, joined in their order. ``style`` 1 to 3: shape and dash, not colour alone.

    ``reference``: a line to hold the marks against, and ``reference_name`` what it is.
    """

    name: str
    style: int
    marks: list[Mark]
    lines: list[Line]
    reference: Line | None = None
    reference_name: str = ""


@dataclass(frozen=True)
class GridLine:
    """A line across at a share, with the share in words."""

    y: str
    label_y: str
    label: str


@dataclass(frozen=True)
class Tick:
    """A name under the plot; ``is_minor``: left out where there is little room."""

    x: str
    label: str
    below: str = ""
    is_minor: bool = False


@dataclass(frozen=True)
class Chart:
    """Everything that is drawn. ``code`` names it within its page."""

    code: str
    title: str
    description: str
    grid: list[GridLine]
    ticks: list[Tick]
    series: list[Series] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    bars_name: str = ""
    diagonal: Line | None = None
    diagonal_name: str = ""
    height: int = HEIGHT
    bottom: int = PLOT_TOP + PLOT_HEIGHT
    tick_y: int = PLOT_TOP + PLOT_HEIGHT + 17
    below_y: int = PLOT_TOP + PLOT_HEIGHT + 33

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to see on it."""
        return not self.bars and not any(one.marks for one in self.series)


@dataclass(frozen=True)
class Value:
    """A value at ``across`` (0..1) with its interval, all shares of 1."""

    across: float
    value: float
    low: float
    high: float


def across(share: float) -> str:
    """A share of the width."""
    return f"{100 * share:.2f}%"


def down(share: float, most: float = 1.0) -> str:
    """The height of a share in pixels from the top; ``most`` stands at the top."""
    return f"{PLOT_TOP + PLOT_HEIGHT * (1 - share / most):.1f}"


def middle(index: int, count: int) -> float:
    """The middle of one of ``count`` equal parts of the width, 0..1."""
    return (index + 0.5) / count


def series(
    name: str,
    style: int,
    values: Sequence[Value | None],
    reference: float | None = None,
    reference_name: str = "",
) -> Series:
    """Marks at the values; None is a gap that no line crosses."""
    marks = [_mark(value) for value in values if value]
    lines = [
        Line(across(a.across), down(a.value), across(b.across), down(b.value))
        for a, b in pairwise(values)
        if a and b
    ]
    level = None
    if reference is not None:
        level = Line("0%", down(reference), "100%", down(reference))
    return Series(name, style, marks, lines, level, reference_name)


def _mark(value: Value) -> Mark:
    ends = (down(value.low), down(value.high))
    return Mark(across(value.across), down(value.value), *ends)


def steps(name: str, style: int, shares: Sequence[float], most: float) -> Series:
    """A level over each of the equal parts of the width, marked in its middle."""
    count = len(shares)
    lines = [
        Line(across(i / count), down(share, most), across((i + 1) / count), down(share, most))
        for i, share in enumerate(shares)
    ]
    marks = [
        Mark(across(middle(i, count)), down(share, most), down(share, most), down(share, most))
        for i, share in enumerate(shares)
    ]
    return Series(name, style, marks, lines)


def bars(shares: Sequence[float], most: float) -> list[Bar]:
    """A bar for each of the equal parts of the width."""
    count = len(shares)
    return [
        Bar(
            x=across((i + 0.14) / count),
            y=down(share, most),
            width=across(0.72 / count),
            height=f"{PLOT_HEIGHT * share / most:.1f}",
        )
        for i, share in enumerate(shares)
    ]


def grid(labels: Sequence[tuple[float, str]], most: float = 1.0) -> list[GridLine]:
    """Lines across at shares, with their words."""
    return [
        GridLine(down(share, most), f"{float(down(share, most)) - 3:.1f}", label)
        for share, label in labels
    ]

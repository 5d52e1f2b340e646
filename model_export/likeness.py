"""Which films are the same picture, and so which patients are the same person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

#: Correlation of the edges of two films (``contributed.edges_of``) from which on they are the same
#: film. On 1304 children's films two of different patients reach 0.64; the same film saved anew as
#: JPEG, made smaller or darker keeps 0.98, with two corners blacked out 0.70 (19 of 20: 0.77). A
#: film that was cropped by 2 % may be missed (0.60).
SAME = 0.75
BLOCK = 512


def same_films(edges: np.ndarray, pixels: Sequence[str]) -> list[list[int]]:
    """Films in groups of one picture, as places; a film that is alone is a group of one.

    ``edges``: ``(films, values)`` of length 1; ``pixels``: equal for equal pictures.
    """
    groups = Groups(len(pixels))
    first: dict[str, int] = {}
    for index, digest in enumerate(pixels):
        groups.join(first.setdefault(digest, index), index)
    for one, other in _alike(edges, edges):
        groups.join(one, other)
    return groups.all()


def known_films(edges: np.ndarray, known: np.ndarray) -> set[int]:
    """Places of films that are among the known ones; ``known`` as ``edges``."""
    return {one for one, _ in _alike(edges, known)}


def _alike(these: np.ndarray, those: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of places whose correlation reaches SAME, in blocks that fit into memory."""
    for start in range(0, len(these), BLOCK):
        likeness = these[start : start + BLOCK] @ those.T
        for one, other in np.argwhere(likeness >= SAME):
            yield start + int(one), int(other)


class Groups:
    """Things that are joined in pairs, in groups (union-find)."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def join(self, one: int, other: int) -> None:
        """Say that two are of one group."""
        top, bottom = sorted((self.top(one), self.top(other)))
        self._above[bottom] = top

    def top(self, one: int) -> int:
        """The first of the group that a thing is in."""
        while self._above[one] != one:
            self._above[one] = self._above[self._above[one]]
            one = self._above[one]
        return one

    def all(self) -> list[list[int]]:
        """The groups, each in order, by their first."""
        found: dict[int, list[int]] = {}
        for one in range(len(self._above)):
            found.setdefault(self.top(one), []).append(one)
        return list(found.values())


def joined_patients(groups: Iterable[Iterable[str]], patients: Iterable[str]) -> dict[str, str]:
    """For every patient the name of the person: the first, by name, of all that share a film.

    ``groups``: the patients of every picture.
    """
    names = sorted(set(patients))
    place = {name: index for index, name in enumerate(names)}
    people = Groups(len(names))
    for group in groups:
        first, *others = group
        for other in others:
            people.join(place[first], place[other])
    return {name: names[people.top(index)] for name, index in place.items()}

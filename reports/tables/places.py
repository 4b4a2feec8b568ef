"""The columns of a published table, and which of our tasks stands in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import published
from reports.tables.model import Column
from reports.tables.own import Own

# The drawn scenes that ask about the same thing as a benchmark of the paper: other questions, other pictures.
ANALOGUES = {
    "mmvp": "scenes_pairs",
    "vstar_attr": "scenes_attribute",
    "rel_depth": "scenes_relative_depth",
    "iq_test": "scenes_iq",
    "rel_reflectance": "scenes_relative_reflectance",
    "spatial_relation": "scenes_spatial_relation",
}
DRAWN = "drawn scenes stand where their analogue does: other questions, so no difference from the published figure"


@dataclass(frozen=True)
class Place:
    """A column: the published one, our task in it, and whether that is the very benchmark."""

    column: published.Column
    task: str
    same: bool

    @property
    def key(self) -> str:
        return self.column.key if self.same else f"{self.column.key} (drawn scenes)"


def places_of(printed: published.Table, owns: Sequence[Own]) -> list[Place]:
    """The paper's columns: as they are, and (or, where we have those alone) with the drawn scenes."""
    measured = {task for own in owns for task in own.figures}
    places = []
    for column in printed.columns:
        drawn = ANALOGUES.get(column.key, "") in measured
        if column.task in measured or not drawn:
            places.append(Place(column, column.task or "", True))
        if drawn:
            places.append(Place(column, ANALOGUES[column.key], False))
    return places if any(place.task in measured for place in places) else []


def column_of(place: Place, owns: Sequence[Own]) -> Column:
    notes: tuple[str, ...] = (place.column.note,) if place.column.note else ()
    total = next(iter(place.column.n.values()), None)
    asked = {own.figures[place.task].estimate["n"] for own in owns if place.task in own.figures}
    if place.same and total and asked and asked != {total}:
        notes += (f"ours: {' and '.join(f'{n:,}' for n in sorted(asked))} of the {total:,} published questions",)
    title = place.column.title if place.same else f"{place.column.title} (drawn scenes)"
    return Column(place.key, title, notes=notes if place.same else (*notes, DRAWN))

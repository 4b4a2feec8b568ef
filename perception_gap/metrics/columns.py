"""What the columns of a run are called, and what each of them measures: all derived from `table.TABLE`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from perception_gap.metrics.measure import Given, Measure, OfMap, OfPair, Scope
from perception_gap.metrics.table import TABLE

if TYPE_CHECKING:
    import numpy as np

    from perception_gap.metrics.region import Region

WITHOUT_SINKS = "_without_sinks"
# The mean of all latent rows, and the last of them: what stands before a measure's name.
LATENT, LAST_LATENT = "latent_", "last_latent_"

Kind = TypeVar("Kind", bound=Measure)


def measures(scope: Scope, kind: type[Kind]) -> list[Kind]:
    """The measures of a scope that are of this kind (`Measure`: all of them), in the order of the table."""
    return [measure for measure in TABLE.values() if scope in measure.scopes and isinstance(measure, kind)]


def columns(scope: Scope) -> list[str]:
    """The columns of a scope, each measure's floor behind it."""
    return [name for measure in measures(scope, Measure) for name in (measure.name, measure.floor) if name]


def sample_columns() -> list[str]:
    """All that samples.parquet measures: whole maps, maps without sinks, maps of latent tokens."""
    latent = [f"{rows}{name}" for rows in (LATENT, LAST_LATENT) for name in columns("latent")]
    return [*columns("sample"), *without_sinks(), *latent]


def without_sinks() -> list[str]:
    """The columns of maps without their sinks, which have no floors."""
    return [f"{measure.name}{WITHOUT_SINKS}" for measure in measures("without sinks", Measure)]


def word_columns() -> list[str]:
    """All that words.parquet measures: of maps, their floors, then what is no map's."""
    of_maps = [measure for measure in measures("word", Measure) if not isinstance(measure, Given)]
    given = [name for measure in measures("word", Given) for name in (measure.name, measure.floor) if name]
    floors = [measure.floor for measure in of_maps if measure.floor]
    return [*(measure.name for measure in of_maps), *floors, *given]


def measure_of(column: str) -> Measure | None:
    """What a column measures, of whatever maps; None for one that holds no measure."""
    name = column.removesuffix(WITHOUT_SINKS).removeprefix(LAST_LATENT).removeprefix(LATENT)
    return next((measure for measure in TABLE.values() if name in (measure.name, measure.floor)), None)


def range_of(column: str) -> tuple[float, float]:
    """Least and largest value of a column's measure; all numbers for a column that holds none."""
    measure = measure_of(column)
    return (-math.inf, math.inf) if measure is None else measure.range


def of_map(scope: Scope, attention: np.ndarray, region: Region) -> dict[str, float]:
    """The scope's measures of one map [N], by name."""
    return {measure.name: measure.function(attention, region) for measure in measures(scope, OfMap)}


def undefined(scope: Scope) -> dict[str, float]:
    """The scope's measures of two maps, by name, where there are no two maps."""
    return dict.fromkeys((measure.name for measure in measures(scope, OfPair)), math.nan)


def floors(scope: Scope, values: Mapping[str, float]) -> dict[str, float]:
    """Values of two maps, one of them another sample's, under the columns of their floors."""
    return {measure.floor: values[measure.name] for measure in measures(scope, OfPair) if measure.floor}

"""The table of measures: what follows from it, that functions keep their ranges, and that documents agree with it."""

import dataclasses
import math

import numpy as np
import pytest

from perception_gap import metrics
from perception_gap.geometry import TokenGeometry
from perception_gap.metrics.columns import (
    columns,
    floors,
    measure_of,
    measures,
    of_map,
    range_of,
    sample_columns,
    undefined,
    word_columns,
)
from perception_gap.metrics.measure import Measure, OfMap, OfPair
from perception_gap.metrics.region import Region
from perception_gap.metrics.table import TABLE, declared
from scripts.measures import DOCS, lines, with_list

OF_MAPS = [
    "focus_score",
    "focus_lift",
    "pointing_game",
    "entropy",
    "relative_entropy",
    "salient_regions",
    "salient_fraction",
]
OF_PAIRS = ["kl", "js", "top_k_overlap", "cc", "similarity", "emd"]


def test_columns_of_files_have_the_order_that_runs_have():
    of_samples = [
        "focus_score",
        "focus_chance",
        "focus_lift",
        "pointing_game",
        "text_image_mass",
        "entropy",
        "relative_entropy",
        "salient_regions",
        "salient_fraction",
        "kl",
        "kl_floor",
        "js",
        "js_floor",
        "top_k_overlap",
        "top_k_floor",
        "cc",
        "cc_floor",
        "similarity",
        "similarity_floor",
        "emd",
        "emd_floor",
        "n_sinks",
        "sink_share",
    ]
    latent = [f"{rows}latent_{name}" for rows in ("", "last_") for name in ("focus_score", "entropy", "kl", "kl_floor")]
    assert sample_columns() == [*of_samples, *(f"{name}_without_sinks" for name in (*OF_MAPS, *OF_PAIRS)), *latent]
    assert word_columns() == [
        "focus_score",
        "entropy",
        "kl",
        "js",
        "top_k_overlap",
        "cc",
        "similarity",
        "kl_floor",
        "js_floor",
        "top_k_floor",
        "cc_floor",
        "similarity_floor",
        "cosine_distance",
        "cosine_floor",
    ]
    assert columns("bench") == OF_MAPS[:-1]
    assert [m.name for m in measures("layer", Measure)] == ["mass", "focus_score", "kl", "js"]


def test_no_column_is_told_twice():
    for names in (sample_columns(), word_columns(), columns("pair")):
        assert len(set(names)) == len(names)
    places = [measure.place for measure in TABLE.values()]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize(
    ("column", "ends"),
    [
        ("focus_score", (0, 1)),
        ("last_latent_focus_score", (0, 1)),
        ("latent_kl_floor", (0, math.inf)),
        ("js_without_sinks", (0, math.log(2))),
        ("top_k_floor", (0, 1)),
        ("emd", (0, math.sqrt(2))),
        ("cc_floor", (-1, 1)),
        ("cosine_floor", (0, 2)),
        ("last_latent_target_kl", (0, math.inf)),
        ("kl_reverse", (0, math.inf)),
        ("seconds", (-math.inf, math.inf)),
    ],
)
def test_every_column_has_the_range_of_its_measure(column, ends):
    assert range_of(column) == ends
    assert (measure_of(column) is None) == (column == "seconds")


def maps(seed: int, cells: int = 36) -> np.ndarray:
    return np.random.default_rng(seed).gamma(0.3, 1, cells)


@pytest.mark.parametrize("measure", [m for m in TABLE.values() if isinstance(m, OfPair)], ids=lambda m: m.name)
def test_two_maps_are_within_range_and_nearest_where_they_are_equal(measure):
    shape = (6, 6) if measure.raster else (36,)
    low, high = measure.range
    equal = measure.function(maps(0).reshape(shape), maps(0).reshape(shape))
    for seed in range(1, 20):
        apart = measure.function(maps(0).reshape(shape), maps(seed).reshape(shape))
        assert low <= apart <= high
        assert (equal < apart) if measure.nearer == "lower" else (equal > apart)
    assert math.isnan(measure.function(np.zeros(shape), maps(1).reshape(shape)))


@pytest.mark.parametrize("measure", [m for m in TABLE.values() if isinstance(m, OfMap)], ids=lambda m: m.name)
def test_one_map_is_within_range(measure):
    region = Region(TokenGeometry.grid(6, 6), [[0.1, 0.2, 0.7, 0.6]])
    scale = 0.9 / maps(0).sum()  # a raw map's sum is at most 1
    assert measure.range[0] <= measure.function(scale * maps(0), region) <= measure.range[1]


def test_measures_of_one_map_are_the_public_functions():
    geometry, box, attention = TokenGeometry.grid(6, 6), [[0.1, 0.2, 0.7, 0.6]], maps(3)
    values = of_map("sample", attention, Region(geometry, box))
    assert values == {
        "focus_score": metrics.focus_score(attention, geometry, box),
        "focus_chance": metrics.focus_chance(geometry, box),
        "focus_lift": metrics.focus_lift(attention, geometry, box),
        "pointing_game": metrics.pointing_game(attention, geometry, box),
        "entropy": metrics.entropy(attention),
        "relative_entropy": metrics.relative_entropy(attention),
        "salient_regions": metrics.salient_region_count(attention),
        "salient_fraction": metrics.salient_region_fraction(attention),
    }


def test_floors_stand_under_their_own_columns_and_missing_maps_are_nan():
    values = undefined("pair") | {"kl": 1.0, "top_k_overlap": 0.5}
    assert set(values) == {*OF_PAIRS, "kl_reverse"}
    assert floors("pair", values)["kl_floor"] == 1
    assert floors("pair", values)["top_k_floor"] == 0.5
    assert len(floors("pair", values)) == len(OF_PAIRS)  # kl_reverse has none


def test_a_declared_measure_is_there_for_as_long_as_its_context():
    extra = dataclasses.replace(TABLE["js"], name="js_again", floor="js_again_floor", path="")
    with declared(extra):
        assert columns("pair")[-2:] == ["js_again", "js_again_floor"]
        assert range_of("js_again_floor") == (0, math.log(2))
    assert "js_again" not in TABLE


@pytest.mark.parametrize(("name", "floor"), [("kl", "x_floor"), ("x", "kl_floor"), ("top_k_floor", "")])
def test_a_column_is_declared_once(name, floor):
    before = dict(TABLE)
    twice = dataclasses.replace(TABLE["js"], name=name, floor=floor)
    with pytest.raises(ValueError, match="declared already"), declared(twice):
        pass
    assert before == TABLE
    assert list(before) == list(TABLE)


def test_what_needs_a_raster_cannot_be_of_words():
    with pytest.raises(ValueError, match="'emd' of word: a raster is had of whole samples only"):
        dataclasses.replace(TABLE["emd"], scopes=("word",))


def test_the_documents_list_is_the_table():
    text = DOCS.read_text(encoding="utf-8")
    assert lines() in text, "run python -m scripts.measures"
    assert with_list(text) == text
    assert all(f"| `{measure.name}` | {measure.unit} |" in text for measure in TABLE.values())

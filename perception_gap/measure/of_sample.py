"""What is measured of one sample's maps, from its row and the arrays of its part; undefined is NaN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from perception_gap.metrics import columns
from perception_gap.metrics.region import Region
from perception_gap.runs.rows import geometry_of
from perception_gap.sample import Sample

if TYPE_CHECKING:
    from perception_gap.measure.teacher import Comparison

# Arrays of a part that are no raw maps, to be normalised.
NO_MAPS = ("sinks", "heads", "layers")


def normalised(raw: np.ndarray) -> np.ndarray:
    """Each row divided by its sum; a row without mass stays NaN."""
    total = raw.sum(-1, keepdims=True)
    scaled: np.ndarray = np.divide(raw, total, out=np.full_like(raw, np.nan), where=total > 0)
    return scaled


def unit_boxes(row: Mapping[Any, Any]) -> np.ndarray:
    """The row's boxes as [M, 4] fractions of their images."""
    boxes = np.asarray(row["boxes"], dtype=np.float64).reshape(-1, 4)
    sample = Sample("", (), "", "", tuple(map(tuple, boxes)), tuple(row["box_images"]))
    return sample.unit_boxes(list(zip(row["heights"], row["widths"], strict=True)))


def region_of(row: dict[str, Any]) -> Region:
    """The row's boxes over its image tokens."""
    return Region(geometry_of(row), unit_boxes(row), row["box_images"])


def of_maps(row: dict[str, Any], arrays: dict[str, np.ndarray], comparison: Comparison | None) -> dict[str, float]:
    """All of `columns.sample_columns` that a sample's arrays allow; comparison: with the teacher, where it has one."""
    region = region_of(row)
    values = columns.of_map("sample", arrays["own"], region)
    if comparison is not None:
        values |= comparison.sample(row["sample_id"], arrays["shared"])
    if "sinks" in arrays:
        values |= sink_values(row, region, arrays, comparison)
    if "latents" in arrays:
        values |= latent_values(row, region, arrays["latents"], comparison)
    return values


def latent_values(
    row: dict[str, Any], region: Region, rows: np.ndarray, comparison: Comparison | None
) -> dict[str, float]:
    """The measures of latent rows [K, N]: of their mean and of the last, against the teacher's map of the sample."""
    values: dict[str, float] = {}
    for prefix, attention in ((columns.LATENT, rows.mean(0)), (columns.LAST_LATENT, rows[-1])):
        of_row = columns.of_map("latent", attention, region)
        if comparison is not None:
            of_row |= comparison.sample(row["sample_id"], attention, "latent")
        values |= {f"{prefix}{name}": value for name, value in of_row.items()}
    return values


def sink_values(
    row: dict[str, Any], region: Region, arrays: dict[str, np.ndarray], comparison: Comparison | None
) -> dict[str, float]:
    """n_sinks, sink_share (of the own map, 0..1), and the measures of maps without their sinks.

    Without sinks: their weights are 0 and the rest is scaled to sum 1; N stays what it was. NaN where nothing is left.
    """
    sinks, own = arrays["sinks"].astype(bool), normalised(arrays["own"].astype(np.float64))
    kept = columns.of_map("without sinks", np.where(sinks, 0, own), region)
    if comparison is not None:
        kept |= comparison.without_sinks(row["sample_id"], np.where(sinks, 0, arrays["shared"]))
    values = {"n_sinks": int(sinks.sum()), "sink_share": float((own * sinks).sum())}
    return values | {f"{name}{columns.WITHOUT_SINKS}": value for name, value in kept.items()}


def of_words(
    row: dict[str, Any],
    arrays: dict[str, np.ndarray],
    comparison: Comparison | None,
    cosine: dict[str, np.ndarray] | None,
) -> list[dict[str, Any]]:
    """One row a word of the own answer, and of the shared text where there is one.

    cosine: `word_states.cosine_by_word` of the sample, [words] each.
    """
    region, rows = region_of(row), []
    for text in ("own", "shared"):
        if f"{text}_words" not in arrays:
            continue
        maps = arrays[f"{text}_words"]
        of_pairs = comparison.words(row["sample_id"], maps) if comparison and text == "shared" else [{}] * len(maps)
        states = cosine if cosine and text == "shared" else {}
        for w, (word, category) in enumerate(zip(row[f"{text}_words"], row[f"{text}_categories"], strict=True)):
            rows.append(
                {"sample_id": row["sample_id"], "text": text, "word_index": w, "word": word, "category": category}
                | columns.of_map("word", maps[w], region)
                | of_pairs[w]
                | {name: float(values[w]) for name, values in states.items()}
            )
    return rows

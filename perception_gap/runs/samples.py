"""Samples on their way into a model: what is known of each before, its pictures opened and its boxes checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from perception_gap.data.images import Contents, check_boxes, open_pictures
from perception_gap.errors import GapcheckError
from perception_gap.runs.engine import failure
from perception_gap.runs.key import stored_paths
from perception_gap.sample import Sample


@dataclass(frozen=True)
class Work:
    """One sample to measure. images: hash of its pictures. key: hash of everything that decides its row.

    text: the text that both models are read on, None where there is none.
    """

    sample: Sample
    images: str
    key: str
    text: str | None = None


@dataclass(frozen=True)
class Opened:
    """A sample with its pictures; `work.sample` has its boxes in pixels."""

    work: Work
    pictures: list[Image.Image]

    @property
    def key(self) -> str:
        return self.work.key

    @property
    def sample(self) -> Sample:
        return self.work.sample


def sample_row(out: Path, work: Work) -> dict[str, Any]:
    """What is known of a sample before any model sees it: the columns that all runs of samples have."""
    sample = work.sample
    return {
        "key": work.key,
        "sample_id": sample.id,
        "task": sample.task,
        "pair": sample.pair,
        "images": stored_paths(out, sample),
        "image_hash": work.images,
        "heights": [],
        "widths": [],
        "question": sample.question,
        "reference": sample.answer,
        "options": list(sample.options),
        **sample.box_fields(),
    }


def open_samples(
    out: Path,
    items: Sequence[Work],
    rekeyed: Callable[[Sample, str], Work],
    also: Callable[[Sample], Any],
) -> tuple[dict[str, dict[str, Any]], list[Opened]]:
    """(a row for each sample by key, in order; the samples that can be asked); what cannot is failed, with its reason.

    A picture that is another one by now is measured as it is now: rekeyed(sample, hash) is the work on that. also: what
    else may refuse a sample, by GapcheckError.
    """
    rows: dict[str, dict[str, Any]] = {}
    opened = []
    for listed in items:
        contents = Contents.of(listed.sample.images)
        work = listed if contents.hash == listed.images else rekeyed(listed.sample, contents.hash)
        row = rows[work.key] = sample_row(out, work)
        try:
            pictures = open_pictures(work.sample, contents)
            sizes = [(picture.height, picture.width) for picture in pictures]
            sample = work.sample.in_pixels(sizes)
            row |= {"heights": [h for h, _ in sizes], "widths": [w for _, w in sizes]} | sample.box_fields()
            check_boxes(sample, sizes)
            also(sample)
        except GapcheckError as error:
            row |= failed(str(error))
        except MemoryError as error:
            row |= failed(failure(error))
        else:
            opened.append(Opened(replace(work, sample=sample), pictures))
    return rows, opened


def failed(reason: str) -> dict[str, Any]:
    """The fields of a failed row."""
    return {"status": "failed", "error": reason}

"""The engine of every command that reads models: items through a model, batch by batch, into the parts of a run.

What is stored is not asked again, whatever fails is a row with its reason, and a batch that does not fit in memory is
tried sample by sample. `analyze`, `compare`, `trace` (its text model and the authors' files too) and `bench` say which
items there are, what decides each (its key) and how a batch of them becomes rows and arrays.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from perception_gap.errors import DamagedError, GapcheckError, UsageError
from perception_gap.models.placement import release_memory
from perception_gap.runs.parts import Parts, claim_run
from perception_gap.runs.schema import tables
from perception_gap.storage.locks import locked

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Arrays = dict[str, np.ndarray]
# A batch → a row for each item, None for one that is to be asked again; and the arrays, named "KEY/kind".
Process = Callable[[Sequence[Item]], tuple[Sequence[dict[str, Any] | None], Arrays]]


@contextmanager
def writing(out: Path, described_in: str = "run.json") -> Iterator[None]:
    """Claims and locks the folder of a run. UsageError and GapcheckError as `claim_run` and `locked` have them."""
    claim_run(out, described_in)
    with locked(out):
        yield


def open_parts(
    out: Path,
    *,
    fresh: bool = False,
    schema: pa.Schema = tables.ROW,
    described_in: str = "run.json",
    shared: bool = False,
) -> Parts:
    """The parts of a run, mended: damaged ones are named on stderr and measured again.

    shared: whether several processes (torchrun) write into the folder: then the first mends, before the others open it.
    """
    parts = Parts(out, fresh=fresh, schema=schema, described_in=described_in)
    mends = not shared or os.environ.get("RANK", "0") == "0"
    if mends and (line := parts.mend()):
        tqdm.write(line, file=sys.stderr)
    return parts


@dataclass(frozen=True)
class Shard:
    """The share of a run that one process does: every `count`-th item from `index` on."""

    index: int = 0
    count: int = 1

    def of(self, n: int) -> range:
        return range(self.index, n, self.count)


@dataclass(frozen=True)
class Engine(Generic[Item]):
    """key: the key of an item, None for one that cannot be asked. label: of the progress bar, None: say nothing.

    on_rekey: told the new key of every item that was measured under another key than it was listed with (its picture
    changed meanwhile), by the old one.
    """

    parts: Parts
    key: Callable[[Item], str | None]
    process: Process[Item]
    batch_size: int
    label: str | None = None
    unit: str = "sample"
    on_rekey: Callable[[dict[str, str]], None] | None = None

    def run(self, items: Iterable[Item], total: int | None = None) -> list[str | None]:
        """The keys of all items, in their order, None for one without a row. Batches are the same after a kill.

        items: read batch by batch, so that a stream of them never lies in memory. total: how many there are, where
        they do not say.
        """
        if isinstance(items, Sequence):
            done = self.parts.done()
            stored = sum(self.key(item) in done for item in items)
            total = len(items) - stored
            if stored and self.label:
                tqdm.write(f"{self.label}: {stored} of {len(items)} samples are there already")
        keys: list[str | None] = []
        counts_all = not isinstance(items, Sequence)
        with tqdm(total=total, unit=self.unit, desc=self.label, disable=self.label is None) as bar:
            for batch in _batches(items, self.batch_size):
                n_asked, batch_keys = self.batch(batch)
                keys += batch_keys
                bar.update(len(batch) if counts_all else n_asked)
        return keys

    def batch(self, items: Sequence[Item]) -> tuple[int, list[str | None]]:
        """One batch, as an atomic part: (how many were asked, the keys of all as `run` gives them)."""
        done = self.parts.done()
        keys = [self.key(item) for item in items]
        todo = {key: item for key, item in zip(keys, items, strict=True) if key is not None and key not in done}
        if not todo:
            return 0, keys
        rows, arrays = self.process(list(todo.values()))
        kept = [row for row in rows if row is not None]
        if kept:
            self.parts.write(kept, arrays, _part_name(kept[0]["key"]))
        now = {key: None if row is None else row["key"] for key, row in zip(todo, rows, strict=True)}
        changed = {key: new for key, new in now.items() if new is not None and new != key}
        if changed and self.on_rekey is not None:
            self.on_rekey(changed)
        return len(todo), [now.get(key, key) if key is not None else None for key in keys]


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _part_name(key: str) -> str:
    """Two processes may meet the same question first: their parts must not bear the same name."""
    return key if int(os.environ.get("WORLD_SIZE", "1")) == 1 else f"{key}-{os.environ.get('RANK', '0')}"


def in_memory(work: Callable[[list[Item]], Outcome], items: list[Item]) -> Iterator[tuple[list[Item], Outcome | str]]:
    """(items, `work` of them or the reason of failure): the whole batch, or one by one if that fails."""
    if not items:
        return
    try:
        yield items, work(items)
        return
    except (GapcheckError, MemoryError, RuntimeError) as error:
        reason = failure(error)
    if len(items) == 1:
        yield items, reason
        return
    release_memory()
    for item in items:
        yield from in_memory(work, [item])


def failure(error: Exception) -> str:
    """The reason of a failed sample; re-raises what is neither the sample's fault nor a lack of memory."""
    if isinstance(error, UsageError | DamagedError):
        raise error
    if isinstance(error, GapcheckError):
        return str(error)
    text = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
        return "out of memory: lower --max-pixels, or use a device with more memory"
    raise error


def with_model(open_model: Callable[[], Item], work: Callable[[Item], Outcome]) -> Outcome:
    """`work` on a model that is opened here and let go at the end, so that two are never in memory."""
    try:
        return work(open_model())
    finally:
        release_memory()

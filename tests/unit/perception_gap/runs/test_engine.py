"""The engine: what is stored is not asked again, what fails has a reason, a batch that is too large is tried singly."""

import numpy as np
import pyarrow as pa
import pytest

from perception_gap.errors import GapcheckError, UsageError
from perception_gap.runs.engine import Engine, Shard, failure, in_memory, open_parts, writing
from perception_gap.storage.folders import LOCK

ITEMS = ["a", "b", "c", "d", "e"]


class Asked:
    """Remembers the batches that it was asked, and gives a row and an array for each item, None for `silent` ones."""

    def __init__(self, silent: str = "", renamed: dict[str, str] | None = None) -> None:
        self.batches: list[list[str]] = []
        self.silent, self.renamed = silent, renamed or {}

    def __call__(self, items):
        self.batches.append(list(items))
        keys = [self.renamed.get(item, item) for item in items]
        rows = [None if i in self.silent else {"key": k, "sample_id": i} for k, i in zip(keys, items, strict=True)]
        return rows, {f"{k}/own": np.ones(2) for k, i in zip(keys, items, strict=True) if i not in self.silent}


SCHEMA = pa.schema({"key": pa.string(), "sample_id": pa.string()})


def parts(folder):
    return open_parts(folder, schema=SCHEMA)


def engine(folder, asked, size=2, **options):
    return Engine(parts(folder), lambda item: None if item == "-" else item, asked, size, **options)


def test_a_killed_run_goes_on_where_it_was_in_the_same_batches(tmp_path):
    class Killed(Exception):
        pass

    class Kills(Asked):
        def __call__(self, items):
            if len(self.batches) == 2:
                raise Killed
            return super().__call__(items)

    with pytest.raises(Killed):
        engine(tmp_path, Kills()).run(ITEMS)
    asked = Asked()
    assert engine(tmp_path, asked).run(ITEMS) == ITEMS
    assert asked.batches == [["e"]]
    assert [row["key"] for row, _ in parts(tmp_path).read(ITEMS)] == ITEMS


def test_a_batch_asks_only_for_what_it_lacks_and_for_one_key_once(tmp_path):
    engine(tmp_path, Asked()).run(["b"])
    asked = Asked()
    assert engine(tmp_path, asked, 4).run(["a", "b", "a", "-", "c"]) == ["a", "b", "a", None, "c"]
    assert asked.batches == [["a"], ["c"]]


def test_an_item_without_a_row_is_asked_again_by_the_next_run(tmp_path):
    assert engine(tmp_path, Asked(silent="ab")).run(["a", "b", "c"]) == [None, None, "c"]
    asked = Asked()
    assert engine(tmp_path, asked).run(["a", "b", "c"]) == ["a", "b", "c"]
    assert asked.batches == [["a", "b"]]


def test_an_item_that_was_measured_under_another_key_says_so(tmp_path):
    told: list[dict[str, str]] = []
    asked = Asked(renamed={"b": "B"})
    assert engine(tmp_path, asked, on_rekey=told.append).run(["a", "b", "c"]) == ["a", "B", "c"]
    assert told == [{"b": "B"}]
    assert set(parts(tmp_path).done()) == {"a", "B", "c"}


def test_a_stream_is_read_batch_by_batch(tmp_path):
    read: list[str] = []
    behind: list[int] = []

    class Watches(Asked):
        def __call__(self, items):
            behind.append(len(read))
            return super().__call__(items)

    def stream():
        for item in ITEMS:
            read.append(item)
            yield item

    assert engine(tmp_path, Watches()).run(stream()) == ITEMS
    assert behind == [2, 4, 5]


def test_two_processes_that_begin_with_one_item_write_two_parts(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    engines = [engine(tmp_path, Asked()), engine(tmp_path, Asked())]
    assert [each.parts.done() for each in engines] == [{}, {}]
    for rank, (each, other) in enumerate(zip(engines, "bc", strict=True)):
        monkeypatch.setenv("RANK", str(rank))
        each.run(["a", other])
    assert set(parts(tmp_path).done()) == {"a", "b", "c"}


@pytest.mark.parametrize(("n", "count"), [(0, 3), (2, 3), (10, 3), (9, 3), (5, 1)])
def test_shards_are_disjoint_and_cover_everything(n, count):
    shares = [list(Shard(index, count).of(n)) for index in range(count)]
    assert sorted(i for share in shares for i in share) == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    "error", [GapcheckError("no grid"), MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")]
)
def test_only_the_sample_that_fails_is_lost(error):
    def work(items):
        if "c" in items:
            raise error
        return [item.upper() for item in items]

    outcomes = list(in_memory(work, ITEMS))
    assert [items for items, _ in outcomes] == [[item] for item in ITEMS]
    assert [outcome for items, outcome in outcomes if items != ["c"]] == [["A"], ["B"], ["D"], ["E"]]
    assert [outcome for items, outcome in outcomes if items == ["c"]] == [failure(error)]


def test_a_batch_that_works_is_done_at_once_and_no_batch_is_none():
    assert list(in_memory(lambda items: len(items), ITEMS)) == [(ITEMS, 5)]
    assert list(in_memory(lambda items: len(items), [])) == []


@pytest.mark.parametrize("error", [UsageError("--layers 99"), RuntimeError("mat1 and mat2 shapes"), KeyError("x")])
def test_what_is_no_fault_of_a_sample_stops_the_run(error):
    def work(items):
        raise error

    with pytest.raises(type(error)):
        list(in_memory(work, ITEMS))


def test_the_reason_of_a_failure_names_the_remedy():
    assert failure(GapcheckError("no grid")) == "no grid"
    assert failure(MemoryError()) == "out of memory: lower --max-pixels, or use a device with more memory"


def test_a_folder_is_claimed_and_held_while_it_is_written(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(UsageError, match=r"holds other files"), writing(tmp_path / "mine"):
        pass
    with writing(tmp_path / "run"), writing(tmp_path / "run"):  # one process may hold it twice
        assert (tmp_path / "run" / LOCK).is_file()
    assert not (tmp_path / "run" / LOCK).exists()

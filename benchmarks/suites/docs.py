"""Documents of a task, pictures still encoded until one is asked for: then each is decoded strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset, Image, List

from benchmarks.suites.sources import table_of
from perception_gap.data.images import decode_image, open_image
from perception_gap.errors import GapcheckError, UsageError, one_line

_KEPT = 16  # decoded documents


class Docs:
    """A task's documents with strictly decoded pictures; `table` has the same rows with the pictures encoded.

    A document whose picture is missing, truncated or no image raises GapcheckError when it is asked for.

    keep: decoded documents that are remembered. A batch is asked for twice, for its prompts, whose pictures are hashed,
    and by the model: as long as it is no larger, the second time they are the same ones, whatever became of the files.
    """

    def __init__(self, table: Dataset) -> None:
        self.table = table
        self._pictures = [name for name, kind in table.features.items() if _holds_pictures(kind)]
        self.text_alone = False  # whether a row without any picture is a question of text alone, not a damaged one
        self.keep = _KEPT
        self._last: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index not in self._last:
            if len(self._last) >= self.keep:
                self.forget()
            self._last[index] = self._decoded(index)
        return self._last[index]

    def forget(self) -> None:
        """Let go of decoded pictures; those of an 8K benchmark take 100 MB each."""
        self._last.clear()

    def _decoded(self, index: int) -> dict[str, Any]:
        doc = dict(self.table[index])
        for name in self._pictures:
            value = doc[name]
            doc[name] = (
                [_picture(v, f"{name} {i}") for i, v in enumerate(value)]
                if isinstance(value, list)
                else (None if value is None else _picture(value, name))
            )
        if (
            self._pictures
            and not self.text_alone
            and all(doc[name] is None or doc[name] == [] for name in self._pictures)
        ):
            raise GapcheckError(f"{', '.join(self._pictures)}: null; the row has no picture")
        return doc


def _picture(value: Any, name: str) -> Any:
    if value is None or (value.get("bytes") is None and value.get("path") is None):
        raise GapcheckError(f"{name}: null; the row lacks a picture")
    if value.get("bytes") is not None:
        return decode_image(value["bytes"], name)
    path = Path(value["path"])
    if not path.exists():
        raise GapcheckError(f"image {path}: no such file; fetch the data again")
    return open_image(path)


def _holds_pictures(kind: Any) -> bool:
    return isinstance(kind, Image) or (isinstance(kind, List) and isinstance(kind.feature, Image))


def open_docs(task: str, config: dict[str, Any], data_root: Path | None) -> Docs:
    """The documents that a task's definition names, from `data_root` or the hub.

    UsageError with the command that fetches them when they are not there.
    """
    table = undecoded(table_of(task, config, data_root))
    category = (config.get("dataset_kwargs") or {}).get("category")
    if category is not None:  # a keyword of V*'s definitions that no Parquet file takes
        if "category" not in table.column_names:
            raise UsageError(f"task {task}: its data have no column category, which picks its half; fetch them again")
        table = table.select([i for i, value in enumerate(table["category"]) if value == category])
    if config.get("process_docs"):
        try:
            table = undecoded(config["process_docs"](table))
        # The definitions are other people's code, and this one sees all documents at once.
        except Exception as error:
            raise UsageError(
                f"task {task}: lmms-eval's process_docs raised {type(error).__name__}: {one_line(error)}"
            ) from error
    if not len(table):
        raise UsageError(f"task {task}: its data have no rows; expected at least one")
    return Docs(table)


def undecoded(table: Dataset) -> Dataset:
    """The same table, pictures as {"bytes", "path"}, as in a Parquet file that `datasets` did not write."""
    for name, kind in table.features.items():
        if isinstance(kind, Image) or (isinstance(kind, dict) and set(kind) == {"bytes", "path"}):
            table = table.cast_column(name, Image(decode=False))
        elif _holds_pictures(kind):
            table = table.cast_column(name, List(Image(decode=False)))
    return table

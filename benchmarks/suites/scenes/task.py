"""What the definitions in this folder refer to: documents of drawn scenes, their prompt, and the strict verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features, Image, List, Value
from lmms_eval.api.task import ConfigurableMessagesTask

from perception_gap.data.jsonl import read_jsonl
from perception_gap.data.scenes_files import write_scenes
from perception_gap.sample import prompt_text
from perception_gap.text.scoring import score

_TEXT = Value("string")
_FEATURES = {
    "id": _TEXT,
    "image": Image(),
    "question": _TEXT,
    "answer": _TEXT,
    "options": List(_TEXT),
    "boxes": List(List(Value("float64"))),
    "pair": _TEXT,
}


def scene_docs(task: str, folder: Path, n: int, seed: int = 0) -> Dataset:
    """`n` held-out scenes of one task, drawn into `folder` unless they are there."""
    samples = read_jsonl(write_scenes(folder, [task], n, "heldout", seed), limit=n)
    columns: dict[str, list[Any]] = {
        "id": [s.id for s in samples],
        "image": [str(s.images[0]) for s in samples],
        "question": [s.question for s in samples],
        "answer": [s.answer for s in samples],
        "options": [list(s.options) for s in samples],
        "boxes": [[list(box) for box in s.boxes] for s in samples],
        "pair": [s.pair for s in samples],
    }
    return Dataset.from_dict(columns, features=Features(_FEATURES))


def doc_to_visual(doc: dict[str, Any]) -> list[Any]:
    return [doc["image"].convert("RGB")]


def doc_to_text(doc: dict[str, Any]) -> str:
    """The question as `gapcheck analyze` asks it, options below it where a scene lists them."""
    return prompt_text(doc["question"], doc["options"])


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    return {"accuracy": float(score(results[0], doc["answer"], doc["options"]))}


class SceneTask(ConfigurableMessagesTask):
    """A task of drawn scenes for lmms-eval; `dataset_kwargs` say where they are drawn, how many, and the seed."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config={k: v for k, v in (config or {}).items() if k != "class"})

    def download(self, dataset_kwargs: dict[str, Any] | None = None) -> None:
        options = dict(dataset_kwargs or {})
        folder = Path(options["folder"]) / f"{self.config.dataset_name}-{options['seed']}"
        docs = scene_docs(self.config.dataset_name, folder, options["n"], options["seed"])
        self.dataset = DatasetDict({"heldout": docs})
        self.dataset_no_image = DatasetDict({"heldout": docs.remove_columns("image")})

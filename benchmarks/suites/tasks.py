"""A task of lmms-eval, opened: its documents, its prompts, its verdicts."""

from __future__ import annotations

import copy
import inspect
import logging
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmms_eval.api.metrics  # noqa: F401 (registers the aggregations that definitions name)
from datasets import DatasetDict
from lmms_eval.api.instance import Instance
from lmms_eval.api.reasoning import parse_reasoning_tags_config, strip_reasoning_tags
from lmms_eval.api.task import ConfigurableMessagesTask, ConfigurableTask

from benchmarks.suites.catalog import SCENES, choose, definition
from benchmarks.suites.docs import Docs, open_docs, undecoded
from benchmarks.suites.questions import Question, is_known, read
from benchmarks.suites.scenes.task import scene_docs
from benchmarks.suites.sources import split_of
from perception_gap.data.images import whole_images
from perception_gap.errors import GapcheckError, UsageError

SCENES_A_TASK = 200  # without --limit
# Metrics that lmms-eval gives in percent (the `_acc_score` of V*'s reasoning tasks are fractions, like all others).
_PERCENT = re.compile(r"vstar_\w+_acc")
# What the default of lmms-eval's command line takes out of an answer before it is scored.
_REASONING = [["<think>", "</think>"], ["<analysis>", "</analysis>"]]
# What a verdict is called in the values that lmms-eval's scorers give for one sample.
_VERDICTS = ("is_correct", "score", "gpt_score", "correct", "acc")


class _Task(ConfigurableMessagesTask):
    """lmms-eval's task over documents that are there already, in place of its own download."""

    def __init__(self, config: dict[str, Any], docs: Docs, model_name: str | None) -> None:
        self._docs, self._split = docs, split_of(config)
        super().__init__(config=config, model_name=model_name)

    def download(self, dataset_kwargs: dict[str, Any] | None = None) -> None:
        self.dataset = self.dataset_no_image = DatasetDict({self._split: self._docs.table})


@dataclass
class Suite:
    """One task, ready to be asked. `docs[i]` decodes strictly; `task` is lmms-eval's own object."""

    name: str
    task: ConfigurableMessagesTask
    docs: Docs
    split: str

    def __len__(self) -> int:
        return len(self.docs)

    def request(self, index: int, simple: bool = False) -> Instance:
        """What lmms-eval would ask a model for this document, in the definition's default prompt.

        simple: for a backend that takes text and pictures apart.
        """
        metadata = {"task": self.name, "doc_id": index, "repeats": 1, "split": self.split}
        if simple:
            text = self.task.doc_to_text(self.docs.table[index])
            return ConfigurableTask.construct_requests(self.task, doc_id=index, ctx=text, metadata=metadata)
        return self.task.construct_requests(doc_id=index, ctx="", metadata=metadata)

    def messages(self, index: int) -> list[dict[str, Any]]:
        """The chat messages of one document; GapcheckError with the reason when they cannot be made."""
        doc = self.docs[index]
        try:
            with whole_images():
                return self.task.doc_to_messages(doc)
        # The definitions are other people's code, run on one document at a time: whatever it raises is the document's.
        except Exception as error:
            raise GapcheckError(
                f"the prompt of {self.name} cannot be made ({type(error).__name__}: {error})"
            ) from error

    def question(self, index: int) -> Question:
        """What a verdict needs of one document; GapcheckError when its columns are not those of the task."""
        doc = self.docs.table[index]
        named = self.task.config.doc_to_target
        # A column that the data lack lmms-eval takes for the answer itself (TextVQA names one and scores by another).
        absent = isinstance(named, str) and named.isidentifier() and named not in doc
        try:
            return read(self.name, doc, index, None if absent else self.task.doc_to_target(doc))
        except KeyError as error:
            raise GapcheckError(f"{self.name}: its data have no column {error}, only {', '.join(doc)}") from error
        except Exception as error:  # see `messages`
            reason = f"{type(error).__name__}: {error}"
            raise GapcheckError(f"{self.name}: the question cannot be read ({reason}) from {', '.join(doc)}") from error

    def verdicts(self, answers: Sequence[str]) -> list[tuple[dict[str, Any] | None, str | None]]:
        """(lmms-eval's metric values, None) of the first documents' answers, or (None, the reason) where it raised.

        Its filters and its scorer, run on one document at a time and once: lmms-eval itself repeats a failing scorer
        five times and then loses the run.
        """
        instances = [self.request(i) for i in range(len(answers))]
        for instance, answer in zip(instances, answers, strict=True):
            instance.resps = [answer]
        self.task._instances = instances
        self.task.apply_filters()
        own = self.task.config.reasoning_tags
        tags = _REASONING if own is None else parse_reasoning_tags_config(task_value=own)
        scorer = inspect.unwrap(type(self.task).process_results)
        scored: list[tuple[dict[str, Any] | None, str | None]] = []
        for i, instance in enumerate(instances):
            response = next(iter(instance.filtered_resps.values()))
            if tags is not None and isinstance(response, str):
                response = strip_reasoning_tags(response, tags)
            doc = self.docs[i] if self.task.config.process_results_use_image else self.docs.table[i]
            try:
                with _no_judge_without_key() if self.name.startswith("hrbench") else nullcontext():
                    scored.append((scorer(self.task, doc, [response]), None))
            except Exception as error:  # see `messages`
                scored.append((None, f"lmms-eval's scorer of {self.name} raised {type(error).__name__}: {error}"))
        return scored

    @property
    def metric(self) -> str:
        """The metric that a sample's verdict is read from: the average where there is one, else the first."""
        names = list(self.task.aggregation())
        return next((name for name in ("average", "vstar_overall_acc") if name in names), names[0])

    def scores(self, values: Sequence[dict[str, Any] | None]) -> list[float | None]:
        """Each sample's score, 0..1; None where the metric gives no such thing for one sample.

        None for all where any lies outside 0..1 (a scale of its own, such as a judge's 1 to 5) and where less is better
        (an error rate).
        """
        scores = [self._number(given) for given in values]
        other = any(value is not None and not 0 <= value <= 1 for value in scores)
        if other or self.task.higher_is_better().get(self.metric) is False:
            return [None] * len(scores)
        return scores

    def _number(self, values: dict[str, Any] | None) -> float | None:
        if not values:
            return None
        value = values.get(self.metric, next(iter(values.values())))
        if isinstance(value, dict):
            value = next((value[name] for name in _VERDICTS if name in value), None)
        return float(value) if isinstance(value, bool | int | float) else None

    def aggregate(self, values: Sequence[dict[str, Any]]) -> dict[str, float | None]:
        """lmms-eval's own figures over the samples that it scored, as fractions where they are accuracies."""
        figures: dict[str, float | None] = {}
        for name, function in self.task.aggregation().items():
            given = [v[name] for v in values if name in v]
            options = {"args": None} if "args" in inspect.signature(function).parameters else {}
            try:
                value = float(function(given, **options)) if given else None
            except Exception:  # see `messages`; some aggregations give no number
                value = None
            if value is not None and not math.isfinite(value):
                value = None
            figures[name] = value / 100 if value is not None and _PERCENT.fullmatch(name) else value
        return figures


@contextmanager
def _no_judge_without_key() -> Iterator[None]:
    """While open and without OPENAI_API_KEY, HR-Bench's scorer raises for an answer in which it finds no option.

    It would post the answer to api.openai.com, ten times for up to 30 s each, with a key that is none.
    """
    from lmms_eval.tasks.hrbench.hrbench_evals import HRBenchEval

    ask = HRBenchEval.get_chat_response

    def read_only(self: HRBenchEval, data: dict[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        if not self.can_infer(data["prediction"], dict(data["options"])):
            raise GapcheckError("no option in the answer, and no OPENAI_API_KEY for the judge that reads it then")
        return ask(self, data, *args, **kwargs)

    if not os.getenv("OPENAI_API_KEY"):
        HRBenchEval.get_chat_response = read_only
    try:
        yield
    finally:
        HRBenchEval.get_chat_response = ask


def open_suites(
    names: Sequence[str], data_root: Path | None, work: Path, limit: int | None = None, seed: int = 0
) -> list[Suite]:
    """Every task of the named suites; UsageError before any model is loaded when one cannot be had.

    work: where scenes are drawn. limit: how many scenes; other tasks keep all their documents.
    """
    logging.getLogger("datasets").setLevel(logging.ERROR)
    return [_open(task, data_root, work, limit or SCENES_A_TASK, seed) for task in choose(names)]


def _open(name: str, data_root: Path | None, work: Path, n_scenes: int, seed: int) -> Suite:
    config = copy.copy(definition(name))
    config.pop("class", None)
    kind = config.get("output_type", "generate_until")
    if kind != "generate_until":
        raise UsageError(f"task {name}: asks for {kind}; gapcheck bench runs tasks that generate text")
    if config.get("num_fewshot"):
        raise UsageError(f"task {name}: shows {config['num_fewshot']} examples first; gapcheck bench asks without any")
    if name in SCENES:
        scene = config["dataset_name"]
        docs = Docs(undecoded(scene_docs(scene, work / f"scenes-{scene}-{seed}", n_scenes, seed)))
    else:
        docs = open_docs(name, config, data_root)
        docs.text_alone = not is_known(name)
    # Prepared above: lmms-eval would apply it once more.
    config |= {"task": name, "process_docs": None}
    try:
        return Suite(name, _Task(config, docs, "gapcheck_hf"), docs, split_of(config))
    except Exception as error:  # see `Suite.messages`: it tries the first document
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"task {name}: its definition does not fit its first document ({reason})") from error

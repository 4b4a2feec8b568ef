"""What a trained student does on held-out samples: as it is, and with its latents hidden from the answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lavit import results
from lavit.checkpoint import opener
from perception_gap.data.reading import Reading
from perception_gap.measure.analyze import AnalyzeOptions, analyze
from perception_gap.measure.settings import Settings
from perception_gap.runs.run import Run
from perception_gap.stats.estimates import Estimate
from perception_gap.stats.proportions import paired_ci, proportion_ci

# none: left out. mask: there, but hidden from the answer. template: as many prompt tokens hidden instead, since hiding
# is out of distribution in itself. blind: image and latents hidden, which leaves what the question's tokens carry.
HIDDEN = ("none", "mask", "template", "blind")


@dataclass(frozen=True)
class Evaluation:
    """The samples that models are measured on, and how they are asked (see `gapcheck analyze`).

    hidden_limit: how many of them are asked again with the latents hidden (None: all), four times over.
    load: options of `perception_gap.load` for every model, such as one image size for all.
    """

    data: str = "scenes"
    image_root: Path | None = None
    reading: Reading = field(default_factory=Reading)
    limit: int | None = None
    hidden_limit: int | None = None
    instruction: str = ""
    max_new_tokens: int = 32
    batch_size: int = 48
    load: dict[str, Any] = field(default_factory=dict)
    command: str = ""

    def run(
        self, model: str, out: Path, teacher: Run | None = None, latents: str = "force", limit: int | None = None
    ) -> Run:
        """One run in OUT; what is there is not done again. The teacher's answer is the text both are compared on."""
        settings = Settings(
            text="own" if teacher is None else "teacher",
            max_new_tokens=self.max_new_tokens,
            instruction=self.instruction,
            latents=latents,
            load=self.load,
        )
        options = AnalyzeOptions(
            model=model,
            teacher=None if teacher is None else str(teacher.path),
            data=self.data,
            out=out,
            image_root=self.image_root,
            reading=self.reading,
            limit=limit or self.limit,
            settings=settings,
            batch_size=self.batch_size,
            command=self.command,
        )
        return analyze(options, opener=opener)

    def hidden(self, model: str, folder: Path, shown: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """mode → the samples with the latents hidden in that way, beside the same samples as they are.

        shown: the samples of the model as it is, by id. Columns `changed`, whether the answer differs (NaN where
        either failed), and `cost`, how much less right it is.
        """
        by_mode = {}
        for mode in HIDDEN:
            limit = self.hidden_limit and min(self.hidden_limit, len(shown))
            run = self.run(model, folder / f"eval-{mode}", latents=mode, limit=limit)
            frame = results.by_id(run)
            same = shown.loc[frame.index]
            both = (frame["status"] == "ok") & (same["status"] == "ok")
            frame["changed"] = (frame["answer"] != same["answer"]).astype(float).where(both)
            frame["cost"] = same["correct"] - frame["correct"]
            by_mode[mode] = frame
        return by_mode


def hiding_table(shown: pd.DataFrame, hidden: dict[str, pd.DataFrame]) -> list[list[str]]:
    """One line a mode: accuracy, answers changed, and the paired cost in accuracy, each with its 95 % interval."""

    def written(estimate: Estimate, sign: str = "") -> str:
        if not estimate.n:
            return "undefined"
        return f"{100 * estimate.mean:{sign}.1f} % [{100 * estimate.low:{sign}.1f}, {100 * estimate.high:{sign}.1f}]"

    lines = [["as it is", written(proportion_ci(shown["correct"], shown["cluster"])), "", "", f"{len(shown):,}"]]
    for mode, frame in hidden.items():
        both = -frame["cost"]
        lines.append(
            [
                mode,
                written(proportion_ci(frame["correct"], frame["cluster"])),
                written(proportion_ci(frame["changed"], frame["cluster"])),
                written(paired_ci(both, frame["cluster"]), "+"),
                f"{int(np.isfinite(both).sum()):,}",
            ]
        )
    return lines

"""Does the gaze give the answer away? `python -m scripts.leak RUN..` on runs over drawn scenes of two marked objects.

In `relative_depth` and `relative_reflectance` the answer is one of two objects, each with its box. Which one a map lies
on may be the answer itself: then a gaze loss teaches the answer, not only where to look.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pandas as pd

from perception_gap.geometry import TokenGeometry
from perception_gap.measure.of_sample import unit_boxes
from perception_gap.runs.run import Run
from perception_gap.stats.proportions import proportion_ci

TASKS = ("relative_depth", "relative_reflectance")


def right_box(row: pd.Series) -> int:
    """Which of a scene's two boxes belongs to the right answer: scenes list the nearer object last, point a first."""
    if row["task"] == "relative_depth":
        return 1
    return 0 if "point a" in row["reference"] else 1


def shares(attention: np.ndarray, geometry: TokenGeometry, row: pd.Series) -> tuple[float, float]:
    """Share of a map [N] on the right object and on the other one."""
    boxes = unit_boxes(row.to_dict())
    total = attention.sum()
    mass = [float((attention * geometry.overlap(box)).sum() / total) for box in boxes]
    right = right_box(row)
    return mass[right], mass[1 - right]


def table(run: Run) -> pd.DataFrame:
    """One line a task and kind of rows: mean mass on the right object, on the other, how often the right one has more.

    `word`: the map of the word "a" or "b" with which the answer decides; its focus stands in the two masses.
    """
    lines = []
    for task in TASKS:
        masses: dict[str, list[tuple[float, float]]] = {}
        words = run.words[(run.words["text"] == "own") & run.words["word"].str.lower().isin(["a", "b"])]
        for sample_id, row in run.samples[run.samples["task"] == task].set_index("sample_id").iterrows():
            if row["status"] != "ok":
                continue
            geometry = run.geometry(str(sample_id))
            maps = {"answer": run.map(str(sample_id))}
            latents, each = run.map(str(sample_id), "latents"), run.map(str(sample_id), "own_words")
            if latents is not None:
                maps["last latent"] = latents[-1]
            deciding = words.loc[words["sample_id"] == sample_id, "word_index"]
            if each is not None and len(deciding):
                maps["word a or b"] = each[int(deciding.iloc[0])]
            for name, attention in maps.items():
                if attention is not None and np.isfinite(attention).all():
                    masses.setdefault(name, []).append(shares(attention, geometry, row))
        for name, values in masses.items():
            right, other = np.array(values).T
            more = proportion_ci(right > other)
            share = f"{more.mean:.2f} [{more.low:.2f}, {more.high:.2f}]"
            lines.append([task, name, right.mean(), other.mean(), share, len(values)])
    head = ["task", "rows", "on the right object", "on the other", "right has more", "n"]
    return pd.DataFrame(lines, columns=head)


@click.command(help=__doc__)
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
def main(runs: tuple[Path, ...]) -> None:
    for path in runs:
        click.echo(f"\n{path}")
        click.echo(table(Run.open(path)).to_markdown(index=False, floatfmt=".2f"))


if __name__ == "__main__":
    main()

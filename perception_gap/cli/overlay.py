"""`gapcheck overlay`: one's own picture and question, one or several models, one figure."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perception_gap.cli import common_options
from perception_gap.cli.model_options import model_options, pop_load
from perception_gap.cli.output import FIGURE, check_writable, command_line
from perception_gap.errors import GapcheckError, UsageError

if TYPE_CHECKING:
    from perception_gap.data.jsonl import Boxes
    from perception_gap.measure.settings import Settings
    from perception_gap.runs.run import Run
    from perception_gap.sample import Sample

MOST_MODELS = 6
SUFFIXES = (".png", ".pdf", ".svg")
SAMPLE = "1"  # the id of the one sample


@click.command(
    epilog="Example: gapcheck overlay tiny:teacher tiny:student --image photo.jpg --question 'What color is the cat?'"
)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--image",
    "images",
    multiple=True,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The picture; several times for a question about several, in their order.",
)
@click.option("--question", required=True, help="What to ask about it.")
@click.option("--answer", help="The reference, to mark answers right or wrong.")
@click.option("--options", multiple=True, metavar="A;B;..", help="Possible answers, shown to the models with letters.")
@click.option(
    "--boxes",
    multiple=True,
    metavar="X0,Y0,X1,Y1[,IMAGE]",
    help="Where the answer lies, in pixels, for the focus score; several, or separated by ';'. IMAGE counts from 0.",
)
@click.option(
    "--text",
    default="first",
    show_default=True,
    type=click.Choice(["first", "reference", "own"]),
    help="What several models are read on: the first one's answer, --answer, or each its own answer (nothing is "
    "compared).",
)
@common_options.rows
@common_options.layers
@click.option("--instruction", default="", help="A line after the question, e.g. 'Answer in one word.'")
@common_options.system
@click.option("--max-new-tokens", default=64, show_default=True, type=click.IntRange(min=1))
@model_options
@click.option("--words/--no-words", default=True, show_default=True, help="One map per word below.")
@click.option("--smooth", is_flag=True, help="Blur the maps for display.")
@click.option("--top-k", default=8, show_default=True, type=click.IntRange(min=0), help="Strongest tokens outlined.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs/overlay.png"),
    show_default=True,
    help="Figure: .png, .pdf or .svg.",
)
def command(
    models: tuple[str, ...], out: Path, text: str, words: bool, smooth: bool, top_k: int, **options: Any
) -> None:
    """Show where MODEL looks in a picture of yours; of several MODELs, where each looks reading the first one's answer.

    MODEL is a hub id, a local checkpoint folder, or an embedded model (tiny:teacher). With several the first is the
    teacher: KL is the divergence of its map from theirs. Exit status: 0 if all answered, 1 if one failed, 2 for wrong
    usage.
    """
    if len(models) > MOST_MODELS:
        raise click.UsageError(f"{len(models)} models: expected at most {MOST_MODELS}, more do not fit on a page")
    if len(models) > 1 and options["revision"]:
        raise click.UsageError("--revision belongs to one model; name one MODEL, or leave it out")
    if text == "reference" and (len(models) == 1 or not options["answer"]):
        raise click.UsageError("--text reference: expected several MODELs and an --answer")
    if any(out.resolve() == image.resolve() for image in options["images"]):
        raise UsageError(f"--out {out}: is the picture itself; choose another file")
    check_writable(out, SUFFIXES, ours=FIGURE)
    sample = read_sample(options)
    settings = read_settings(options)
    import tempfile

    with tempfile.TemporaryDirectory(prefix="gapcheck-") as folder:
        runs = run_models(models, sample, settings, text, Path(folder))
        compared = len(runs) > 1 and text != "own"
        teacher, shown = (runs[0], runs[1:]) if compared else (None, runs)
        draw(shown, teacher, out, words=words, smooth=smooth, top_k=top_k)
        for line in summary_lines(runs):
            click.echo(line)
    click.echo(f"figure {out}")


def read_sample(options: dict[str, Any]) -> Sample:
    """The Sample of these options, its pictures decoded and its boxes on them; UsageError for what is wrong."""
    from perception_gap.data.images import check_boxes, open_image
    from perception_gap.data.jsonl import text, texts
    from perception_gap.sample import LETTERS, Sample
    from perception_gap.text.scoring import score

    images = tuple(path.absolute() for path in options.pop("images"))
    where = "gapcheck overlay"
    question = text({"question": options.pop("question")}, "question", where)
    reference = options.pop("answer")
    answer = "" if reference is None else text({"answer": reference}, "answer", where)
    split = [option.strip() for given in options.pop("options") for option in given.split(";")]
    choices = texts({"options": split}, "options", where)
    if len(choices) > len(LETTERS):
        raise UsageError(f"--options: {len(choices)} are given, expected at most {len(LETTERS)}, one for each letter")
    boxes, box_images = read_boxes(options.pop("boxes"), len(images))
    sample = Sample(SAMPLE, images, question, answer, boxes, box_images, choices)
    try:
        sizes = [(picture.height, picture.width) for picture in map(open_image, images)]
        check_boxes(sample, sizes, remedy="")
    except GapcheckError as error:  # of a run's sample a failure, here what the user typed
        raise UsageError(str(error).removeprefix(f"sample {SAMPLE}: ")) from None
    if answer:
        score(answer, answer, choices)  # a reference that names no option
    return sample


def read_boxes(given: Sequence[str], n_images: int) -> tuple[Boxes, tuple[int, ...]]:
    """Boxes and their images of `x0,y0,x1,y1[,image]`, several separated by ';'."""
    from perception_gap.data.jsonl import parse_boxes

    boxes = []
    for written in [part for text in given for part in text.split(";") if part.strip()]:
        try:
            numbers = [float(number) for number in written.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) not in (4, 5):
            raise UsageError(
                f"--boxes {written.strip()!r}: expected x0,y0,x1,y1 in pixels, then the image's index if several"
            )
        boxes.append(numbers)
    return parse_boxes(boxes, where="--boxes", n_images=n_images)


def read_settings(options: dict[str, Any]) -> Settings:
    from perception_gap.measure.settings import Settings

    return Settings(load=pop_load(options), **options)


def run_models(models: Sequence[str], sample: Sample, settings: Settings, text: str, folder: Path) -> list[Run]:
    """One run of each model in `folder`, as `gapcheck analyze` makes them; never two models in memory.

    GapcheckError with the model and the reason where the sample failed.
    """
    from dataclasses import replace

    from lavit.checkpoint import opener
    from perception_gap.data import Dataset, hash_samples
    from perception_gap.measure.analyze import run_analysis
    from perception_gap.measure.settings import Analysis
    from perception_gap.models.loading import require_supported

    for name in models:  # what would stop the last model is said before the first is loaded
        require_supported(name, settings.load.get("revision"), settings.load.get("trust_remote_code", False))
    dataset = Dataset("overlay", [sample], hash_samples([sample]))
    kind = {"first": "teacher", "reference": "reference", "own": "own"}[text if len(models) > 1 else "own"]
    runs: list[Run] = []
    for number, name in enumerate(models, start=1):
        first = number == 1 and kind != "own"
        # As `gapcheck analyze` asks a teacher: latent rows are the students' alone.
        rows = "question" if settings.rows == "question" else "answer"
        text_read = "own" if first and kind == "teacher" else kind
        of_model = replace(settings, text=text_read, rows=rows if first else settings.rows)
        teacher = runs[0] if runs and kind != "own" else None
        job = Analysis(name, dataset, folder / str(number), of_model, teacher, batch_size=1, command=command_line())
        click.echo(f"{name}: loading and asking", err=True)
        runs.append(run_analysis(job, opener, progress=False))
        runs[-1].named = tuple(image.parent for image in sample.images)
        row = runs[-1].row(SAMPLE)
        if row["status"] != "ok":
            raise GapcheckError(f"{name}: {row['error']}")
    return runs


def draw(runs: Sequence[Run], teacher: Run | None, out: Path, *, words: bool, smooth: bool, top_k: int) -> None:
    """Writes the figure; letters that no installed font has are named on stderr."""
    from reports.overlays import sample_sheet
    from reports.style import save

    figure = sample_sheet(runs, teacher, SAMPLE, words=words, smooth=smooth, top_k=top_k)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        save(figure, out.parent, out.stem, [out.suffix[1:]], follow=True)
    if any("missing from font" in str(warning.message) for warning in caught):
        click.echo("some letters are in no installed font and are drawn as boxes; install Noto Sans", err=True)


def summary_lines(runs: Sequence[Run]) -> list[str]:
    """One line a model: mark, focus, KL, answer."""
    from reports.sources import labels

    names = labels(runs)
    lines = []
    for name, run in zip(names, runs, strict=True):
        row = run.row(SAMPLE)
        mark = "–" if row["correct"] is None else ("✓" if row["correct"] else "✗")
        fields = [f"{name:{max(map(len, names))}}  {mark}"]
        if len(row["boxes"]):
            fields.append(f"focus {number_or_undefined(row['focus_score'], '5.1f', '%', 100)}")
        if run.info["teacher"]:
            fields.append(f"KL {number_or_undefined(row['kl'], '.2f', 'nats')}")
        fields.append(" ".join(row["answer"].split()) or "(empty answer)")
        lines.append("  ".join(fields))
    return lines


def number_or_undefined(value: float | None, layout: str, unit: str, scale: float = 1) -> str:
    """`16.4 %`, or `undefined`: of a map without mass, or a picture without the boxes."""
    return "undefined" if value is None or math.isnan(value) else f"{scale * value:{layout}} {unit}"

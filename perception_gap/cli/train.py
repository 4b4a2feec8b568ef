"""`gapcheck train`: train a student on a teacher's traces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from perception_gap.cli.output import command_line
from perception_gap.grid import grid


@click.command(
    epilog="Example: gapcheck train tiny:student --traces runs/traces --out runs/lavit --preset paper --scale tiny"
)
@click.argument("student")
@click.option("--traces", type=click.Path(path_type=Path), help="Folder of `gapcheck trace`.")
@click.option("--out", type=click.Path(path_type=Path), help="Training folder; the model ends in OUT/model.")
@click.option("--preset", default="paper", show_default=True, help="A named configuration; --show lists them.")
@click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a setting of the preset; repeatable."
)
@click.option("--scale", default="full", show_default=True, help="full, or tiny: optimiser and steps for tiny models.")
@click.option("--device", default="auto", show_default=True, help="auto or cpu.")
@click.option(
    "--cache-vision",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Compute prompts and vision features once, into DIR (frozen vision tower only).",
)
@click.option("--save-steps", default=200, show_default=True, type=click.IntRange(min=0), help="0: only at the end.")
@click.option("--report-to", default="none", show_default=True, help="none, tensorboard or wandb, as Trainer does.")
@click.option("--fsdp", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="FSDP settings (JSON).")
@click.option("--deepspeed", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="DeepSpeed settings.")
@click.option("--workers", default=0, show_default=True, type=click.IntRange(min=0), help="Processes that load data.")
@click.option("--fresh", is_flag=True, help="Forget what the training folder holds.")
@click.option("--show", is_flag=True, help="Print every setting with its source, and the presets; train nothing.")
def command(
    traces: Path | None,
    out: Path | None,
    preset: str,
    changes: tuple[str, ...],
    scale: str,
    cache_vision: Path | None,
    report_to: str,
    fsdp: Path | None,
    deepspeed: Path | None,
    workers: int,
    show: bool,
    **options: Any,
) -> None:
    """Train STUDENT (hub id, folder, tiny:student) to answer as its teacher does, and to look where it looks.

    The same command resumes a killed training. Several GPUs: torchrun --nproc-per-node 8 -m perception_gap train ..,
    with --fsdp or --deepspeed where one does not hold the model (lavit/configs has both).
    """
    from lavit.settings import parse_changes, settings_of

    settings = settings_of(preset, scale, parse_changes(changes))
    if show:
        print_settings(preset, settings, scale)
        return
    if traces is None or out is None:
        raise click.UsageError("--traces and --out: both are needed to train")
    from lavit.options import TrainOptions
    from lavit.training import train
    from perception_gap.storage.locks import locked

    extra: dict[str, Any] = {"report_to": report_to, "dataloader_num_workers": workers}
    if fsdp is not None:
        extra |= read_json(fsdp)
    if deepspeed is not None:
        extra["deepspeed"] = str(deepspeed)
    request = TrainOptions(
        traces=traces,
        out=out,
        preset=preset,
        settings=settings,
        scale=scale,
        cache=cache_vision,
        command=command_line(),
        arguments=extra,
        **options,
    )
    with locked(out):
        model = train(request)
    click.echo(f"model {model}")


def read_json(path: Path) -> dict[str, Any]:
    """Options from a file; UsageError unless it holds a JSON object."""
    import json

    try:
        options: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise click.UsageError(f"--fsdp {path}: is no JSON ({error}); start from lavit/configs/fsdp.json") from None
    if not isinstance(options, dict) or options.keys() - {"fsdp", "fsdp_config"}:
        raise click.UsageError(
            f"--fsdp {path}: expected a JSON object with fsdp and fsdp_config alone, like lavit/configs/fsdp.json; "
            "everything else is a setting (--set)"
        )
    return options


def print_settings(preset: str, settings: Any, scale: str) -> None:
    """The presets, then every setting with where it comes from."""
    from lavit.settings import PRESETS, TINY_WHY, described

    click.echo(grid(["preset", "what"], [(name, preset.about) for name, preset in PRESETS.items()]))
    click.echo()
    click.echo(grid(["setting", preset, "source"], described(preset, settings, scale)))
    if scale == "tiny":
        click.echo(TINY_WHY)

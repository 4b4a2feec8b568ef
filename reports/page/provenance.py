"""What made the numbers of a page, and what a reader must know before reading them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perception_gap.runs.run import Run
from perception_gap.storage.redaction import public_text
from reports.names import frame
from reports.page.albums import Album
from reports.sources import BenchRun, CompareRun, Matrix, Source, Training, Unfinished, labels, teacher_or_reason


def notices(sources: Sequence[Source], albums: Sequence[Album]) -> list[str]:
    """Runs that are not whole, samples that failed, data sets that differ: one sentence each."""
    sentences = [source.words for source in sources if isinstance(source, Unfinished)]
    for source in sources:
        if isinstance(source, CompareRun):
            sentences += [f"{line}." for line in source.absent]
        if isinstance(source, BenchRun) and source.missing:
            sentences.append(f"{source.path}: unfinished, not summarised yet: {', '.join(source.missing)}.")
        if isinstance(source, Training) and not source.finished:
            sentences.append(f"{source.path}: training has not come to its end, {len(source.log):,} steps are logged.")
        if isinstance(source, Run) and (gone := teacher_or_reason(source)[1]):
            sentences.append(f"{gone}; this page is without it.")
    for album in albums:
        for member in album.members:
            failed = int((member.samples["status"] != "ok").sum())
            if failed == len(member.samples):
                sentences.append(f"{member.label}: none of {failed:,} samples is valid; its measures are undefined.")
            elif failed:
                sentences.append(
                    f"{member.label}: {failed:,} of {len(member.samples):,} samples failed; counted as wrong."
                )
        most = max(len(member.samples) for member in album.members)
        if len(album.ids) < most:
            sentences.append(
                f"{album.title}: the browser shows the {len(album.ids):,} samples that all {len(album.members)} models "
                f"have, of up to {most:,}."
            )
    sets = [album for album in albums if album.runs]
    if len(sets) > 1:
        sentences.append(
            f"These runs are {len(sets)} sets: they have other samples, another teacher, or were read in another way "
            "(text, layers, rows, frame of KL). Nothing is compared across sets, and the browser below shows one at a "
            "time."
        )
    return sentences


def provenance(sources: Sequence[Source]) -> list[dict[str, str]]:
    """What, where, model and revision, settings, data, versions, command of each source and its teacher."""
    rows = []
    runs: list[Run] = []
    for source in sources:
        if isinstance(source, Run):
            teacher = teacher_or_reason(source)[0]
            runs += [run for run in (teacher, source) if run and run.path.resolve() not in map(_resolved, runs)]
        elif isinstance(source, CompareRun):
            data = source.info["data"]
            about = f"{data['spec']}, {data['n']:,} samples; {source.info['budget']}{_frame(source.info)}"
            rows.append(_row("comparison", source.path, ", ".join(source.labels.values()), about, source.info))
        elif isinstance(source, BenchRun):
            about = ", ".join(f"{task} × {n:,}" for task, n in source.info["tasks"].items())
            models = "; ".join(f"{m.name} ({m.info['model'].get('revision') or 'no revision'})" for m in source.models)
            rows.append(_row("benchmark", source.path, models, about, source.info))
        elif isinstance(source, Training):
            about = f"{source.info['traces']['n']:,} traces of {source.info['traces']['teacher']['name']}"
            rows.append(_row("training", source.path, source.info["student"]["name"], about, source.info))
        elif isinstance(source, Matrix):
            about = f"{source.results['preset'].nunique()} presets"
            rows.append(_row("matrix", source.path, ", ".join(source.results["preset"].unique()), about, {}))
    for run, name in zip(runs, labels(runs), strict=True):
        model, data = run.info["model"], run.info["data"]
        what = f"{name}: {model.get('class')}, {model.get('dtype')}, revision {model.get('revision')}"
        rows.append(
            _row("analysis", run.path, what, f"{data['spec']}, {data['n']:,} samples{_frame(run.info)}", run.info)
        )
    return rows


def _frame(info: Mapping[str, Any]) -> str:
    return f"; maps of two models meet on the {frame(info)}" if frame(info) else ""


def _resolved(run: Run) -> Path:
    return run.path.resolve()


def _row(kind: str, path: Path, model: str, data: str, info: Mapping[str, Any]) -> dict[str, str]:
    versions = ", ".join(f"{name} {version}" for name, version in info.get("versions", {}).items())
    here = path.resolve()
    shown = here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else path
    return {
        "kind": kind,
        "path": str(shown),
        "model": public_text(model),
        "data": public_text(data),
        "versions": versions,
        "command": public_text(info.get("command") or ""),
        "created": info.get("created", ""),
    }

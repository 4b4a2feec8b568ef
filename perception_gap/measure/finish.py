"""From parts to a finished run: measures per sample and per word, merged files, the summary last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perception_gap.errors import UsageError
from perception_gap.knockout.table import Table
from perception_gap.measure import per_layer
from perception_gap.measure.layer_profile import Profile
from perception_gap.measure.of_sample import NO_MAPS, normalised, of_maps, of_words
from perception_gap.measure.summary import summarise
from perception_gap.measure.teacher import Comparison
from perception_gap.measure.word_states import aligned_states, cosine_by_word
from perception_gap.runs.parts import Parts, stored_keys
from perception_gap.runs.run import Run, run_info, teacher_of
from perception_gap.runs.schema import tables
from perception_gap.storage.files import ArrayFile, frame_of, write_frame, write_json

# Of a row, what samples.parquet leaves to other files.
_ELSEWHERE = ("key", "own_words", "own_categories", "knockout_answers")


def finish(
    out: Path,
    keys: list[str],
    parts: Parts,
    info: dict[str, Any],
    teacher: Run | None,
    *,
    seed: int,
    raster: tuple[int, int] | None,
) -> Run:
    """Compute every measure from the stored maps, part by part; write the merged files, the summary last."""
    comparison = None if teacher is None else _comparison(keys, parts, info, teacher, seed, raster)
    cosine = {} if comparison is None else cosine_by_word(comparison, aligned_states(comparison, parts, seed))
    samples, words, profile = [], [], Profile(info.get("layers", []))
    cuts = Table(info["settings"].get("knockout"))
    maps, hidden = ArrayFile(out / "maps.safetensors"), ArrayFile(out / "hidden.safetensors")
    for row, arrays in parts.read(keys):
        sample_id, fields = row["sample_id"], {name: row[name] for name in row if name not in _ELSEWHERE}
        if row["status"] == "ok":
            cuts.add(row, arrays)
            against = comparison if comparison and sample_id in comparison.rows else None
            fields |= of_maps(row, arrays, against)
            if "layers" in arrays:
                native = against.native if against else None
                arrays |= {name: per_layer.on_frame(arrays[name], native) for name in ("layers", "heads")}
                profile.add(sample_id, arrays["layers"], arrays["heads"], fields["focus_chance"])
            words += of_words(row, arrays, against, cosine.get(sample_id))
            for kind in sorted(arrays.keys() - {"hidden"}):
                maps.add(f"{sample_id}/{kind}", arrays[kind] if kind in NO_MAPS else normalised(arrays[kind]))
            hidden.add(f"{sample_id}/hidden", arrays["hidden"])
        samples.append(fields)
    schemas = tables.samples(), tables.words()
    frame, of_words_frame = frame_of(samples, schemas[0].names), frame_of(words, schemas[1].names)
    (out / "tokens.parquet").unlink(missing_ok=True)  # what schema 3 called words.parquet
    (out / "summary.json").unlink(missing_ok=True)  # back last, when everything it speaks of is in place
    files = {
        "samples.parquet": write_frame(out / "samples.parquet", frame, schemas[0]),
        "words.parquet": write_frame(out / "words.parquet", of_words_frame, schemas[1]),
        "maps.safetensors": maps.close(),
        "hidden.safetensors": hidden.close(),
    }
    of_cuts, more_files = cuts.finish(out, frame, seed)
    info = info | {"raster": comparison.name_of_frame if comparison and comparison.rows else None}
    write_json(out / "run.json", info)
    summary = summarise(frame, of_words_frame, info, seed) | profile.summary(frame) | of_cuts
    write_json(out / "summary.json", summary | {"files": files | more_files})
    return Run.open(out)


def so_far(folder: Path, work: Path, named: Sequence[Path] = ()) -> Run:
    """The run of the samples that an unfinished analysis in `folder` has stored, as `finish` would make it of these.

    Merged files go into `work`, a folder for the time being; `folder` stays as it is, for the analysis to go on. Maps
    are compared on the default raster. UsageError when nothing is stored; DamagedError when run.json is damaged and
    when the teacher's run is not where it was.
    """
    info = run_info(folder)
    keys = stored_keys(folder)
    if not keys:
        raise UsageError(f"{folder}: no sample is stored yet; let the analysis go on")
    teacher = teacher_of(folder, info, named)
    work.mkdir(parents=True, exist_ok=True)
    run_so_far = finish(work, keys, Parts(folder), info, teacher, seed=info["settings"]["seed"], raster=None)
    run_so_far.path, run_so_far.named = folder, tuple(named)  # images and teacher are found from there
    return run_so_far


def _comparison(
    keys: list[str], parts: Parts, info: dict[str, Any], teacher: Run, seed: int, raster: tuple[int, int] | None
) -> Comparison:
    rows = [row for row, _ in parts.read(keys, kinds=())]
    return Comparison(rows, teacher, "own" if info["settings"]["text"] == "teacher" else "shared", seed, raster)

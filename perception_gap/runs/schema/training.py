"""trace.json, train.json and the list of an ablation's files, as far as anybody relies on them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from perception_gap.runs.schema.shared import ABSENT
from perception_gap.storage.intact import Document, Sealed, Text, Whole


class TeacherWidth(Document):
    width: Whole


class Count(Document):
    n: Whole


class TraceFiles(Document):
    traces: Text = Field(alias="traces.parquet")


class TraceInfo(Sealed):
    teacher: TeacherWidth
    data: Count
    funnel: dict[str, Any]
    files: TraceFiles


class FileList(Sealed):
    files: dict[str, Text]


class TrainingSettings(Document):
    seed: Whole
    steps: Whole
    n_latents: Whole


class StudentName(Document):
    name: Text


class TrainingTraces(Document):
    n: Whole
    teacher: StudentName


class TrainingInfo(Document):
    preset: Text
    settings: TrainingSettings
    student: StudentName
    traces: TrainingTraces
    versions: dict[str, Any] = ABSENT
    command: Text | None = None
    checksum: Text = ABSENT

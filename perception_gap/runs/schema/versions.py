"""The kinds of results, each with the file that describes it, its version and the command that makes it anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perception_gap.errors import DamagedError
from perception_gap.storage.intact import short


@dataclass(frozen=True)
class Kind:
    """name: as messages call it. described_in: the JSON file that makes a folder one. again: what writes it anew."""

    name: str
    described_in: str
    version: int
    again: str

    def require_version(self, folder: Path, info: Mapping[str, Any]) -> None:
        """DamagedError where the folder was written in another version of the schema."""
        version = info.get("schema_version")
        whole = isinstance(version, int) and not isinstance(version, bool)
        if whole and version == self.version:
            return
        newer = isinstance(version, int) and whole and version > self.version
        remedy = "that is a newer one: upgrade this gapcheck" if newer else f"run `{self.again}` again"
        raise DamagedError(
            f"{folder}: written in {self.name} schema {short(version)}, this gapcheck reads {self.version}; {remedy}"
        )


RUN = Kind("run", "run.json", 4, "gapcheck analyze")
COMPARISON = Kind("compare", "compare.json", 2, "gapcheck compare")
BENCH = Kind("bench", "bench.json", 3, "gapcheck bench --fresh")
TRACE = Kind("trace", "trace.json", 2, "gapcheck trace")
ANSWERS = Kind("answers", "answers.json", 1, "gapcheck bench --fresh")

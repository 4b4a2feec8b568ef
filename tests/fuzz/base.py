"""Whole inputs that cases are damaged copies of, made once by the commands themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

STEPS = """
scenes --n 6 --out data
analyze tiny:student --teacher tiny:teacher --data data/scenes.jsonl --limit 4 --no-figures --out run
compare tiny:student tiny:sft --data data/scenes.jsonl --limit 4 --no-page --out compare
bench tiny:student --suite scenes_iq,scenes_pairs --limit 4 --gaze --out bench
trace tiny:teacher --data scenes --limit 24 --without-boxes keep --out traces
train tiny:student --traces traces --scale tiny --set steps=2 --set batch_size=4 --out train
"""
MATRIX = """preset,seed,rows,task,metric,value,low,high,n
student,0,answer,all,accuracy,0.5,0.4,0.6,48
student,0,answer,all,kl,0.5,0.4,0.6,48
paper,0,answer,all,accuracy,0.7,0.6,0.8,48
paper,0,answer,all,kl,0.3,0.2,0.4,48
"""
TURNS = [{"from": "human", "value": "<image>\nwhat?"}, {"from": "gpt", "value": "red"}]
VISCOT = {"question_id": 1, "image": "a.png", "dataset": "d", "bboxs": [[0, 0, 9, 9]], "conversations": TURNS}
KINDS = ("run", "compare", "bench", "traces", "train", "matrix")
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def build(folder: Path) -> None:
    """Makes what is not there yet; a step that fails ends the fuzzing."""
    folder.mkdir(parents=True, exist_ok=True)
    for step in STEPS.strip().splitlines():
        if not (folder / step.split()[-1]).exists():
            print(f"gapcheck {step}", file=sys.stderr)
            command = [sys.executable, "-m", "perception_gap", *step.split()]
            subprocess.run(command, cwd=folder, check=True, env=os.environ | ENVIRONMENT, capture_output=True)
    (folder / "matrix").mkdir(exist_ok=True)
    (folder / "matrix" / "results.csv").write_text(MATRIX)
    (folder / "viscot.json").write_text(json.dumps([VISCOT]))

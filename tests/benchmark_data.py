"""Miniature copies of the paper's data sets, with the columns and files that the hub and the authors give them."""

from __future__ import annotations

import base64
import csv
import io
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as PillowImage

TEXT, WHOLE = Value("string"), Value("int64")
BLINK = {
    "Relative_Depth": ("Which point is closer to the camera?", ["A is closer", "B is closer"], 1),
    "IQ_Test": ("Which one picture follows the same pattern?", ["picture A", "picture B", "picture C", "picture D"], 1),
    "Relative_Reflectance": (
        "Which point has darker surface color?",
        ["A is darker", "B is darker", "About the same"],
        1,
    ),
    "Spatial_Relation": ("Is the car beneath the cat?", ["yes", "no"], 1),
    "Visual_Similarity": ("Which image is most similar to the reference?", ["the second image", "the third image"], 3),
    "Art_Style": ("Which image shares the style of the reference?", ["the second image", "the third image"], 3),
    "Counting": ("How many blue floats are there?", ["0", "3", "2", "1"], 1),
    "Forensic_Detection": ("Which is the real photo?", [f"the {n} image" for n in ("first", "second", "third")], 4),
    "Functional_Correspondence": ("Which point corresponds?", ["Point A", "Point B", "Point C", "Point D"], 2),
    "Jigsaw": ("Which image is the missing part?", ["the second image", "the third image"], 3),
    "Multi-view_Reasoning": ("Is the camera moving left or right?", ["left", "right"], 2),
    "Object_Localization": ("Which box is more accurate?", ["Box A", "Box B"], 1),
    "Semantic_Correspondence": ("Which point corresponds?", ["Point A", "Point B", "Point C", "Point D"], 2),
    "Visual_Correspondence": ("Which point corresponds?", ["Point A", "Point B", "Point C", "Point D"], 2),
}


def picture(seed: int, size: tuple[int, int] = (64, 48)) -> PillowImage.Image:
    """Noise: no two seeds are alike."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return PillowImage.fromarray(noise)


def encoded(seed: int, kind: str = "PNG") -> dict:
    buffer = io.BytesIO()
    picture(seed).save(buffer, kind)
    return {"bytes": buffer.getvalue(), "path": f"{seed}.png"}


def write_paper(root: Path, n: int = 4) -> Path:
    """Data sets of the paper's table 1, all of BLINK, HR-Bench 4K, `n` questions each, as `--data-root` takes them."""
    mmvp(root / "MMVP", n)
    vstar(root / "lmms-lab-encoder" / "vstar-bench", n)
    for subset in BLINK:
        blink(root / "BLINK-Benchmark" / "BLINK", subset, n)
    mmstar(root / "Lin-Chen" / "MMStar", n)
    hrbench(root / "DreamMr" / "HR-Bench", n)
    return root


def parquet(path: Path, columns: dict[str, list], features: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(columns, features=Features(features)).to_parquet(str(path))


def mmvp(folder: Path, n: int) -> None:
    """The authors' own layout."""
    (folder / "MMVP Images").mkdir(parents=True, exist_ok=True)
    with (folder / "Questions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["Index", "Question", "Options", "Correct Answer"])
        for i in range(1, n + 1):
            answer = "(a)" if i % 2 else "(b)"
            writer.writerow(
                [i, "Are the butterfly's wings closer to being open or closed?", "(a) Open (b) Closed", answer]
            )
            picture(i).save(folder / "MMVP Images" / f"{i}.jpg")


def vstar(folder: Path, n: int) -> None:
    """Both categories in one file, as on the hub."""
    categories = ["direct_attributes", "relative_position"]
    question = (
        "What is the color of the glove? (A) rubber (B) cotton (C) kevlar (D) leather\n"
        "Answer with the option's letter from the given choices directly."
    )
    columns = {
        "image": [encoded(100 + i) for i in range(2 * n)], "text": [question] * (2 * n),
        "category": [categories[i % 2] for i in range(2 * n)], "label": ["ABCD"[i % 4] for i in range(2 * n)],
        "question_id": [str(i) for i in range(2 * n)],
    }  # fmt: skip
    features = {"image": Image(), "text": TEXT, "category": TEXT, "label": TEXT, "question_id": TEXT}
    parquet(folder / "data" / "test-00000-of-00001.parquet", columns, features)


def blink(folder: Path, subset: str, n: int) -> None:
    question, choices, images = BLINK[subset]
    listed = "\n".join(f"({'ABCD'[i]}) {choice}" for i, choice in enumerate(choices))
    pictures = {f"image_{k}": [encoded(1000 * k + i) if k <= images else None for i in range(n)] for k in range(1, 5)}
    columns = {
        "idx": [f"val_{subset}_{i + 1}" for i in range(n)], "question": [question] * n, "sub_task": [subset] * n,
        **pictures, "choices": [choices] * n, "answer": [f"({'ABCD'[i % len(choices)]})" for i in range(n)],
        "prompt": [f"{question}\nSelect from the following choices.\n{listed}"] * n, "explanation": [""] * n,
    }  # fmt: skip
    features = {
        "idx": TEXT, "question": TEXT, "sub_task": TEXT, **dict.fromkeys(pictures, Image()), "choices": List(TEXT),
        "answer": TEXT, "prompt": TEXT, "explanation": TEXT,
    }  # fmt: skip
    parquet(folder / subset / "val-00000-of-00001.parquet", columns, features)


def mmstar(folder: Path, n: int) -> None:
    question = "What is in the picture?\nOptions: A: A boat, B: A tree, C: A dog, D: A house"
    columns = {
        "index": list(range(n)), "question": [question] * n, "image": [encoded(300 + i) for i in range(n)],
        "answer": ["ABCD"[i % 4] for i in range(n)], "category": ["coarse perception"] * n,
        "l2_category": ["image scene and topic", "image emotion"] * (n // 2) + ["image emotion"] * (n % 2),
        "meta_info": [{"source": "MMBench", "split": "dev", "image_path": f"images/{i}.jpg"} for i in range(n)],
    }  # fmt: skip
    features = {
        "index": WHOLE, "question": TEXT, "image": Image(), "answer": TEXT, "category": TEXT, "l2_category": TEXT,
        "meta_info": {"source": TEXT, "split": TEXT, "image_path": TEXT},
    }  # fmt: skip
    parquet(folder / "mmstar.parquet", columns, features)


def hrbench(folder: Path, n: int) -> None:
    columns = {
        "index": list(range(n)), "question": ["What is the colour of the umbrella?"] * n,
        "answer": ["ABCD"[i % 4] for i in range(n)], "category": ["single"] * n,
        "A": ["Red"] * n, "B": ["Blue"] * n, "C": ["Green"] * n, "D": ["White"] * n, "cycle_category": ["0"] * n,
        "image": [base64.b64encode(encoded(400 + i, "JPEG")["bytes"]).decode() for i in range(n)],
    }  # fmt: skip
    features = {name: WHOLE if name == "index" else TEXT for name in columns}
    parquet(folder / "hr_bench_4k.parquet", columns, features)

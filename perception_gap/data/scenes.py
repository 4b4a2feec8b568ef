"""`scenes`: an endless, seeded suite of drawn pictures with questions, sentence answers and exact boxes.

Six tasks, named after the benchmarks whose skill they mimic (V*, BLINK, MMVP). A scene is a pure function of
(task, split, seed, index); the split is part of the random stream, so train and held-out scenes never share one.
With `boxed=False` what lies in the boxes is not painted: every other pixel, and the noise, stay the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from perception_gap.data import drawing
from perception_gap.data.drawing import COLORS, SHAPES, SIDE, Box, Thing

SPLITS = ("train", "heldout")
LETTERS = "ABCDEF"
T = TypeVar("T")


@dataclass(frozen=True)
class Scene:
    """One drawn question: `image` uint8 [256, 256, 3], `boxes` xyxy pixels of what decides the answer."""

    id: str
    task: str
    image: np.ndarray
    question: str
    answer: str
    boxes: tuple[Box, ...]
    things: tuple[Thing, ...]
    options: tuple[str, ...] = ()
    pair: str | None = None

    def record(self, image_path: str) -> dict[str, Any]:
        """The scene as a JSONL record of `perception_gap.data`."""
        row: dict[str, Any] = {
            "id": self.id,
            "image": image_path,
            "question": self.question,
            "answer": self.answer,
            "boxes": [[round(v, 2) for v in box] for box in self.boxes],
            "task": self.task,
        }
        if self.options:
            row["options"] = list(self.options)
        if self.pair:
            row["pair"] = self.pair
        return row


def _pick(rng: np.random.Generator, values: Iterable[T]) -> T:
    choices = list(values)
    return choices[int(rng.integers(len(choices)))]


def _several(rng: np.random.Generator, values: Iterable[T], n: int) -> list[T]:
    choices = list(values)
    return [choices[i] for i in rng.permutation(len(choices))[:n]]


def _options(rng: np.random.Generator, right: str, others: Iterable[str]) -> tuple[str, ...]:
    wrong = _several(rng, [o for o in others if o != right], 3)
    return tuple(_several(rng, [right, *wrong], len(wrong) + 1))


def _distractors(
    canvas: np.ndarray,
    things_wanted: Sequence[tuple[str, str, float]],
    centers: Sequence[tuple[float, float]],
    unpainted: Sequence[int] = (),
) -> list[Thing]:
    """things_wanted: (shape, colour, radius). unpainted: indices of those that stay invisible."""
    things = []
    for i, ((shape, color, radius), (x, y)) in enumerate(zip(things_wanted, centers, strict=True)):
        on, size = drawing.surface(canvas, i not in unpainted), "small" if radius < 24 else "large"
        things.append(drawing.paint(on, shape, x, y, radius, color, size=size))
    return things


def attribute(rng: np.random.Generator, *, boxed: bool = True) -> Scene:
    """The colour of one small object among larger distractors, sometimes with a large object of the same shape."""
    canvas = drawing.background(rng)
    target, *others = _several(rng, SHAPES, len(SHAPES))
    n = int(rng.integers(3, 5))
    shapes = others[:n]
    if rng.random() < 0.3:
        shapes[0] = target
    color, *rest = _several(rng, COLORS, len(COLORS))
    wanted = [(shape, _pick(rng, rest), float(rng.uniform(30, 38))) for shape in shapes]
    wanted.append((target, color, float(rng.uniform(17, 21))))
    centers = drawing.scatter(rng, [w[2] for w in wanted])
    things = _distractors(canvas, wanted, centers, () if boxed else (len(wanted) - 1,))
    image = drawing.finish(canvas, rng)
    question, answer = f"What color is the small {target}?", f"the small {target} is {color}"
    options = _options(rng, color, COLORS)
    return Scene("", "attribute", image, question, answer, (things[-1].box,), tuple(things), options)


def relative_depth(rng: np.random.Generator, *, boxed: bool = True) -> Scene:
    """Which of two marked objects stands closer: height on a tiled floor (perspective) and size decide."""
    horizon = float(rng.uniform(70, 95))
    canvas = drawing.background(rng)
    top = int(horizon) + 1  # first row of the floor
    below = drawing.Y[top:] - np.float32(horizon)
    tiles = (np.floor((drawing.X[top:] - SIDE / 2) / below * 3) + np.floor(420 / below)) % 2
    canvas[top:] *= 0.72 + 0.16 * tiles[..., None]
    depths = sorted(rng.uniform(1.0, 2.9, 2), reverse=True)
    while depths[0] - depths[1] < 0.45:
        depths = sorted(rng.uniform(1.0, 2.9, 2), reverse=True)
    near_first = bool(rng.random() < 0.5)
    left = 64 + rng.uniform(-22, 22)
    right = 192 + rng.uniform(-22, 22)
    columns = [left, right] if rng.random() < 0.5 else [right, left]
    letters = {0: "b" if near_first else "a", 1: "a" if near_first else "b"}  # depths[1] is the nearer
    things: list[Thing] = []
    marks: list[Thing] = []
    for i, depth in enumerate(depths):
        radius = 52 / depth * float(rng.uniform(0.85, 1.15))
        foot = horizon + (SIDE - 8 - horizon) / depth
        shape = _pick(rng, ("circle", "square", "triangle"))
        on, x, y = drawing.surface(canvas, boxed), columns[i], foot - radius
        on[drawing.shadow(x, foot, radius)] *= 0.55
        things.append(drawing.paint(on, shape, x, y, radius, _pick(rng, COLORS), depth=depth))
        marks.append(drawing.marker(on, letters[i], x, y, 13, depth=depth))
    image = drawing.finish(canvas, rng)
    question, answer = "Which point is closer, point a or point b?", f"point {letters[1]} is closer"
    boxes, options = tuple(t.box for t in things), tuple(_several(rng, ["point a", "point b"], 2))
    return Scene("", "relative_depth", image, question, answer, boxes, (*things, *marks), options)


ALBEDOS = (0.22, 0.42, 0.66, 0.95)


def relative_reflectance(rng: np.random.Generator) -> Scene:
    """Which of two marked patches has the darker surface, under shading that can reverse the pixel values."""
    n = 4
    levels = rng.integers(0, len(ALBEDOS), (n, n))
    cells = _several(rng, [(r, c) for r in range(n) for c in range(n)], 2)
    (ra, ca), (rb, cb) = cells
    while levels[ra, ca] == levels[rb, cb]:
        levels[ra, ca], levels[rb, cb] = rng.integers(0, len(ALBEDOS), 2)
    side = SIDE // n
    surface = np.kron(np.asarray(ALBEDOS, dtype=np.float32)[levels], np.ones((side, side), np.float32))
    x, y = drawing.X / (SIDE - 1), drawing.Y / (SIDE - 1)
    angle, strength = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.2, 0.42))
    light = float(rng.uniform(0.68, 0.74)) + strength * ((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle))
    tint = rng.uniform(0.92, 1.0, 3).astype(np.float32)
    canvas = ((surface * light)[..., None] * tint).astype(np.float32)
    patches = [
        Thing("patch", (c * side, r * side, (c + 1) * side, (r + 1) * side), albedo=int(levels[r, c]))
        for r, c in np.ndindex(n, n)
    ]
    marks = []
    for letter, (r, c) in zip("ab", cells, strict=True):
        jx, jy = rng.uniform(-12, 12, 2)
        px, py = (c + 0.5) * side + jx, (r + 0.5) * side + jy
        marks.append(drawing.marker(canvas, letter, px, py, 13, albedo=int(levels[r, c])))
    darker = "a" if levels[ra, ca] < levels[rb, cb] else "b"
    image = drawing.finish(canvas, rng)
    question, answer = "Which point has the darker surface, point a or point b?", f"point {darker} is darker"
    boxes = tuple(patches[r * n + c].box for r, c in cells)
    options = tuple(_several(rng, ["point a", "point b"], 2))
    return Scene("", "relative_reflectance", image, question, answer, boxes, (*patches, *marks), options)


RELATIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}


def spatial_relation(rng: np.random.Generator, *, boxed: bool = True) -> Scene:
    """Where one object lies from another: left, right, above or below, with distractors around."""
    canvas = drawing.background(rng)
    relation = _pick(rng, RELATIONS)
    dx, dy = RELATIONS[relation]
    shapes = _several(rng, SHAPES, 4)
    radii = [float(r) for r in rng.uniform(20, 28, int(rng.integers(3, 5)))]
    while True:
        centers = drawing.scatter(rng, radii)
        (x0, y0), (x1, y1) = centers[0], centers[1]
        along = (x0 - x1) * dx + (y0 - y1) * dy
        across = abs((x0 - x1) * dy) + abs((y0 - y1) * dx)
        if along > 50 and across < 0.5 * along:
            break
    wanted = [(shape, _pick(rng, COLORS), r) for shape, r in zip(shapes, radii, strict=False)]
    things = _distractors(canvas, wanted, centers, () if boxed else (0, 1))
    a, b = shapes[:2]
    image = drawing.finish(canvas, rng)
    question, answer = f"Where is the {a}, seen from the {b}?", f"the {a} is {relation} the {b}"
    boxes, options = (things[0].box, things[1].box), _options(rng, relation, RELATIONS)
    return Scene("", "spatial_relation", image, question, answer, boxes, tuple(things), options)


def pairs(rng: np.random.Generator, member: int = 0, *, boxed: bool = True) -> Scene:
    """One of two pictures that differ in one detail of one object (fill, direction or colour); `member` is 0 or 1."""
    canvas = drawing.background(rng)
    detail = _pick(rng, ("fill", "direction", "color"))
    shapes = _several(rng, SHAPES, 4)
    target = "arrow" if detail == "direction" else shapes[0]
    radii = [float(r) for r in rng.uniform(22, 30, int(rng.integers(3, 5)))]
    centers = drawing.scatter(rng, radii)
    wanted = [(shape, _pick(rng, COLORS), r) for shape, r in zip(shapes[1:], radii[1:], strict=False)]
    others = _distractors(canvas, wanted, centers[1:])
    colors = _several(rng, COLORS, 2)
    opposite = _pick(rng, (("up", "down"), ("left", "right")))
    names = {"fill": ("solid", "hollow"), "direction": opposite, "color": tuple(colors)}[detail]
    first = int(rng.integers(2))  # which of the two the first member shows
    shown = names[first ^ member]
    color, direction = shown if detail == "color" else colors[0], shown if detail == "direction" else None
    on, size, hollow = drawing.surface(canvas, boxed), "small" if radii[0] < 24 else "large", shown == "hollow"
    asked_about = drawing.paint(on, target, *centers[0], radii[0], color, size=size, hollow=hollow, direction=direction)
    verb = "pointing " if detail == "direction" else ""
    image = drawing.finish(canvas, rng)
    question, answer = f"Is the {target} {verb}{names[0]} or {names[1]}?", f"the {target} is {verb}{shown}"
    return Scene(
        "", "pairs", image, question, answer, (asked_about.box,), (*others, asked_about), tuple(_several(rng, names, 2))
    )


DECIDING = ((0, 2), (1, 2), (2, 0), (2, 1))  # the column and the row of the missing cell, (2, 2)


def iq(rng: np.random.Generator, *, boxed: bool = True) -> Scene:
    """Pattern completion: a 3 × 3 matrix whose rows share one property and whose columns share the other."""
    canvas = drawing.background(rng)
    colors, shapes = _several(rng, COLORS, 3), _several(rng, SHAPES, 3)
    color_by_row = bool(rng.random() < 0.5)
    step = SIDE / 3
    things: list[Thing] = []
    for r in range(3):
        for c in range(3):
            x, y = (c + 0.5) * step + rng.uniform(-3, 3), (r + 0.5) * step + rng.uniform(-3, 3)
            color, shape = (colors[r], shapes[c]) if color_by_row else (colors[c], shapes[r])
            if (r, c) == (2, 2):
                things.append(drawing.marker(canvas, "?", x, y, 26))
            else:
                on = drawing.surface(canvas, boxed or (r, c) not in DECIDING)
                things.append(drawing.paint(on, shape, x, y, float(rng.uniform(24, 29)), color, size="large"))
    article = "an" if color.startswith("o") else "a"
    phrases = [f"{k} {s}" for k in colors for s in shapes]
    image = drawing.finish(canvas, rng)
    question, answer = "Which shape is missing?", f"the missing shape is {article} {color} {shape}"
    boxes, options = tuple(things[3 * r + c].box for r, c in DECIDING), _options(rng, f"{color} {shape}", phrases)
    return Scene("", "iq", image, question, answer, boxes, tuple(things), options)


TASKS: dict[str, Callable[..., Scene]] = {
    "attribute": attribute,
    "relative_depth": relative_depth,
    "relative_reflectance": relative_reflectance,
    "spatial_relation": spatial_relation,
    "pairs": pairs,
    "iq": iq,
}
# What blind guessing over the possible answers scores, for reports that need a floor beside an accuracy.
CHANCE = dict.fromkeys(("relative_depth", "relative_reflectance", "pairs"), 1 / 2)
CHANCE |= {"attribute": 1 / 6, "spatial_relation": 1 / 4, "iq": 1 / 9}


def _on_canvas(x0: float, y0: float, x1: float, y1: float) -> Box:
    x0, y0, x1, y1 = (min(max(float(v), 0.0), float(SIDE)) for v in (x0, y0, x1, y1))
    return x0, y0, x1, y1


def scene(task: str, index: int, *, split: str = "heldout", seed: int = 0, boxed: bool = True) -> Scene:
    """Scene number `index` (0, 1, ..) of a task; every fourth one lists its options, the others are free-form.

    Two consecutive scenes of `pairs` share a pair id and differ in one detail. boxed: whether the things in the boxes,
    with their shadows and markers, are painted. ValueError for an unknown name, and without them for
    `relative_reflectance`, whose boxes hold parts of the one surface.
    """
    if task not in TASKS:
        raise ValueError(f"unknown scenes task {task!r}: expected one of {', '.join(TASKS)}")
    if split not in SPLITS:
        raise ValueError(f"unknown scenes split {split!r}: expected one of {', '.join(SPLITS)}")
    stream = index // 2 if task == "pairs" else index
    rng = np.random.default_rng([list(TASKS).index(task), SPLITS.index(split), seed, stream])
    if task == "relative_reflectance" and not boxed:
        raise ValueError("relative_reflectance: its boxes hold no object that could be left out")
    options = {} if boxed else {"boxed": False}
    drawn = pairs(rng, index % 2, **options) if task == "pairs" else TASKS[task](rng, **options)
    name = f"{task}-{split}-{seed}"
    return replace(
        drawn,
        id=f"{name}-{index:06d}",
        # An object may be cut by the border: its box is what can be seen of it.
        boxes=tuple(_on_canvas(*box) for box in drawn.boxes),
        options=drawn.options if stream % 4 == 3 else (),
        pair=f"{name}-pair{stream:06d}" if task == "pairs" else None,
    )


def scenes(
    tasks: Sequence[str] = tuple(TASKS), n: int | None = None, *, split: str = "heldout", seed: int = 0
) -> Iterator[Scene]:
    """`n` scenes (None: endless), the tasks taking turns, pairs two at a time so that no limit splits one early."""
    drawn = 0
    counts = dict.fromkeys(tasks, 0)
    while True:
        for task in tasks:
            for _ in range(2 if task == "pairs" else 1):
                if n is not None and drawn >= n:
                    return
                yield scene(task, counts[task], split=split, seed=seed)
                counts[task] += 1
                drawn += 1

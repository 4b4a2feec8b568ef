"""Attention painted on the pictures it belongs to, teacher beside student, on the tokens' true rectangles.

What is painted is density: mass per area relative to mass spread evenly over all pictures of the prompt
(1 = uniform). Unlike the weight of a token it does not depend on the grid, so one colour scale serves both models.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image, ImageOps
from skimage.color import rgb2gray
from skimage.transform import resize

from perception_gap.geometry import TokenGeometry
from perception_gap.store import Run
from reports.style import BOX, FLOOR, MUTED, NORMAL, PAGE, RC, STUDENT, TEACHER, new_figure, undefined

LONG_SIDE = 336  # pixels of a painted picture: finer than a panel of 1.4 inches shows at 150 dpi
COARSE = 24  # raster that stands in for the grid when tokens overlap and the picture is smoothed
Frame = tuple[float, float, float, float]  # left, right, bottom, top of a picture in its pixels, y down


class Panel(NamedTuple):
    """One model's map of one sample: title, run, weights [N], geometry of the N tokens."""

    title: str
    color: str
    weights: np.ndarray
    geometry: TokenGeometry


def density(
    weights: np.ndarray, geometry: TokenGeometry, rows: int, cols: int, n_images: int = 1, *, smooth: bool = False
) -> np.ndarray:
    """Attention density [n_images, rows, cols], 1 = uniform: the mean over all pictures is the mass that is on them.

    weights: [N], any positive scale. `smooth` interpolates bicubically, for display only: the mass of a
    picture stays, its place within the picture is blurred.
    NaN everywhere when the weights sum to 0 or are not finite.
    """
    total = float(np.sum(weights))
    if not np.isfinite(total) or total <= 0:
        return np.full((n_images, rows, cols), np.nan)
    coarse = (geometry.grid_shape or (COARSE, COARSE)) if smooth else (rows, cols)
    raster = geometry.rasterize(np.asarray(weights) / total, *coarse).reshape(-1, *coarse)
    raster = np.concatenate([raster, np.zeros((n_images - len(raster), *coarse))])  # pictures without tokens
    raster = raster * (coarse[0] * coarse[1] * n_images)
    if smooth:
        raster = np.stack([_smoothed(one, (rows, cols)) for one in raster])
    return raster


def _smoothed(raster: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bicubic interpolation to `shape` with the same mean and nothing below 0, which a cubic undershoots."""
    fine = resize(raster, shape, order=3, mode="edge").clip(0)
    return fine * (raster.mean() / fine.mean()) if fine.any() else fine


def top_tokens(weights: np.ndarray, geometry: TokenGeometry, k: int) -> np.ndarray:
    """Indices of the k heaviest tokens that cover a part of a picture, heaviest first."""
    visible = np.flatnonzero(geometry.areas > 0)
    return visible[np.argsort(-np.asarray(weights)[visible], kind="stable")][:k]


def most_divergent(samples: pd.DataFrame, k: int) -> pd.DataFrame:
    """The k valid rows of largest KL, one of each task before a second of any, in falling order of KL."""
    ranked = samples[(samples["status"] == "ok") & samples["kl"].notna()].sort_values(
        "kl", ascending=False, kind="stable"
    )
    turn = ranked.groupby("task", sort=False).cumcount().rename("turn")
    chosen = ranked.assign(turn=turn).sort_values(["turn", "kl"], ascending=[True, False], kind="stable")[:k]
    return chosen.drop(columns="turn").sort_values("kl", ascending=False, kind="stable")


def extreme_focus(samples: pd.DataFrame, k: int) -> pd.DataFrame:
    """Up to k valid rows: the lowest and the highest focus, rising; the first k when focus is undefined."""
    valid = samples[samples["status"] == "ok"]
    ranked = valid.dropna(subset=["focus_score"]).sort_values("focus_score", kind="stable")
    if ranked.empty:
        return valid[:k]
    return ranked if len(ranked) <= k else pd.concat([ranked[: k // 2], ranked[-(k - k // 2) :]])


@matplotlib.rc_context(RC)
def overlay_figure(run: Run, teacher: Run | None, k: int = 6, *, top_k: int = 8, smooth: bool = False) -> Figure:
    """image | teacher | student for the k samples where they differ most; image | model without a teacher.

    Both maps are those of the text the models share. Several pictures of a prompt are column groups side by side.
    """
    chosen = extreme_focus(run.samples, k) if teacher is None else most_divergent(run.samples, k)
    rows = [(row, panels) for _, row in chosen.iterrows() if (panels := _panels(run, teacher, row))]
    if not rows:
        figure = new_figure(PAGE, 1.5)
        undefined(figure.subplots(), "no map to paint")
        return figure
    groups = max(len(row["images"]) for row, _ in rows)
    width = 1 + (1 if teacher is None else 2)
    heights = [_row_height(row) for row, _ in rows]
    ratios = [*([1.0] * groups * width), 0.06, 1.75]
    figure = new_figure(1.38 * sum(ratios) + 0.5, sum(heights) * 1.38 + 0.62)
    cells = figure.subplots(len(rows), len(ratios), width_ratios=ratios, height_ratios=heights, squeeze=False)
    for line, (row, panels) in zip(cells, rows, strict=True):
        _draw_row(figure, line, run, teacher, row, panels, top_k=top_k, smooth=smooth)
    for group in range(groups):
        number = f" {group + 1}" if groups > 1 else ""
        titles = [("image" + number, "black"), *((panel.title + number, panel.color) for panel in rows[0][1])]
        for offset, (title, color) in enumerate(titles):
            cells[0, group * width + offset].set_title(title, color=color, loc="center")
    choice = "Largest KL. Maps: both models on one text; focus: own answer"
    if teacher is None:
        choice = "The first samples" if chosen["focus_score"].isna().all() else "Lowest to highest focus"
    _explain(figure, choice, top_k, no_boxes=all(len(row["boxes"]) == 0 for row, _ in rows))
    return figure


def _row_height(row: pd.Series) -> float:
    """Height of a row of panels in panel widths; the text beside it needs at least 0.95 of one."""
    tallest = max(h / w for h, w in zip(row["heights"], row["widths"], strict=True))
    return float(np.clip(tallest, 0.95, 1.6))


def _panels(run: Run, teacher: Run | None, row: pd.Series) -> list[Panel]:
    """The maps to paint, on the text that both models share with a teacher; [] when one is missing."""
    models = [("model", STUDENT, run, "own")]
    if teacher is not None:
        # On the teacher's text its own map is the shared one; on the reference both have a shared map.
        kind = "own" if run.info["settings"]["text"] == "teacher" else "shared"
        models = [("teacher", TEACHER, teacher, kind), ("student", STUDENT, run, "shared")]
    found = []
    for title, color, source, kind in models:
        weights = source.map(row["sample_id"], kind)
        if weights is None:
            return []
        found.append(Panel(title, color, weights, source.geometry(row["sample_id"])))
    return found


def _draw_row(
    figure: Figure, cells: np.ndarray, run: Run, teacher: Run | None, row: pd.Series, panels: list[Panel], *,
    top_k: int, smooth: bool,
) -> None:  # fmt: skip
    *axes, bar, words = cells
    for ax in (*axes, words):
        ax.set_axis_off()
    n_images, width = len(row["images"]), 1 + len(panels)
    fine = _raster_shape(row)
    painted = [density(p.weights, p.geometry, *fine, n_images, smooth=smooth) for p in panels]
    known = [float(np.nanmax(d)) for d in painted if np.isfinite(d).any()]
    # Square-root scale: a map on one token and a nearly uniform one are both readable on one scale.
    norm = PowerNorm(0.5, 0, max([*known, 1.0]))
    boxes = np.asarray(row["boxes"], dtype=float).reshape(-1, 4)
    for i in range(n_images):
        frame = (0.0, float(row["widths"][i]), float(row["heights"][i]), 0.0)
        picture = _read(run.path / Path(row["images"][i]), fine)
        here = boxes[np.asarray(row["box_images"], dtype=int) == i]
        group = axes[i * width : (i + 1) * width]
        _show_picture(group[0], picture, frame, row["images"][i])
        _outline(group[0], here, BOX, 1.3)
        for ax, panel, values in zip(group[1:], panels, painted, strict=True):
            _show_attention(ax, picture, values[i], frame, norm)
            strongest = [t for t in top_tokens(panel.weights, panel.geometry, top_k) if panel.geometry.image[t] == i]
            scale = np.array([frame[1], frame[2], frame[1], frame[2]])
            _outline(ax, panel.geometry.boxes[strongest] * scale, "white", 0.7)
            _outline(ax, here, BOX, 1.3)
    scale_bar = figure.colorbar(matplotlib.cm.ScalarMappable(norm, _see_through()), cax=bar)
    bar.set_facecolor("0.35")  # a middle tone of the dimmed pictures that the colours lie on
    scale_bar.outline.set_linewidth(0.4)
    scale_bar.set_label("attention (1 = uniform)", labelpad=2)
    _write_words(words, row, None if teacher is None else _same_sample(teacher, row["sample_id"]))


def _raster_shape(row: pd.Series) -> tuple[int, int]:
    """(rows, cols) of the painted pictures of a sample: the first picture's aspect, its long side `LONG_SIDE`."""
    height, width = float(row["heights"][0]), float(row["widths"][0])
    scale = LONG_SIDE / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _read(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The picture as float RGB [rows, cols, 3] in 0..1, or None when the file is gone or cannot be read."""
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)  # as the model saw it
            pixels = np.asarray(upright.convert("RGB"), dtype=np.float64) / 255
    except OSError:
        return None
    return resize(pixels, shape, anti_aliasing=True).clip(0, 1)


def _see_through() -> Colormap:
    """Magma whose opacity rises with the value, so that the picture stays visible where little attention lies."""
    value = np.linspace(0, 1, 256)
    colors = matplotlib.colormaps["magma"](0.25 + 0.75 * value)
    colors[:, 3] = 0.8 * value**0.8
    return ListedColormap(colors)


def _show_picture(ax: Axes, picture: np.ndarray | None, frame: Frame, name: Any) -> None:
    if picture is None:
        ax.text(0.5, 0.5, f"picture not found:\n{Path(name).name}", ha="center", va="center", color=MUTED,
                transform=ax.transAxes, parse_math=False)  # fmt: skip
        ax.imshow(np.full((1, 1, 3), 0.93), extent=frame)
    else:
        ax.imshow(picture, extent=frame)


def _show_attention(ax: Axes, picture: np.ndarray | None, values: np.ndarray, frame: Frame, norm: Normalize) -> None:
    grey = np.full((1, 1), 0.5) if picture is None else rgb2gray(picture)
    # Dimmed and without colour, so that the only colour in the panel is attention.
    ax.imshow(0.6 * grey, cmap="gray", vmin=0, vmax=1, extent=frame)
    ax.imshow(values, cmap=_see_through(), norm=norm, extent=frame, interpolation="nearest", gid="attention")
    if not np.isfinite(values).any():
        ax.text(0.5, 0.5, "undefined: no mass", color="white", ha="center", va="center", transform=ax.transAxes)


def _outline(ax: Axes, boxes: np.ndarray, color: str, width: float) -> None:
    """Outline xyxy boxes of the picture's pixels."""
    halo = [withStroke(linewidth=width + 0.9, foreground="black", alpha=0.6)]
    for x0, y0, x1, y1 in boxes:
        ax.add_patch(
            Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=color, lw=width, path_effects=halo, clip_on=False)
        )


def _same_sample(run: Run, sample_id: str) -> pd.Series | None:
    rows = run.samples[run.samples["sample_id"] == sample_id]
    return None if rows.empty else rows.iloc[0]


def _write_words(ax: Axes, row: pd.Series, teacher: pd.Series | None) -> None:
    """Question, reference, both answers with their mark and focus, and the KL of the maps, one under the other."""
    lines: list[tuple[str, str, bool]] = [(text, "black", True) for text in _wrapped(row["question"], 3)]
    lines += [(text, MUTED, False) for text in _wrapped(f"reference: {row['reference']}", 2)]
    spoken = [("model", STUDENT, row)]
    if teacher is not None:
        spoken = [("teacher", TEACHER, teacher), ("student", STUDENT, row)]
    for name, color, one in spoken:
        mark = "–" if pd.isna(one["correct"]) else ("✓" if one["correct"] else "✗")
        focus = "undefined" if pd.isna(one["focus_score"]) else f"{100 * one['focus_score']:.1f} %"
        lines.append((f"{name} {mark}  focus {focus}", color, True))
        lines += [(text, "black", False) for text in _wrapped(one["answer"] or "(empty answer)", 2)]
    if teacher is not None:
        lines.append((f"KL(teacher ‖ student) = {row['kl']:.2f} nats", "black", False))
    for i, (text, color, bold) in enumerate(lines):
        ax.annotate(
            text, (0, 1), xycoords="axes fraction", xytext=(2, -9 * i), textcoords="offset points", va="top",
            color=color, weight="bold" if bold else "normal", parse_math=False, annotation_clip=False,
        )  # fmt: skip


def _wrapped(text: Any, lines: int, width: int = 36) -> list[str]:
    return textwrap.wrap(str(text), width, max_lines=lines, placeholder=" …", break_long_words=True)


def _explain(figure: Figure, choice: str, top_k: int, *, no_boxes: bool) -> None:
    """Under the pictures: how the samples were chosen and what the outlines are."""
    handles = [
        Rectangle(
            (0, 0), 1, 1, fill=False, ec=BOX, lw=1.3, label="reference box (none here)" if no_boxes else "reference box"
        ),
        Rectangle((0, 0), 1, 1, fc=FLOOR, ec="white", lw=0.7, label=f"the {top_k} strongest tokens"),
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=2, title=choice, alignment="left",
                  title_fontsize=NORMAL - 1, handlelength=1.2, handleheight=1.0)  # fmt: skip

"""How far the hidden states of two models lie apart.

Two independently trained models write into bases that have nothing to do with each other, and usually of
different width: the cosine between their raw states says nothing. Here a rotation from the student's basis to
the teacher's is fitted first (PCA of each, then orthogonal Procrustes), always on OTHER samples than those it
is judged on: fitted on the same rows, a rotation of enough dimensions makes even independent noise agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.linalg import eigh, orthogonal_procrustes

from perception_gap.metrics._arrays import to_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from perception_gap.metrics._arrays import Values

# Directions whose singular value is below this share of the largest count as rounding, not variance: their
# axes, taken from a Gram matrix in float64, would no longer be orthonormal.
_RANK_TOLERANCE = 1e-5


def cosine_distance(a: Values, b: Values) -> float:
    """1 − cos(a, b), 0..2, of two vectors [D] in ONE basis. NaN for a zero or non-finite vector."""
    first, second = to_array(a), to_array(b)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"vectors of shapes {first.shape} and {second.shape}: expected the same [D]")
    return float(_row_distance(first[None], second[None])[0])


def aligned_cosine_distance(
    teacher: Values,
    student: Values,
    groups: ArrayLike,
    *,
    others: ArrayLike | None = None,
    folds: int = 2,
    max_dim: int = 128,
    seed: int = 0,
) -> np.ndarray:
    """[M], 0..2: cosine distance of each row after `align`, whose arguments these are.

    0: the states agree up to a rotation. About 1: no relation, as far as the training rows can tell. Few rows
    give a poor rotation and so larger distances: compare with the floor (`others`) on the same rows. NaN
    where undefined.
    """
    aligned = align(teacher, student, groups, others=others, folds=folds, max_dim=max_dim, seed=seed)
    return _row_distance(*aligned)


def align(
    teacher: Values,
    student: Values,
    groups: ArrayLike,
    *,
    others: ArrayLike | None = None,
    folds: int = 2,
    max_dim: int = 128,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Bring both models' states into one space by cross-fitted orthogonal Procrustes: [M, d] and [M, d].

    teacher: [M, Dt], student: [M, Ds]; row m of both belongs to the same token. groups: [M], the sample (or
    image) of each row; the rows of one group never lie on both sides of a split.
    others: int [M], for a floor: the row whose TEACHER state takes the place of row m's own, e.g. the same
    kind of word in another sample; negative where there is none. The fit still uses the true pairs.

    The groups are dealt into `folds` parts by `seed` (at most one part per group). For each part, on the rows
    of the other parts: centre both, PCA each to d, rotate the student's components onto the teacher's; then
    apply to the part. d is the same for all parts: the least of max_dim, Dt, Ds, training rows − 1, numerical
    ranks. Each part has its own axes: compare a row of one result with the SAME row of the other only.
    Rows with a non-finite value, or without an `others`, are NaN; with fewer than two groups, or without
    variance, all rows are NaN ([M, 1]). Shapes that do not fit raise ValueError.
    """
    target, source = to_array(teacher), to_array(student)
    labels = _checked_groups(target, source, groups, folds, max_dim)
    partner = _checked_partner(others, len(labels))
    usable = np.isfinite(target).all(axis=1) & np.isfinite(source).all(axis=1)
    fold = _deal(labels, usable, folds, seed)
    fits = []
    for part in range(fold.max(initial=-1) + 1):
        training = (fold >= 0) & (fold != part)
        fits.append((_pca(target[training], max_dim), _pca(source[training], max_dim)))
    dim = min((axes.shape[1] for fit in fits for axes in (fit[0].axes, fit[1].axes)), default=0)
    teacher_aligned, student_aligned = np.full((2, len(labels), max(dim, 1)), np.nan)
    if dim == 0:
        return teacher_aligned, student_aligned
    for part, (to_teacher, to_student) in enumerate(fits):
        rows = np.flatnonzero((fold == part) & (partner >= 0) & usable[partner])
        rotation, _ = orthogonal_procrustes(to_student.scores[:, :dim], to_teacher.scores[:, :dim])
        teacher_aligned[rows] = to_teacher.project(target[partner[rows]], dim)
        student_aligned[rows] = to_student.project(source[rows], dim) @ rotation
    return teacher_aligned, student_aligned


@dataclass(frozen=True)
class _Pca:
    """mean [D], axes [D, d] orthonormal by falling variance, scores [n, d] of the training rows."""

    mean: np.ndarray
    axes: np.ndarray
    scores: np.ndarray

    def project(self, rows: np.ndarray, dim: int) -> np.ndarray:
        scores: np.ndarray = (rows - self.mean) @ self.axes[:, :dim]
        return scores


def _pca(rows: np.ndarray, max_dim: int) -> _Pca:
    """d ≤ min(max_dim, D, n − 1, numerical rank).

    By the leading eigenvectors of the smaller Gram matrix, since a full SVD of thousands of states of
    thousands of dimensions takes minutes.
    """
    n, width = rows.shape
    limit = min(max_dim, width, n - 1)
    if limit < 1:
        return _Pca(np.zeros(width), np.zeros((width, 0)), np.zeros((n, 0)))
    mean = rows.mean(axis=0)
    centred = rows - mean
    gram = centred.T @ centred if width <= n else centred @ centred.T
    values, vectors = eigh(gram, subset_by_index=[len(gram) - limit, len(gram) - 1])
    values, vectors = values[::-1], vectors[:, ::-1]
    # Equal rows leave the rounding of their mean: no variance either.
    rounding = rows.size * (np.finfo(np.float64).eps * np.abs(rows).max()) ** 2
    keep = values > max(values[0] * _RANK_TOLERANCE**2, rounding)
    axes = vectors[:, keep]
    if width > n:
        axes = centred.T @ (axes / np.sqrt(values[keep]))
    return _Pca(mean, axes, centred @ axes)


def _checked_groups(
    teacher: np.ndarray, student: np.ndarray, groups: ArrayLike, folds: int, max_dim: int
) -> np.ndarray:
    labels = np.asarray(groups)
    if teacher.ndim != 2 or student.ndim != 2 or labels.shape != (len(teacher),) or len(student) != len(teacher):
        raise ValueError(
            f"hidden states of shapes {teacher.shape} and {student.shape} in groups of shape {labels.shape}: "
            "expected [M, Dt], [M, Ds] and [M]"
        )
    if folds < 2 or max_dim < 1:
        raise ValueError(f"folds = {folds}, max_dim = {max_dim}: expected at least 2 and at least 1")
    return labels


def _checked_partner(others: ArrayLike | None, n: int) -> np.ndarray:
    partner = np.arange(n) if others is None else np.asarray(others, dtype=np.int64)
    if partner.shape != (n,) or np.any(partner >= n):
        raise ValueError(f"others of shape {partner.shape}: expected a row number below {n} for each of {n} rows")
    return partner


def _deal(groups: np.ndarray, usable: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """[M]: the part of each row, −1 for a row that cannot be used; the same for any order of the rows."""
    codes, names = pd.factorize(groups[usable], sort=True)
    order = np.random.default_rng(seed).permutation(len(names))
    fold = np.full(len(groups), -1)
    fold[usable] = order[codes] % min(folds, max(len(names), 1))
    return fold


def _row_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 − cosine of each pair of rows, [M]; NaN for zero or non-finite rows."""
    distance = np.full(len(a), math.nan)
    defined = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1) & a.any(axis=1) & b.any(axis=1)
    # Scaled by the largest component first: squares of huge or tiny ones would overflow or vanish.
    first, second = (rows[defined] / np.abs(rows[defined]).max(axis=1, keepdims=True) for rows in (a, b))
    cosine = (first * second).sum(axis=1) / (np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1))
    distance[defined] = 1 - np.clip(cosine, -1, 1)
    return distance

"""How far the hidden states of each word lie apart in the two models, beside their floor."""

from __future__ import annotations

import numpy as np

from perception_gap.measure.partners import match_words
from perception_gap.measure.teacher import NOTHING, Comparison
from perception_gap.metrics import aligned_cosine_distance
from perception_gap.runs.parts import Parts

MOST_ALIGNED = 3000  # samples, which bounds the memory of the alignment
Word = tuple[str, int]  # sample, and which of its words


def aligned_states(comparison: Comparison, parts: Parts, seed: int) -> dict[str, np.ndarray]:
    """Hidden states [words, D] by sample, of all compared samples or of a seeded choice of MOST_ALIGNED of them."""
    chosen = set(comparison.rows)
    if len(chosen) > MOST_ALIGNED:
        chosen = set(np.random.default_rng(seed).choice(sorted(chosen), MOST_ALIGNED, replace=False).tolist())
    stored = parts.read([comparison.rows[i]["key"] for i in comparison.rows if i in chosen], kinds=("hidden",))
    return {row["sample_id"]: arrays["hidden"] for row, arrays in stored}


def cosine_by_word(comparison: Comparison, states: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Per sample, `cosine_distance` and `cosine_floor` of every word, after a cross-fitted orthogonal alignment.

    states: `aligned_states`. NaN where the teacher read other words, or has no states of them.
    """
    words: list[Word] = []
    student, teacher, groups = [], [], []
    for sample_id, hidden in states.items():
        theirs, row = comparison.teacher.hidden(sample_id), comparison.rows[sample_id]
        if theirs is None or comparison.teacher_words(sample_id)[0] != list(row["shared_words"]):
            continue
        words += [(sample_id, w) for w in range(len(hidden))]
        student += list(hidden)
        teacher += list(theirs)
        groups += [row["cluster"]] * len(hidden)
    names = ("cosine_distance", "cosine_floor")
    by_sample = {
        sample_id: {name: np.full(len(hidden), NOTHING) for name in names} for sample_id, hidden in states.items()
    }
    if not words:
        return by_sample
    place = {word: i for i, word in enumerate(words)}
    stand_ins = [_stand_in(comparison, *word) for word in words]
    others = [-1 if word is None else place.get(word, -1) for word in stand_ins]
    sides = np.asarray(teacher), np.asarray(student), groups
    # The aligned axes differ from fold to fold, so a floor is aligned as such, not put together from two folds.
    values = aligned_cosine_distance(*sides), aligned_cosine_distance(*sides, others=others)
    for name, of_words in zip(names, values, strict=True):
        for (sample_id, w), value in zip(words, of_words, strict=True):
            by_sample[sample_id][name][w] = value
    return by_sample


def _stand_in(comparison: Comparison, sample_id: str, word: int) -> Word | None:
    """The partner's word that stands in for this one in a floor; None where there is none."""
    partner = comparison.partner.get(sample_id)
    if partner is None:
        return None
    matched = match_words(comparison.rows[sample_id]["shared_categories"], comparison.teacher_words(partner)[1])[word]
    return None if matched is None else (partner, matched)

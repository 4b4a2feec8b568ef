import math

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group

from perception_gap.metrics import align, aligned_cosine_distance, cosine_distance

# A rotation, a PCA by Gram matrix and a Procrustes fit in float64: errors near 1e-13 of the states' scale.
ROTATED = 1e-9


def states(n: int, width: int, seed: int, decay: float = 0.9) -> np.ndarray:
    """Rows of falling variance, as hidden states are, off the origin."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, width)) * decay ** np.arange(width) @ ortho_group.rvs(width, random_state=seed) + 2


def naive_aligned(teacher, student, fold, dim):
    """The definition with a full SVD for each part and a loop over rows."""
    distance = np.full(len(teacher), np.nan)
    for part in np.unique(fold):
        train = fold != part
        axes, means = [], []
        for rows in (teacher, student):
            means.append(rows[train].mean(axis=0))
            axes.append(np.linalg.svd(rows[train] - means[-1], full_matrices=False)[2][:dim].T)
        t, s = ((rows[train] - m) @ a for rows, m, a in zip((teacher, student), means, axes, strict=True))
        rotation, _ = orthogonal_procrustes(s, t)
        for i in np.flatnonzero(~train):
            a, b = (teacher[i] - means[0]) @ axes[0], (student[i] - means[1]) @ axes[1] @ rotation
            distance[i] = 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    return distance


# --- one basis


def test_cosine_distance_by_hand():
    assert cosine_distance([1, 0], [0, 2]) == pytest.approx(1, abs=1e-12)
    assert cosine_distance([1, 2], [2, 4]) == pytest.approx(0, abs=1e-12)
    assert cosine_distance([1, 2], [-1, -2]) == pytest.approx(2, abs=1e-12)
    # Rounding leaves a cosine of 1 + 2e-16 for some of these.
    assert all(cosine_distance(v, v) >= 0 for v in np.random.default_rng(0).normal(size=(50, 7)))
    assert cosine_distance([1, 0], [1, 1]) == pytest.approx(1 - 1 / math.sqrt(2), abs=1e-12)


def test_cosine_distance_agrees_with_a_naive_loop_and_ignores_scale_order_and_dtype():
    a, b = np.random.default_rng(0).normal(size=(2, 50))
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    naive = 1 - dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    assert cosine_distance(a, b) == pytest.approx(naive, abs=1e-12)
    assert cosine_distance(b[::-1] * 1e-200, a[::-1] * 1e200) == pytest.approx(naive, abs=1e-12)
    tensor = torch.tensor(a, dtype=torch.bfloat16, requires_grad=True)
    assert cosine_distance(tensor, tensor) == pytest.approx(0, abs=1e-12)


@pytest.mark.filterwarnings("error")
def test_cosine_distance_is_undefined_for_zero_and_non_finite_vectors():
    for bad in ([0, 0], [math.nan, 1], [math.inf, 1]):
        assert math.isnan(cosine_distance(bad, [1, 1]))
        assert math.isnan(cosine_distance([1, 1], bad))
    with pytest.raises(ValueError, match=r"vectors of shapes \(2,\) and \(3,\)"):
        cosine_distance([1, 2], [1, 2, 3])


# --- two bases


def test_a_rotated_copy_has_distance_0_though_its_raw_cosine_says_unrelated():
    teacher = states(120, 24, seed=0)
    student = (teacher - 2) @ ortho_group.rvs(24, random_state=1) * 3 + 5
    distance = aligned_cosine_distance(teacher, student, np.arange(120))
    np.testing.assert_allclose(distance, 0, atol=ROTATED)
    raw = [cosine_distance(t, s) for t, s in zip(teacher - 2, student - 5, strict=True)]
    assert np.mean(raw) > 0.5


def test_a_rotated_copy_in_a_wider_basis_has_distance_0():
    teacher = states(120, 16, seed=0)
    student = teacher @ ortho_group.rvs(40, random_state=1)[:16]
    assert align(teacher, student, np.arange(120))[0].shape == (120, 16)
    np.testing.assert_allclose(aligned_cosine_distance(teacher, student, np.arange(120)), 0, atol=ROTATED)


def test_a_rotated_copy_has_distance_0_with_fewer_rows_than_dimensions_and_reduced():
    teacher = states(30, 64, seed=0)
    student = teacher @ ortho_group.rvs(64, random_state=1)
    for max_dim in (128, 5):
        distance = aligned_cosine_distance(teacher, student, np.arange(30), max_dim=max_dim)
        np.testing.assert_allclose(distance, 0, atol=1e-6)


def test_independent_noise_has_distance_about_1():
    teacher, student = states(400, 24, seed=0), states(400, 20, seed=1)
    distance = aligned_cosine_distance(teacher, student, np.arange(400))
    # Cosines of unrelated vectors with about ten effective dimensions spread by 0.3: the mean of 400 by 0.016.
    assert np.mean(distance) == pytest.approx(1, abs=0.06)


def test_a_fit_on_the_rows_it_is_judged_on_would_call_noise_alike():
    teacher, student = states(60, 24, seed=0, decay=1), states(60, 24, seed=1, decay=1)
    t, s = teacher - teacher.mean(axis=0), student - student.mean(axis=0)
    rotation, _ = orthogonal_procrustes(s, t)
    in_sample = np.mean([cosine_distance(a, b) for a, b in zip(t, s @ rotation, strict=True)])
    crossed = np.mean(aligned_cosine_distance(teacher, student, np.arange(60)))
    assert in_sample < 0.7
    assert crossed == pytest.approx(1, abs=0.1)


def test_distance_grows_with_the_noise_that_is_added():
    teacher = states(300, 16, seed=0)
    noise = states(300, 16, seed=1) - 2
    rotated = teacher @ ortho_group.rvs(16, random_state=2)
    means = [np.mean(aligned_cosine_distance(teacher, rotated + k * noise, np.arange(300))) for k in (0, 0.3, 1, 3)]
    assert means == sorted(means)
    assert means[0] < 0.01 < 0.02 < means[1]
    # Signal and noise of equal variance: cosine 1 / √2, less what the fit loses.
    assert means[2] == pytest.approx(1 - 1 / math.sqrt(2), abs=0.1)


def test_the_student_may_be_rotated_moved_and_scaled_without_a_change():
    teacher, student = states(80, 12, seed=0), states(80, 18, seed=1)
    student[:, :12] += teacher
    groups = np.repeat(np.arange(20), 4)
    distance = aligned_cosine_distance(teacher, student, groups)
    moved = student @ ortho_group.rvs(18, random_state=3) * 0.1 - 7
    np.testing.assert_allclose(aligned_cosine_distance(teacher, moved, groups), distance, atol=ROTATED)
    assert 0.05 < np.mean(distance) < 0.95


def test_the_order_of_rows_does_not_matter():
    teacher, student = states(60, 10, seed=0), states(60, 8, seed=1)
    groups = np.array([f"s{i // 3}" for i in range(60)])
    order = np.random.default_rng(0).permutation(60)
    distance = aligned_cosine_distance(teacher, student, groups)
    shuffled = aligned_cosine_distance(teacher[order], student[order], groups[order])
    np.testing.assert_allclose(shuffled, distance[order], atol=ROTATED)


def test_two_groups_give_what_the_naive_definition_gives_and_never_train_on_themselves():
    teacher, student = states(50, 9, seed=0), states(50, 14, seed=1)
    student[:, :9] += 2 * teacher
    fold = np.arange(50) % 2
    # Two groups in two parts are the parts themselves, whatever the seed.
    distance = aligned_cosine_distance(teacher, student, fold, max_dim=6)
    np.testing.assert_allclose(distance, naive_aligned(teacher, student, fold, 6), atol=ROTATED)


def test_one_part_per_group_gives_the_naive_leave_one_group_out():
    teacher, student = states(40, 9, seed=0), states(40, 7, seed=1)
    groups = np.arange(40) // 8
    distance = aligned_cosine_distance(teacher, student, groups, folds=5)
    np.testing.assert_allclose(distance, naive_aligned(teacher, student, groups, 7), atol=ROTATED)
    # More parts than groups: one each.
    np.testing.assert_allclose(aligned_cosine_distance(teacher, student, groups, folds=99), distance, atol=ROTATED)


def test_rows_of_one_group_are_never_on_both_sides():
    # Every group is one state repeated: with a copy in the training rows, noise could be matched.
    teacher, student = (np.repeat(states(60, 12, seed=s, decay=1), 5, axis=0) for s in (0, 1))
    grouped = aligned_cosine_distance(teacher, student, np.repeat(np.arange(60), 5))
    split = aligned_cosine_distance(teacher, student, np.arange(300))
    assert np.mean(grouped) == pytest.approx(1, abs=0.12)
    assert np.mean(split) < np.mean(grouped) - 0.2


def test_the_floor_compares_with_the_teacher_of_another_row_in_the_same_space():
    teacher = states(100, 10, seed=0)
    student = teacher @ ortho_group.rvs(10, random_state=1)
    others = np.roll(np.arange(100), 7)
    own_teacher, own_student = align(teacher, student, np.arange(100))
    floor_teacher, floor_student = align(teacher, student, np.arange(100), others=others)
    np.testing.assert_array_equal(floor_student, own_student)
    assert not np.allclose(floor_teacher, own_teacher)
    same = aligned_cosine_distance(teacher, student, np.arange(100), others=np.arange(100))
    np.testing.assert_allclose(same, 0, atol=ROTATED)
    floor = aligned_cosine_distance(teacher, student, np.arange(100), others=others)
    assert np.mean(floor) == pytest.approx(1, abs=0.15)


def test_a_row_without_another_is_undefined_in_the_floor_alone():
    teacher, student = states(20, 4, seed=0), states(20, 4, seed=1)
    others = np.roll(np.arange(20), 1)
    others[5] = -1
    floor = aligned_cosine_distance(teacher, student, np.arange(20), others=others)
    assert np.flatnonzero(np.isnan(floor)).tolist() == [5]


@pytest.mark.filterwarnings("error")
def test_rows_that_are_not_finite_are_undefined_and_leave_the_others_alone():
    teacher, student = states(40, 6, seed=0), states(40, 6, seed=1)
    groups = np.arange(40) % 8
    without = aligned_cosine_distance(
        np.delete(teacher, [3, 9], 0), np.delete(student, [3, 9], 0), np.delete(groups, [3, 9])
    )
    teacher[3, 0], student[9, 2] = np.nan, np.inf
    distance = aligned_cosine_distance(teacher, student, groups)
    assert np.flatnonzero(np.isnan(distance)).tolist() == [3, 9]
    np.testing.assert_allclose(np.delete(distance, [3, 9]), without, atol=ROTATED)
    floor = aligned_cosine_distance(teacher, student, groups, others=np.roll(np.arange(40), 1))
    # Rows 4 and 10 would be compared with rows 3 and 9.
    assert np.flatnonzero(np.isnan(floor)).tolist() == [3, 4, 9, 10]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("teacher", "groups"),
    [
        (np.ones((6, 3)) * 0.1, np.arange(6)),  # no variance
        (np.arange(18.0).reshape(6, 3) ** 2, np.zeros(6)),  # one group
        (np.arange(6.0).reshape(2, 3), np.arange(2)),  # one training row
        (np.zeros((0, 3)), np.zeros(0)),
        (np.full((4, 3), np.nan), np.arange(4)),
    ],
)
def test_without_two_groups_or_variance_every_row_is_undefined(teacher, groups):
    distance = aligned_cosine_distance(teacher, teacher + 1, groups)
    assert distance.shape == (len(teacher),)
    assert np.isnan(distance).all()


def test_all_parts_share_one_dimension_and_low_rank_is_not_padded_with_noise():
    # Rank 3 in 12 dimensions: further axes would be rounding, free to point anywhere.
    teacher = states(40, 3, seed=0) @ ortho_group.rvs(12, random_state=0)[:3]
    student = teacher @ ortho_group.rvs(12, random_state=1)
    teacher_aligned, student_aligned = align(teacher, student, np.arange(40), folds=3)
    assert teacher_aligned.shape == student_aligned.shape == (40, 3)
    np.testing.assert_allclose(student_aligned, teacher_aligned, atol=ROTATED)
    # Uneven groups: the smallest training side (4 rows) decides for both parts.
    uneven = align(states(20, 12, seed=2), states(20, 12, seed=3), [0] * 4 + [1] * 16)
    assert uneven[0].shape == (20, 3)


def test_the_seed_decides_the_parts():
    teacher, student = states(40, 6, seed=0), states(40, 6, seed=1)
    first, again, other = (aligned_cosine_distance(teacher, student, np.arange(40), seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_tensors_in_half_precision_are_accepted():
    teacher = torch.tensor(states(60, 8, seed=0), requires_grad=True)
    student = teacher.detach().bfloat16()
    # bfloat16 rounds each component by up to 2^-9 of values around 2.
    assert np.max(aligned_cosine_distance(teacher, student, np.arange(60))) < 1e-3


def test_equal_rows_of_any_size_have_no_variance_but_that_of_rounding():
    for scale in (1e-9, 1 / 3, 1e9):
        rows = np.repeat(scale * np.random.default_rng(0).random((1, 5)), 14, axis=0)
        assert np.isnan(aligned_cosine_distance(rows, rows, np.arange(14))).all()


def test_two_folds_of_128_dimensions_by_seed_0_are_the_default():
    teacher, student, groups = (
        states(300, 140, seed=0, decay=0.99),
        states(300, 140, seed=1, decay=0.99),
        np.arange(300),
    )
    explicit = align(teacher, student, groups, folds=2, max_dim=128, seed=0)
    for mine, stated in zip(align(teacher, student, groups), explicit, strict=True):
        np.testing.assert_array_equal(mine, stated)
    np.testing.assert_array_equal(
        aligned_cosine_distance(teacher, student, groups),
        aligned_cosine_distance(teacher, student, groups, folds=2, max_dim=128, seed=0),
    )
    assert explicit[0].shape == (300, 128)
    single = align(teacher, student, groups, max_dim=1)[0]
    assert single.shape == (300, 1)
    assert np.isfinite(single).all()


def test_states_of_more_dimensions_than_rows_give_what_the_naive_definition_gives():
    teacher, student = states(24, 40, seed=0), states(24, 32, seed=1)
    groups = np.repeat([0, 1], 12)
    naive = naive_aligned(teacher, student, groups, 11)
    np.testing.assert_allclose(aligned_cosine_distance(teacher, student, groups), naive, atol=ROTATED)


def test_the_unit_of_the_states_does_not_matter():
    teacher, student = states(30, 8, seed=0), states(30, 8, seed=1)
    distance = aligned_cosine_distance(teacher, student, np.arange(30))
    for scale in (1e-20, 1e20):
        scaled = aligned_cosine_distance(scale * teacher, student / scale, np.arange(30))
        np.testing.assert_allclose(scaled, distance, atol=ROTATED)


def test_shapes_and_settings_that_do_not_fit_are_refused():
    rows = states(6, 3, seed=0)
    with pytest.raises(ValueError, match=r"shapes \(6, 3\) and \(5, 3\) in groups of shape \(6,\)"):
        align(rows, rows[:5], np.arange(6))
    with pytest.raises(ValueError, match="groups of shape"):
        align(rows, rows, np.arange(5))
    with pytest.raises(ValueError, match="folds = 1"):
        align(rows, rows, np.arange(6), folds=1)
    with pytest.raises(ValueError, match="expected a row number below 6"):
        align(rows, rows, np.arange(6), others=[0, 1, 2, 3, 4, 6])

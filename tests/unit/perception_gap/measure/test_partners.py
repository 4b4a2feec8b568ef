"""Who stands in for whom in a floor."""

from perception_gap.measure.partners import match_words, partners


def rows(n: int, tasks=("a", "b"), per_cluster: int = 1) -> list[dict]:
    return [
        {"sample_id": f"s{i:03}", "task": tasks[i % len(tasks)], "cluster": f"c{i // per_cluster}"} for i in range(n)
    ]


def test_a_partner_is_another_picture_of_the_same_task():
    samples = rows(30, per_cluster=4)
    by_id = {r["sample_id"]: r for r in samples}
    partner_of = partners(samples, seed=3)
    assert len(partner_of) == 30
    for mine, other in partner_of.items():
        assert by_id[mine]["task"] == by_id[other]["task"]
        assert by_id[mine]["cluster"] != by_id[other]["cluster"]
    assert partner_of == partners(samples[::-1], seed=3)  # the order of rows does not matter
    assert partner_of != partners(samples, seed=4)
    # A floor is the same in every version.
    pinned = partners(rows(5, tasks=("a",)), seed=0)
    assert pinned == {"s000": "s003", "s003": "s004", "s004": "s001", "s001": "s002", "s002": "s000"}


def test_without_another_picture_there_is_no_partner():
    assert partners(rows(3, tasks=("a", "b", "c")), seed=0) == {}
    assert partners(rows(4, tasks=("a",), per_cluster=4), seed=0) == {}


def test_a_word_is_matched_with_one_of_its_category_by_rank():
    mine = ["functional", "attribute", "object", "functional", "functional", "attribute"]
    theirs = ["object", "functional", "other", "functional"]
    assert match_words(mine, theirs) == [1, None, 0, 3, 1, None]
    assert match_words(mine, []) == [None] * 6


def test_words_beyond_those_of_the_other_text_start_from_its_first_again():
    assert match_words(["object"] * 5, ["object", "functional", "object", "object"]) == [0, 2, 3, 0, 2]

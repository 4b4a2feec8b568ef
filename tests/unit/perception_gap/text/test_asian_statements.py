"""Chinese, Japanese, Korean and Thai answers: what they state, deny and leave open."""

import re

import pytest

from perception_gap.text.scoring import chosen_option, score

# reference: (right answers, wrong answers)
ANSWERS = {
    "红色": (
        """红色 | 这是红色的 | 答案是红色。 | 红色的 | 不是蓝色，是红色 | 「红色」 | 答案：红色 | 红 色
        星星是红色的。 | 不，是红色 | The answer is 红色.""",
        """不是红色 | 这不是红色的 | 深红色 | 红色或蓝色 | 红色和蓝色 | 红色、蓝色 | 红色，蓝色
        颜色是红色吗？ | 可能是红色也可能是蓝色""",
    ),
    "橙色": (
        "",
        "橙色三角形 | 缺失的形状是橙色三角形",
    ),
    "橙色三角形": (
        "缺失的形状是橙色三角形",
        "",
    ),
    "蓝色": (
        "",
        "红色或蓝色 | 红色还是蓝色 | 不是蓝色，是红色 | 可能是红色也可能是蓝色",
    ),
    "3": (
        "有三只猫 | 三",
        "",
    ),
    "三": (
        "3",
        "",
    ),
    "1": (
        "",
        "一样",
    ),
    "10": (
        "",
        "十二",
    ),
    "2": (
        "两个",
        "",
    ),
    "赤": (
        "赤です | 答えは赤です。 | これは赤です | はい、赤です | 星は赤です | 赤が正解です",
        """赤ではありません | 赤ではない | 赤ではなく青です | 赤か青です | 赤と青です | 赤い星です | 赤、青
        赤じゃない | 赤ですか？""",
    ),
    "青": (
        "赤ではなく青です",
        "",
    ),
    "はい": (
        "はい、そうです",
        "",
    ),
    "アカ": (
        "ｱｶ",
        "",
    ),
    "東京タワー": (
        "東京 タワー",
        "",
    ),
    "빨간색": (
        "빨간색 | 빨간색입니다 | 답은 빨간색입니다. | 별은 빨간색이에요 | 빨간 색",
        "빨간색이 아닙니다 | 빨간색이 아니라 파란색입니다 | 빨간색 또는 파란색 | 빨간색과 파란색",
    ),
    "파란색": (
        "빨간색이 아니라 파란색입니다",
        "",
    ),
    "สีแดง": (
        "สีแดง | มันเป็นสีแดง | มันเป็นสีแดงครับ | คำตอบคือสีแดง",
        "ไม่ใช่สีแดง | สีแดงหรือสีน้ำเงิน | ไม่เป็นสีแดง | สีแดงและสีน้ำเงิน",
    ),
    "red": (
        "Ｒｅｄ。 | 答案是 red",
        "",
    ),
    "是": (
        "是的",
        "不是",
    ),
}


def _cases(table):
    return [
        (answer.strip(), reference, right)
        for reference, sides in table.items()
        for right, answers in zip((True, False), sides, strict=True)
        for answer in re.split(r" \| |\n", answers)
        if answer.strip()
    ]


@pytest.mark.parametrize(("answer", "reference", "right"), _cases(ANSWERS))
def test_answer_is_right_if_a_clause_states_the_reference(answer, reference, right):
    assert score(answer, reference) is right


@pytest.mark.parametrize(("answer", "reference", "right"), _cases(ANSWERS))
def test_full_width_marks_and_tags_change_no_verdict(answer, reference, right):
    wide = answer.replace("。", "｡").replace("?", "？").replace(",", "，")
    assert score(f"<answer> {wide} </answer>", f"<answer>{reference}</answer>") is right


@pytest.mark.parametrize(
    ("text", "options", "index"),
    [
        ("这是红色的", ("红色", "蓝色"), 0),
        ("不是红色，是蓝色", ("红色", "蓝色"), 1),
        ("答案是深红色", ("红色", "深红色"), 1),
        ("红色或蓝色", ("红色", "蓝色"), None),
        ("答えは赤です", ("青", "赤"), 1),
        ("B", ("青", "赤"), 1),
    ],
)
def test_option_of_an_answer_without_blanks(text, options, index):
    assert chosen_option(text, options) == index

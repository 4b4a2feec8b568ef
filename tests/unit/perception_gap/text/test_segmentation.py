"""Words of scripts without blanks."""

import pytest
from transformers import AutoTokenizer

from perception_gap.text.categories import token_spans, tokens_of_words, words
from perception_gap.text.segmentation import closed_up, word_spans
from perception_gap.tiny import WEIGHTS

SPLIT = {
    "这是红色的": "这 是 红色 的",
    "缺失的形状是橙色三角形": "缺失 的 形状 是 橙色 三角形",
    "これは赤い星です": "これ は 赤い 星 です",
    "มันเป็นสีแดง": "มัน เป็น สี แดง",
    "𠮷野家へ行く": "𠮷 野家 へ 行く",
}


@pytest.mark.parametrize(("text", "split"), SPLIT.items())
def test_word_spans(text, split):
    assert [text[a:b] for a, b in word_spans(text)] == split.split()


@pytest.mark.parametrize(("text", "split"), SPLIT.items())
def test_words_of_an_answer_are_those_of_the_dictionary_wherever_it_stands(text, split):
    found = words(f"😀 It says {text}。{text}", "hanta")
    assert [w.text for w in found] == ["It", "says", *split.split(), *split.split()]
    assert all(f"😀 It says {text}。{text}"[w.start : w.end] == w.text for w in found)


def test_korean_and_latin_words_keep_their_blanks():
    assert [w.text for w in words("빨간색입니다 a well-known star", "hanta")] == [
        "빨간색입니다",
        "a",
        "well-known",
        "star",
    ]


def test_closed_up_takes_blanks_out_between_asian_letters_only():
    assert closed_up("东 京 tower 塔 1 号 red 빨간 색") == "东京 tower 塔 1 号 red 빨간색"


@pytest.mark.parametrize("text", SPLIT)
def test_every_word_has_a_token_of_a_tokenizer_that_spells_by_bytes(text):
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / "student")
    ids = tokenizer(text, add_special_tokens=False).input_ids
    groups = tokens_of_words(words(text, "hanta"), token_spans(tokenizer, ids))
    assert all(groups)
    assert len({token for group in groups for token in group}) == sum(map(len, groups))

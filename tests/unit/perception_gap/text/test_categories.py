"""Words, categories and the tokens that spell them, on real sentences and three real tokenizers."""

import importlib.util
import itertools

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from perception_gap.data.scenes import TASKS, scene
from perception_gap.errors import UsageError
from perception_gap.text import categories
from perception_gap.text.categories import CATEGORIES, Word, token_spans, tokens_of_words, words

SENTENCES = {
    "the small star is red": "F A O F A",
    "point a is closer": "O O F A",
    "Is it point a or point b?": "F F O O F O O",
    "the circle is left of the cross": "F O F A F F O",
    "the square is below the cross": "F O F A F O",
    "the missing shape is an orange star": "F A O F F A O",
    "A man in a blue shirt is holding two red umbrellas.": "F O F F A O F - - A O",
    "The taller building stands next to the well-known café.": "F A O - A F F A O",
    "There is no dog, it isn't there.": "F F F O F F F",
    "The man’s hat is dark-blue": "F O O F A",
    "red": "A",
}
KEYS = {"F": "functional", "O": "object", "A": "attribute", "-": "other"}


@pytest.mark.parametrize(("text", "expected"), SENTENCES.items())
def test_words_have_their_category(text, expected):
    assert [w.category for w in words(text, "hanta")] == [KEYS[k] for k in expected.split()]


@pytest.mark.parametrize(
    "text",
    [
        *SENTENCES,
        "",
        " .. ",
        "I can't see cafe\u0301 हिन्दी 图片 ❤️ x_y",
        "a\r\n\tb",
        "3.5 km, U.S.A.",
        "x" * 3000,
        "a – b—c 'd'",
    ],
)
def test_words_stand_in_the_text_in_order_without_overlap(text):
    found = words(text, "hanta")
    assert all(text[w.start : w.end] == w.text and w.category in CATEGORIES for w in found)
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))
    left_over = set(range(len(text))) - {i for w in found for i in range(w.start, w.end)}
    assert not any(text[i].isalnum() for i in left_over)


def test_combining_marks_and_inner_hyphens_and_apostrophes_stay_in_a_word():
    assert [w.text for w in words("cafe\u0301 हिन्दी isn't left-most 'quoted' -x", "hanta")] == [
        "cafe\u0301", "हिन्दी", "isn't", "left-most", "quoted", "x",
    ]  # fmt: skip


def test_every_word_of_the_scenes_answers_has_one_category_but_the_label_a():
    seen: dict[str, set[str]] = {}
    for task, i in itertools.product(TASKS, range(16)):
        for found in words(scene(task, i).answer, "hanta"):
            seen.setdefault(found.text, set()).add(found.category)
    assert seen.pop("a") == {"functional", "object"}
    one = {word: category for word, (category,) in seen.items()}
    assert {one[w] for w in ("the", "an", "is", "of")} == {"functional"}
    assert {one[w] for w in ("star", "cross", "square", "triangle", "circle", "arrow", "point", "b", "shape")} == {
        "object"
    }
    assert {w for w, c in one.items() if c == "other"} <= {"pointing"}
    for word in ("red", "orange", "small", "hollow", "left", "right", "above", "below", "closer", "darker"):
        assert one[word] == "attribute"


def test_category_of_a_word_does_not_depend_on_its_letter_case_or_other_sentences():
    alone = [w.category for w in words("the small star is red", "hanta")]
    assert [w.category for w in words("The small star is RED. Point a is closer.", "hanta")][:5] == alone
    assert [w.category for w in words("Point a is closer.\nthe small star is red", "hanta")][4:] == alone


def test_unknown_tagger_is_named_with_the_known_ones():
    with pytest.raises(UsageError, match=r"'nltk'.*auto, hanta, spacy"):
        words("red", "nltk")


@pytest.mark.skipif(importlib.util.find_spec("spacy") is not None, reason="speaks of spaCy's absence")
def test_without_spacy_auto_falls_back_to_hanta_and_spacy_says_how_to_install_it():
    assert categories.tagger_name("auto").startswith("HanTa 1.")
    with pytest.raises(UsageError, match="pip install spacy"):
        words("red", "spacy")


def _word(start, end):
    return Word("x" * (end - start), start, end, "other")


def test_token_belongs_to_the_word_it_overlaps_most_and_to_the_first_of_equals():
    two = [_word(0, 3), _word(4, 9)]
    # by hand: "the small": [the][ small] | [th][e sm][all] | [the s] | [the smal] | punctuation and blanks
    assert tokens_of_words(two, [(0, 3), (3, 9)]) == [[0], [1]]
    assert tokens_of_words(two, [(0, 2), (2, 6), (6, 9)]) == [[0], [1, 2]]
    assert tokens_of_words(two, [(0, 5), (5, 9)]) == [[0], [1]]
    assert tokens_of_words(two, [(0, 8), (8, 9)]) == [[], [0, 1]]
    assert tokens_of_words(two, [(2, 5)]) == [[0], []]  # one character of each
    assert tokens_of_words(two, [(0, 0), (3, 4), (5, 5), (9, 12)]) == [[], []]
    assert tokens_of_words([], [(0, 3)]) == []


def test_tokens_of_words_equal_a_naive_search_over_all_pairs():
    rng = np.random.default_rng(0)
    for _ in range(200):
        cuts = np.sort(rng.choice(60, 12, replace=False))
        some = [_word(int(a), int(b)) for a, b in cuts.reshape(-1, 2)]
        spans = [(int(a), int(b)) for a, b in np.sort(rng.integers(0, 60, (15, 2)), axis=1)]
        naive: list[list[int]] = [[] for _ in some]
        for token, (start, end) in enumerate(spans):
            overlaps = [max(0, min(end, w.end) - max(start, w.start)) for w in some]
            if max(overlaps) > 0:
                naive[overlaps.index(max(overlaps))].append(token)
        assert tokens_of_words(some, spans) == naive


def _metaspace():
    """Sentencepiece-like: "▁" in front of words, the first blank stripped when decoding, a special token in front."""
    from transformers import PreTrainedTokenizerFast

    built = Tokenizer(models.BPE(unk_token="<unk>"))
    built.pre_tokenizer = pre_tokenizers.Metaspace()
    built.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<s>"], show_progress=False)
    built.train_from_iterator([*SENTENCES] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=built, bos_token="<s>", unk_token="<unk>")


@pytest.fixture(scope="module")
def tokenizers():
    from scripts.embedded.build import tokenizer

    return {
        "merged": tokenizer([*SENTENCES] * 3, vocab_size=500),
        "bytes": tokenizer([], vocab_size=263),  # 256 bytes and 7 special tokens: no merges
        "metaspace": _metaspace(),
    }


@pytest.mark.parametrize("name", ["merged", "bytes", "metaspace"])
@pytest.mark.parametrize("text", SENTENCES)
def test_token_spans_cover_the_decoded_text_without_gap_or_overlap(tokenizers, name, text):
    tokenizer = tokenizers[name]
    ids = tokenizer.encode(text, add_special_tokens=False)
    spans = token_spans(tokenizer, ids)
    decoded = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert decoded == text
    assert [a for a, _ in spans] == [0, *(b for _, b in spans[:-1])]
    assert spans[-1][1] == len(text)
    assert all(a <= b for a, b in spans)


@pytest.mark.parametrize("text", SENTENCES)
def test_genuinely_different_tokenizers_give_the_same_words(tokenizers, text):
    partitions, lengths = {}, {}
    for name, tokenizer in tokenizers.items():
        ids = tokenizer.encode(text, add_special_tokens=False)
        spans, found = token_spans(tokenizer, ids), words(text, "hanta")
        members = tokens_of_words(found, spans)
        assert len(set(itertools.chain(*members))) == sum(map(len, members))
        # What a word's tokens spell, blanks before it aside, is the word.
        partitions[name] = [text[spans[m[0]][0] : spans[m[-1]][1]].strip(" ") for m in members]
        lengths[name] = len(ids)
    assert lengths["bytes"] == len(text.encode()) > lengths["merged"]
    for name, spelled in partitions.items():
        exact = [w.text for w in words(text, "hanta")]
        assert [s.rstrip(".,?") for s in spelled] == exact, name


def test_token_with_leading_blank_and_several_pieces_of_a_word_are_found(tokenizers):
    text = "the small star is red"
    for name in ("merged", "metaspace"):
        ids = tokenizers[name].encode(text, add_special_tokens=False)
        spans = token_spans(tokenizers[name], ids)
        assert tokens_of_words(words(text, "hanta"), spans) == [[0], [1], [2], [3], [4]]
        assert spans == [(0, 3), (3, 9), (9, 14), (14, 17), (17, 21)]
    spans = token_spans(tokenizers["bytes"], tokenizers["bytes"].encode(text))
    assert tokens_of_words(words(text, "hanta"), spans)[1] == [4, 5, 6, 7, 8]


def test_bytes_of_one_character_are_empty_until_it_is_complete(tokenizers):
    tokenizer = tokenizers["bytes"]
    ids = tokenizer.encode("é€!")
    assert token_spans(tokenizer, ids) == [(0, 0), (0, 1), (1, 1), (1, 1), (1, 2), (2, 3)]
    # A text cut inside a character decodes to a replacement character, which its bytes then stand for.
    cut = token_spans(tokenizer, ids[:3])
    assert cut[:2] == [(0, 0), (0, 1)]
    assert cut[-1][1] == len(tokenizer.decode(ids[:3]))


def test_special_tokens_have_empty_spans_wherever_they_stand(tokenizers):
    for name, special in (("merged", "<|im_end|>"), ("metaspace", "<s>")):
        tokenizer = tokenizers[name]
        extra = tokenizer.convert_tokens_to_ids(special)
        ids = tokenizer.encode("the small star", add_special_tokens=False)
        plain = token_spans(tokenizer, ids)
        spans = token_spans(tokenizer, [extra, *ids[:2], extra, *ids[2:], extra])
        assert [spans[i] for i in (0, 3, -1)] == [(0, 0), (plain[1][1],) * 2, (len("the small star"),) * 2]
        assert [spans[i] for i in range(len(spans)) if i not in (0, 3, len(spans) - 1)] == plain
    assert token_spans(tokenizers["merged"], []) == []


def test_blanks_before_punctuation_are_not_cleaned_away(tokenizers):
    text = "red , blue ."
    ids = tokenizers["merged"].encode(text)
    assert token_spans(tokenizers["merged"], ids)[-1][1] == len(text)

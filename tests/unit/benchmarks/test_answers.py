import pytest
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from PIL import Image

from benchmarks.answers import Answer, AnswerStore, images_hash, prompt_of, shown
from perception_gap.errors import GapcheckError

RED, BLUE = Image.new("RGB", (4, 3), "red"), Image.new("RGB", (4, 3), "blue")


def turn(*parts, role="user"):
    content = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image", "url": p} for p in parts]
    return {"role": role, "content": content}


def instance(index):
    return Instance("generate_until", (), 0, {"task": "t", "doc_id": index, "repeats": 1})


def test_a_prompt_is_pictures_and_text_with_the_system_prompt_apart():
    prompt = prompt_of([turn("be brief", role="system"), turn(RED, BLUE, "which", " one?")])
    assert (prompt.images, prompt.text, prompt.system) == ((RED, BLUE), "which one?", "be brief")
    assert prompt_of([{"role": "user", "content": "plain"}]).text == "plain"
    assert prompt_of([turn("no picture")]).system is None


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([turn(RED, "a"), turn("b", role="assistant"), turn("c")], "3 turns"),
        ([turn("before", RED)], "text before a picture"),
        ([{"role": "user", "content": [{"type": "video", "url": "a.mp4"}]}], "video input"),
        ([{"role": "user", "content": [{"type": "image", "url": "a.png"}]}], "given as str"),
        ([], "0 turns"),
    ],
)
def test_what_a_model_of_ours_cannot_take_is_refused_not_changed(messages, said):
    with pytest.raises(GapcheckError, match=said):
        prompt_of(messages)


def test_the_shown_prompt_marks_every_picture():
    assert shown([turn("s", role="system"), turn(RED, BLUE, "q")]) == "s<image><image>q"


def test_a_key_changes_with_the_model_the_words_the_roles_the_pictures_and_the_settings(tmp_path):
    store = AnswerStore(tmp_path / "a", ["weights 1"])
    asked = [turn(RED, "q")]
    key = store.key(asked, {"max_new_tokens": 8})
    others = [
        AnswerStore(tmp_path / "b", ["weights 2"]).key(asked, {"max_new_tokens": 8}),
        store.key([turn(BLUE, "q")], {"max_new_tokens": 8}),
        store.key([turn(RED.resize((3, 4)), "q")], {"max_new_tokens": 8}),
        store.key([turn(RED, "Q")], {"max_new_tokens": 8}),
        store.key([turn(RED, "q", role="system")], {"max_new_tokens": 8}),
        store.key([turn(RED, RED, "q")], {"max_new_tokens": 8}),
        store.key(asked, {"max_new_tokens": 9}),
    ]
    assert len({key, *others}) == 8
    assert key == AnswerStore(tmp_path / "c", ["weights 1"]).key([turn(RED.copy(), "q")], {"max_new_tokens": 8})


def test_pictures_of_equal_bytes_and_other_shapes_differ():
    assert images_hash([turn(Image.new("RGB", (4, 3)))]) != images_hash([turn(Image.new("RGB", (3, 4)))])


def test_text_alone_has_no_picture_to_hash():
    assert images_hash([turn("a"), turn("b")]) == ""


def test_a_leftover_of_a_killed_first_write_does_not_block_the_folder(tmp_path):
    (tmp_path / "answers.json.123.tmp").write_text("{")
    assert AnswerStore(tmp_path, []).rows == {}


def test_two_processes_that_begin_with_one_question_keep_both_parts(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    stores = [AnswerStore(tmp_path, []), AnswerStore(tmp_path, [])]  # both open the folder before either writes
    for store in stores:
        assert store.parts.done() == {}
    for rank, (store, other) in enumerate(zip(stores, ("k1", "k2"), strict=True)):
        monkeypatch.setenv("RANK", str(rank))
        store.through(["k0", other], [instance(0), instance(1)], lambda _: ["a", "b"])
    assert AnswerStore(tmp_path, []).rows.keys() == {"k0", "k1", "k2"}


def test_what_is_kept_is_not_asked_again_and_failures_are(tmp_path):
    asked: list[list[int]] = []

    def ask(instances):
        asked.append([i.doc_id for i in instances])
        return [Answer("", error="no") if i.doc_id == 1 else Answer(f"answer {i.doc_id}") for i in instances]

    store, requests = AnswerStore(tmp_path, []), [instance(i) for i in range(3)]
    assert store.through(["k0", "k1", "k2"], requests, ask) == {"k1": "no"}
    again = AnswerStore(tmp_path, [])  # as after a kill
    assert {k: r["answer"] for k, r in again.rows.items()} == {"k0": "answer 0", "k2": "answer 2"}
    again.through(["k0", "k1", "k2"], requests, ask)
    assert asked == [[0, 1, 2], [1]]
    assert again.through(["k0", "k2"], [requests[0], requests[2]], ask) == {}
    assert len(asked) == 2


def test_answers_of_any_backend_are_read_and_failures_of_theirs_are_no_answers(tmp_path):
    outputs = ["plain", GenerationResult("counted", TokenCounts(input_tokens=3, output_tokens=2)), "  ",
               "[LMMS_EVAL_REQUEST_FAILED after 3 retries] timeout", Answer("")]  # fmt: skip
    store = AnswerStore(tmp_path, [])
    failed = store.through(list("abcde"), [instance(i) for i in range(5)], lambda _: outputs)
    assert store.rows["a"]["answer"] == "plain"
    assert store.rows["a"]["seconds"] >= 0
    assert (store.rows["b"]["n_prompt_tokens"], store.rows["b"]["n_tokens"]) == (3, 2)
    assert failed.keys() == {"c", "d"}
    assert "timeout" in failed["d"]
    assert store.rows["e"]["answer"] == ""  # a model of ours that said nothing did answer

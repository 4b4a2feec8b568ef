"""What may be written of models and commands: what is known to be harmless, and nothing else."""

import pytest

from perception_gap.storage.redaction import (
    hidden_arguments,
    public_command,
    public_model,
    public_text,
    without_secrets,
)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("tiny:student", "tiny:student"),
        ("lmms-eval:openai", "lmms-eval:openai"),
        ("lmms-eval:openai,model_version=gpt-4o,max_retries=3", "lmms-eval:openai,model_version=gpt-4o,max_retries=3"),
        ("lmms-eval:openai,apikey=hunter2", "lmms-eval:openai,apikey=***"),
        ("lmms-eval:openai,api_key=hunter2,model_version=m", "lmms-eval:openai,api_key=***,model_version=m"),
        ("lmms-eval:openai,accesstoken=hunter2", "lmms-eval:openai,accesstoken=***"),
        ("lmms-eval:openai,auth=hunter2", "lmms-eval:openai,auth=***"),
        ("lmms-eval:openai,Model=hunter2", "lmms-eval:openai,Model=***"),  # Python's names have one spelling
        ("lmms-eval:openai,hunter2", "lmms-eval:openai,***"),
        ("lmms-eval:openai,hunter2!=1", "lmms-eval:openai,***"),
        ("lmms-eval:openai,a=hunter,2", "lmms-eval:openai,a=***,***"),
        ("lmms-eval:openai,base_url=http://me:hunter2@h:8/v1", "lmms-eval:openai,base_url=http://***@h:8/v1"),
        ("lmms-eval:openai,base_url=http://me:hun/t@er2@h/v1", "lmms-eval:openai,base_url=http://***@h/v1"),
        ("lmms-eval:openai,base_url=me:hunter2@h:8", "lmms-eval:openai,base_url=***@h:8"),
        ("lmms-eval:openai,base_url=http://h/v1?key=hunter2", "lmms-eval:openai,base_url=http://h/v1?***"),
        ("lmms-eval:openai,base_url=http://h/hunter2/v1", "lmms-eval:openai,base_url=http://h/***"),
        ('lmms-eval:openai,x={"a":1,"model=hunter2"}', "lmms-eval:openai,x=***"),
        ("lmms-eval:openai,model='hunter2,model=hunter2'", "lmms-eval:openai,model=***"),
    ],
)
def test_a_model_shows_what_is_known_to_be_harmless(name, shown):
    assert public_model(name) == shown
    assert public_model(shown) == shown  # what is written can be written again
    assert "hunter" not in without_secrets(f"401: {name.partition(',')[2]} is wrong", name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:hunter2@host/data/q.jsonl?sig=hunter2#x", "https://***@host/data/q.jsonl?***"),
        ("s3://hunter2@bucket/q.jsonl", "s3://***@bucket/q.jsonl"),
        ("viscot:/data/me@here/viscot.json", "viscot:/data/me@here/viscot.json"),
        ("scenes:pairs,iq", "scenes:pairs,iq"),
        ("model lmms-eval:openai,auth=hunter2, and", "model lmms-eval:openai,auth=***, and"),
    ],
)
def test_addresses_lose_who_asks_and_what(text, shown):
    assert public_text(text) == shown


def test_a_command_is_what_a_shell_takes_without_its_secrets():
    asked = [
        "bench",
        "lmms-eval:openai,auth=hunter2",
        "--baseline=lmms-eval:openai,auth=hunter2",
        "--system",
        "a b",
        "--data-root",
        "http://me:hunter2@h/x",
    ]
    assert public_command(asked) == (
        "gapcheck bench 'lmms-eval:openai,auth=***' '--baseline=lmms-eval:openai,auth=***' --system 'a b' "
        "--data-root 'http://***@h/x'"
    )


def test_arguments_that_are_no_credentials_tell_two_models_apart_though_they_are_not_written():
    asked = "lmms-eval:openai,api_key=a,effort=high,base_url=http://me:p@h/v1"
    assert hidden_arguments(asked) == {"effort": "high"}
    assert hidden_arguments("lmms-eval:openai,base_url=http://h/v1?version=2") == {"base_url": "http://h/v1?version=2"}


def test_keys_of_the_environment_are_taken_out_of_other_peoples_words(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "hunter2hunter2")
    assert without_secrets("Incorrect API key: hunter2hunter2, at http://u:p@h/") == (
        "Incorrect API key: ***, at http://***@h/"
    )

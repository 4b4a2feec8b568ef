import stat

import pytest

from perception_gap.storage import machine_key


@pytest.fixture
def state(tmp_path, monkeypatch):
    """Another user: a folder for the key, and none read yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    machine_key._key.cache_clear()
    yield tmp_path
    machine_key._key.cache_clear()


def test_what_was_signed_here_is_known_again_and_nothing_else(state, monkeypatch):
    signed = machine_key.signature("../data", None)
    assert machine_key.signed_here(signed, "../data", None)
    assert not machine_key.signed_here(signed, "/", None)
    assert not machine_key.signed_here(None, "../data", None)
    assert not machine_key.signed_here("ä", "../data", None)
    machine_key._key.cache_clear()  # another process of the same user
    assert machine_key.signed_here(signed, "../data", None)
    monkeypatch.setenv("XDG_STATE_HOME", str(state / "other"))
    machine_key._key.cache_clear()
    assert not machine_key.signed_here(signed, "../data", None)


def test_the_key_is_the_users_alone(state):
    machine_key.signature()
    (key,) = (state / "gapcheck").iterdir()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_bytes()) == machine_key.SIZE


def test_where_no_key_can_be_kept_one_process_still_knows_its_own(state, monkeypatch):
    (state / "gapcheck").write_text("no folder")
    assert machine_key.signed_here(machine_key.signature(1), 1)

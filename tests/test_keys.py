"""API keys: which one is sent, and that an engine asks for the one that is."""

import pytest

from locustfiles import _options
from server import keys
from server.errors import UsageError

OWN, OPENAI, ENGINES = keys.KEYS


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in keys.KEYS:
        monkeypatch.delenv(name, raising=False)


def test_both_rooms_look_in_the_same_places() -> None:
    assert keys.KEYS == _options.KEYS


def test_the_first_that_is_set_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert keys.header() == {}
    for name in reversed(keys.KEYS):
        monkeypatch.setenv(name, f"sk-{name}\n")
        assert keys.header() == {"authorization": f"Bearer sk-{name}"}


def test_an_engine_asks_for_the_key_that_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    keys.check_engine()
    monkeypatch.setenv(ENGINES, "sk-engine")
    keys.check_engine()
    monkeypatch.setenv(OPENAI, "sk-openai")
    line = f"another key than {ENGINES} to send, expected the same in {OWN}"
    with pytest.raises(UsageError, match=line) as refused:
        keys.check_engine()
    assert "sk-" not in str(refused.value)
    monkeypatch.setenv(OWN, "sk-engine")
    keys.check_engine()


@pytest.mark.parametrize("key", ["sk-engine\n", " sk-engine", "sk ключ"])
def test_a_key_that_no_request_could_match_is_refused_unquoted(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv(ENGINES, key)
    with pytest.raises(UsageError, match=f"{ENGINES}: found") as refused:
        keys.check_engine()
    assert "sk" not in str(refused.value)

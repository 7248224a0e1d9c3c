"""Options: what Locust parsed becomes checked settings, or one line that says what is wrong."""

import argparse
from typing import Any

import pytest

from locustfiles._options import KEYS, SECOND_NS, Settings, add_arguments, api_headers
from locustfiles._workload import WorkloadError


class Parser(argparse.ArgumentParser):
    """Locust's parser as far as options are declared on it: it also takes env_var and include_in_web_ui."""

    def __init__(self) -> None:
        super().__init__()
        self.variables: dict[str, str] = {}

    def add_argument(self, *names: str, **more: Any) -> Any:
        if "env_var" in more:
            self.variables[names[0]] = more.pop("env_var")
        more.pop("include_in_web_ui", None)
        return super().add_argument(*names, **more)


def options(*arguments: str) -> argparse.Namespace:
    parser = Parser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def test_defaults_are_settings() -> None:
    settings = Settings.read(options())
    assert settings.scenario == "chat"
    assert settings.transport == "auto"
    assert settings.verify
    assert settings.workload.prompt_words == (40, 160)
    assert settings.workload.max_tokens == (64, 64)
    assert settings.deadlines == (10 * SECOND_NS, 60 * SECOND_NS, 60 * SECOND_NS, 600 * SECOND_NS)


def test_every_option_arrives() -> None:
    settings = Settings.read(
        options(
            *("--scenario", "s", "--endpoint", "completions", "--model", "m", "--prompt-words", "1-2"),
            *("--max-tokens", "3-4", "--choices", "2", "--extra-body", '{"a": 1}', "--arrivals", "constant"),
            *("--rate-per-user", "0.8"),
            *("--think-time", "1.5", "--seed", "9", "--transport", "portable", "--connect-timeout", "1"),
            *("--first-token-timeout", "2", "--stall-timeout", "0.5", "--total-timeout", "4"),
            *("--ignore-eos", "--per-chunk-usage", "--insecure"),
        )
    )
    workload = settings.workload
    assert (workload.endpoint, workload.model, workload.prompt_words) == ("completions", "m", (1, 2))
    assert (workload.max_tokens, workload.choices, workload.extra, workload.seed) == ((3, 4), 2, {"a": 1}, 9)
    assert workload.ignore_eos
    assert workload.per_chunk_usage
    assert not settings.verify
    assert (settings.scenario, settings.arrivals, settings.think_s) == ("s", "constant", 1.5)
    assert settings.rate_per_user == 0.8
    assert settings.transport == "portable"
    assert settings.deadlines == (SECOND_NS, 2 * SECOND_NS, SECOND_NS // 2, 4 * SECOND_NS)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--prompt-words", "many"], "--prompt-words: found 'many', expected a number or LOW-HIGH"),
        (["--max-tokens", "0"], "--max-tokens: found '0', expected 1 <= LOW <= HIGH"),
        (["--choices", "0"], "--choices: found 0, expected at least 1"),
        (["--extra-body", "[1]"], "--extra-body: found '[1]', expected a JSON object"),
        (["--prompts", "/nowhere"], "--prompts: cannot read /nowhere"),
        (["--connect-timeout", "0"], "--connect-timeout: found 0.0, expected more than 0 s"),
        (["--first-token-timeout", "-1"], "--first-token-timeout: found -1.0, expected more than 0 s"),
        (["--stall-timeout", "nan"], "--stall-timeout: found nan, expected more than 0 s"),
        (["--total-timeout", "inf"], "--total-timeout: found inf, expected"),
        (["--think-time", "-1"], "--think-time: found -1.0, expected at least 0 s"),
        (["--think-time", "nan"], "--think-time: found nan, expected at least 0 s"),
        (["--warmup", "-1"], "--warmup: found -1.0, expected at least 0 s"),
        (["--warmup", "nan"], "--warmup: found nan, expected at least 0 s"),
        (["--rate-per-user", "0"], "--rate-per-user: found 0.0, expected between 0.001 and 1000 arr"),
        (["--rate-per-user", "nan"], "--rate-per-user: found nan, expected between"),
    ],
)
def test_bad_values_give_one_line(arguments: list[str], expected: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        Settings.read(options(*arguments))
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_every_option_has_its_environment_variable() -> None:
    parser = Parser()
    add_arguments(parser)
    assert len(parser.variables) > 20
    for flag, variable in parser.variables.items():
        assert variable == "TOKENSWARM_" + flag[2:].replace("-", "_").upper()


def test_streams_may_end_by_default() -> None:
    assert options().stop_timeout == 30


@pytest.fixture
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_no_keys")
def test_no_key_no_header() -> None:
    assert api_headers() == {}


@pytest.mark.usefixtures("_no_keys")
def test_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "sk-engine")  # what a vLLM that we start inherits, and asks for
    assert api_headers() == {"authorization": "Bearer sk-engine"}
    monkeypatch.setenv("OPENAI_API_KEY", "sk-open")
    assert api_headers() == {"authorization": "Bearer sk-open"}
    monkeypatch.setenv("TOKENSWARM_API_KEY", "sk-own\n")  # a secret's file often ends in a line end
    assert api_headers() == {"authorization": "Bearer sk-own"}


@pytest.mark.usefixtures("_no_keys")
@pytest.mark.parametrize("key", ["sk-a\nx-evil: 1", "sk-ключ", "sk a", "\t"])
def test_key_that_no_header_can_carry_is_refused_unquoted(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    if not key.strip():
        assert api_headers() == {}
        return
    with pytest.raises(WorkloadError, match="OPENAI_API_KEY: found a character") as caught:
        api_headers()
    assert "sk" not in str(caught.value)

"""What is a script, and what is not."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.sim import script
from server.sim.script import Script, ScriptError, parse_script, parse_scripts


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"tttf_ms": 1}, "unknown field 'tttf_ms'; the nearest is 'ttft_ms'"),
        ({"ttft_ms": -1}, "ttft_ms: found -1, expected milliseconds, a number of at least 0"),
        ({"ttft_ms": float("nan")}, "ttft_ms: found NaN, expected milliseconds"),
        ({"itl_ms": []}, "itl_ms: found [], expected milliseconds, or a list of them"),
        ({"itl_ms": [1, "2"]}, 'itl_ms: found [1, "2"], expected milliseconds'),
        ({"tokens": True}, "tokens: found true, expected a whole number of at least 0"),
        ({"tokens_per_chunk": 0}, "tokens_per_chunk: found 0, expected a whole number of at least 1"),
        ({"crlf": 1}, "crlf: found 1, expected true or false"),
        ({"usage": "often"}, 'usage: found "often", expected one of end, none, every'),
        ({"usage": ["end"]}, 'usage: found ["end"], expected one of'),
        ({"status": 200}, "status: found 200, expected a known HTTP status from 400 on"),
        ({"token_text": "x"}, 'token_text: found "x", expected a list of texts'),
        ({"comment": "a\nb"}, "expected one line of text"),
        ({"empty_deltas": [-1]}, "empty_deltas: found [-1], expected a list of token indexes"),
        ({"stall_ms": 5}, "stall_ms needs stall_at"),
        ([], "found [], expected a JSON object"),
    ],
)
def test_what_is_no_script_is_named(value: object, message: str) -> None:
    with pytest.raises(ScriptError) as error:
        parse_script(value)
    assert message in str(error.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*Script.__slots__, "other"]), JSON, max_size=4))
def test_whatever_json_is_either_a_script_or_refused_with_one_line(value: dict[str, Any]) -> None:
    refusal = ""
    try:
        parse_script(value)
    except ScriptError as error:
        refusal = str(error)
    assert len(refusal.splitlines()) <= 1


def test_scripts_come_from_a_file_or_inline(tmp_path: Path) -> None:
    file = tmp_path / "scripts.json"
    file.write_text('[{"tokens": 1}, {"tokens": 2}]', encoding="utf-8")
    assert parse_scripts(str(file)) == parse_scripts(file.read_text(encoding="utf-8"))
    file.write_text('[{}, {"x": 2}]', encoding="utf-8")
    with pytest.raises(ScriptError, match=r"scripts.json\[1\]: unknown field 'x'"):
        parse_scripts(str(file))
    with pytest.raises(ScriptError, match="No such file"):
        parse_scripts(str(tmp_path / "missing.json"))
    with pytest.raises(ScriptError, match="--script: an empty list"):
        parse_scripts("[]")
    with pytest.raises(ScriptError, match="--script: not JSON"):
        parse_scripts("{")


def test_the_table_in_the_docstring_has_every_field_and_its_default() -> None:
    documented: dict[str, str] = {}
    for line in (script.__doc__ or "").splitlines():
        if line.startswith("| ") and not line.startswith("| field"):
            names, _, default = [cell.strip() for cell in line.strip("|").split("|")]
            values = [default] if ", " not in names else default.split(", ")
            documented |= dict(zip(names.split(", "), values, strict=True))
    assert set(documented) == set(Script.__slots__)
    blank = Script()
    for name, default in documented.items():
        if default in ("none", "max_tokens", "what the request asks"):
            assert getattr(blank, name) is None, name
        else:
            value = getattr(blank, name)
            assert (list(value) if isinstance(value, tuple) else value) == json.loads(default), name

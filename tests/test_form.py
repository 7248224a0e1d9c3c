"""The form that starts a run: what was typed in becomes options, or one line and the field it is about."""

import argparse
import math

import pytest

from locustfiles import _form
from locustfiles._form import FormError
from tests.test_options import options


def filled(**form: str) -> argparse.Namespace:
    made = options()
    vars(made).update(num_users=1, spawn_rate=1.0, run_time=None, user_classes=[])
    _form.into(made, form)
    return made


def test_a_form_becomes_options_of_their_own_types() -> None:
    made = filled(
        user_count="20", spawn_rate="2.5", run_time="1h2m3s", prompt_words="5-9", seed="7", ignore_eos="true"
    )
    assert (made.num_users, made.spawn_rate, made.run_time) == (20, 2.5, 3723)
    assert (made.prompt_words, made.seed, made.ignore_eos) == ("5-9", 7, True)
    assert filled(warmup="2").warmup == 2.0
    assert not hasattr(filled(nothing_of_ours="1"), "nothing_of_ours")


@pytest.mark.parametrize(
    ("name", "text", "field", "expected"),
    [
        (
            "user_count",
            "many",
            "user_count",
            "users: found 'many', expected a whole number from 1 to 100,000",
        ),
        ("user_count", "0", "user_count", "users: found '0'"),
        ("user_count", "1000000", "user_count", "users: found '1000000'"),
        ("spawn_rate", "nan", "spawn_rate", "ramp: found 'nan', expected more than 0"),
        ("spawn_rate", "inf", "spawn_rate", "ramp: found 'inf'"),
        ("spawn_rate", "", "spawn_rate", "ramp: found ''"),
        ("run_time", "soon", "run_time", "run time: found 'soon', expected such as 90s, 5m or 1h30m"),
        ("run_time", "0", "run_time", "run time: found '0'"),
        ("seed", "1.5", "seed", "--seed: found '1.5', expected a whole number"),
        ("warmup", "a\nwhile", "warmup", "--warmup: found 'a while', expected a number"),
        ("ignore_eos", "perhaps", "ignore_eos", "--ignore-eos: found 'perhaps', expected true or false"),
    ],
)
def test_what_does_not_fit_is_one_line_and_a_field(name: str, text: str, field: str, expected: str) -> None:
    with pytest.raises(FormError) as caught:
        filled(**{name: text})
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)
    assert caught.value.name == field


def test_a_line_that_begins_with_an_option_is_about_its_field() -> None:
    assert FormError("--prompt-words: found 'x'").name == "prompt_words"
    assert FormError("http://h: cannot be reached").name == ""


@pytest.mark.parametrize("rate", ["0.001", "0.5", "1", "2.4", "37.4", "500"])
def test_a_rate_is_users_of_at_most_one_arrival_a_second(rate: str) -> None:
    users, each = _form.split_rate(rate)
    assert math.isclose(users * each, float(rate))
    assert users - 1 < float(rate) <= users
    assert 0.001 <= each <= 1


@pytest.mark.parametrize("rate", ["", "-1", "0", "0.0001", "nan", "inf", "1e9", "fast"])
def test_a_rate_that_is_none_is_refused(rate: str) -> None:
    with pytest.raises(FormError, match="arrivals/s: found") as caught:
        _form.split_rate(rate)
    assert caught.value.name == "arrivals_per_s"


def test_a_rate_in_flight_is_a_multiple_of_what_a_user_is() -> None:
    assert _form.users_for("2.4", 0.8) == 3
    assert _form.users_for("37.4", 37.4 / 38) == 38
    with pytest.raises(FormError, match=r"found '2\.5', expected a multiple of 0\.8 .*, such as 2\.4"):
        _form.users_for("2.5", 0.8)


@pytest.mark.parametrize(("run_time", "fits"), [("14", False), ("15", True), ("", True)])
def test_a_run_is_longer_than_what_is_not_judged(run_time: str, fits: bool) -> None:
    made = filled(user_count="20", spawn_rate="2", warmup="5", run_time=run_time)  # nine seconds of ramp
    if fits:
        _form.check_length(made)
    else:
        with pytest.raises(FormError, match="expected more than the 14 s of ramp and warm-up"):
            _form.check_length(made)


def test_the_form_asks_for_what_the_loop_needs_and_names_no_folder() -> None:
    made = filled(user_count="3")
    vars(made).update(prompts="/home/somebody/prompts.txt", rate_per_user=0.8)

    def fields(loop: str) -> dict[str, _form.Field]:
        return {one.name: one for _, group in _form.groups(made, "http://h", loop, "m") for one in group}

    assert fields("open")["arrivals_per_s"].value == 2.4
    assert "user_count" not in fields("open")
    assert fields("closed")["user_count"].value == 3
    assert "arrivals_per_s" not in fields("closed")
    assert ("auto", "file prompts.txt") in fields("open")["prompt_source"].choices
    assert "somebody" not in repr(fields("open"))
    for name, one in fields("open").items():  # what the form says now, it takes
        if one.kind != "number" or name in {"arrivals_per_s", "user_count"}:
            continue
        _form.into(made, {name: str(one.value)})

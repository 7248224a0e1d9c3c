import copy
import gzip
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.answers import IMPOSSIBLE, Answers, AnswersError, Text, check_same_questions, decode, load
from analysis.divergence import diverge
from analysis.freerun import ends_in_copies, is_empty, is_loop, prefix_share
from analysis.paired import excess, pooled
from analysis.quality import PERFECT, QualityVerdict, judge
from analysis.sla import QUALITY, default, parse_quality
from tests.quality_answers import K, answer_of, logs_of, said, server, text_of

LIMITS = default().quality


def text(own: float, named: dict[int, float], token: int = 9) -> Text:
    """Return one position: the probability of its token, and of the ids that the server names."""
    ids = np.array([list(named)])
    return Text("t", "k", (0, token), np.log(np.array([own])), ids, np.log(np.array([list(named.values())])))


def test_where_both_name_the_same_ids_the_rest_is_one_bucket() -> None:
    found = diverge(text(0.01, {1: 0.5, 2: 0.3}), text(0.01, {1: 0.4, 2: 0.4}))
    by_hand = 0.5 * math.log(0.5 / 0.4) + 0.3 * math.log(0.3 / 0.4) + 0.2 * math.log(0.2 / 0.2)
    assert found.kl_low[0] == pytest.approx(by_hand, abs=1e-9)
    # the own token, 9, is named by both as well: the bucket holds 0.19 on each side
    worst = math.log(0.4 / 0.3)
    assert found.kl_high[0] == pytest.approx(by_hand + 0.19 * worst * math.tanh(worst / 2), abs=1e-6)
    assert found.nll[0] == 0
    assert found.max_dp[0] == pytest.approx(0.1)


def test_an_id_that_q_does_not_name_is_at_most_its_last_one() -> None:
    p, q = text(0.6, {1: 0.6, 2: 0.3}, token=1), text(0.7, {1: 0.7, 3: 0.2}, token=1)
    # Q leaves 0.3 to id 2 and the tail (0.1 in P): 3 to 1 would suit P best, but 0.225 is more than 0.2.
    by_hand = 0.6 * math.log(0.6 / 0.7) + 0.3 * math.log(0.3 / 0.2) + 0.1 * math.log(0.1 / 0.1)
    assert diverge(p, q).kl_low[0] == pytest.approx(by_hand, abs=1e-9)
    assert diverge(p, q).max_dp[0] == pytest.approx(0.1), "0.6 and 0.7; 0.3 and at most 0.2"


def test_a_flat_q_is_far_away_though_it_names_nothing_that_p_does() -> None:
    flat = dict.fromkeys(range(100, 120), 0.001)
    found = diverge(text(0.9, {1: 0.9, 2: 0.05}, token=1), text(0.0005, flat, token=1))
    assert found.kl_low[0] > 6  # 0.9 * ln(0.9 / 0.001) and more
    assert not found.agree[0]
    assert found.nll[0] == pytest.approx(math.log(0.9 / 0.0005))


def test_a_tie_for_the_first_place_agrees_with_either() -> None:
    tied = text(0.1, {1: 0.4, 2: 0.4})
    assert diverge(tied, text(0.1, {2: 0.5, 1: 0.3})).agree[0]
    assert diverge(text(0.1, {2: 0.5, 1: 0.3}), tied).agree[0]
    assert not diverge(tied, text(0.1, {3: 0.5, 1: 0.3})).agree[0]


@given(st.integers(0, 10**6), st.floats(0.01, 3), st.integers(1, 30))
def test_the_lower_bound_is_never_above_the_truth(seed: int, noise: float, k: int) -> None:
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 2, (40, 60))
    p, q = logs_of(logits), logs_of(logits + draw.normal(0, noise, logits.shape))
    tokens = draw.integers(0, 60, 41)
    one, other = (decode(said([text_of("t", "k", logs, tokens, k)], [])).texts[0] for logs in (p, q))
    found = diverge(one, other)
    exact = (np.exp(p) * (p - q)).sum(axis=1)
    assert (found.kl_low <= exact + 1e-7).all()
    assert (found.kl_low <= found.kl_high).all()
    agree = p.argmax(axis=1) == q.argmax(axis=1)
    assert (found.agree == agree).all()
    assert (found.max_dp <= np.abs(np.exp(p) - np.exp(q)).max(axis=1) + 1e-9).all()


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3, 1.0])
def test_the_truth_lies_between_the_bounds_on_average(noise: float) -> None:
    draw = np.random.default_rng(3)
    logits = draw.normal(0, 2, (400, 500))
    p, q = logs_of(logits), logs_of(logits + draw.normal(0, noise, logits.shape))
    tokens = draw.integers(0, 500, 401)
    one, other = (decode(said([text_of("t", "k", logs, tokens)], [])).texts[0] for logs in (p, q))
    found, exact = diverge(one, other), (np.exp(p) * (p - q)).sum(axis=1).mean()
    assert found.kl_low.mean() < exact < found.kl_high.mean()


def test_more_named_ids_bring_the_bounds_together() -> None:
    draw = np.random.default_rng(4)
    logits = draw.normal(0, 2, (100, 300))
    p, q = logs_of(logits), logs_of(logits + draw.normal(0, 0.2, logits.shape))
    tokens = draw.integers(0, 300, 101)
    widths = []
    for k in (20, 80, 299):
        one, other = (decode(said([text_of("t", "k", logs, tokens, k)], [])).texts[0] for logs in (p, q))
        found = diverge(one, other)
        widths.append(float((found.kl_high - found.kl_low).mean()))
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 1e-3


def test_pooled_bounds_by_hand() -> None:
    found = pooled(np.array([1.0, 2, 3, 4, 5]), np.ones(5))
    # equal clusters: the jackknife is the usual error of a mean, sqrt(2.5 / 5); t with 4 degrees is 2.132
    assert found.value == 3
    assert found.high == pytest.approx(3 + 2.1318 * math.sqrt(0.5), abs=1e-3)
    assert found.low == pytest.approx(3 - 2.1318 * math.sqrt(0.5), abs=1e-3)
    assert pooled(np.ones(4), np.ones(4)).low is None


@pytest.mark.parametrize(("clusters", "long"), [(6, 300), (22, 300), (22, 2000)])
def test_pooled_bounds_cover_as_they_say(clusters: int, long: int) -> None:
    draw = np.random.default_rng(5)
    size = np.concatenate([[long], np.full(clusters - 1, 300)])
    covered = []
    for _ in range(2000):
        mean = draw.normal(0.03, 0.03, clusters) + draw.normal(0, 0.3, clusters) / np.sqrt(size)
        found = pooled(mean * size, size)
        assert found.low is not None
        assert found.high is not None
        covered.append((found.low <= 0.03, found.high >= 0.03))
    for share in np.mean(covered, axis=0):
        assert 0.93 < share < 0.97


@pytest.mark.parametrize(("more", "less"), [(0.05, 0.0), (0.02, 0.02), (0.1, 0.08), (0.2, 0.05)])
def test_bounds_of_an_excess_cover_as_they_say(more: float, less: float) -> None:
    draw = np.random.default_rng(6)
    low, high = [], []
    for one, other, _ in draw.multinomial(60, [more, less, 1 - more - less], size=1500):
        found = excess(int(one), int(other), 60)
        assert found.low is not None
        assert found.high is not None
        low.append(found.low <= more - less + 1e-9)
        high.append(found.high >= more - less - 1e-9)
    assert np.mean(low) > 0.91
    assert np.mean(high) > 0.91


def test_no_difference_at_all_still_has_bounds() -> None:
    found = excess(0, 0, 60)
    z = 1.6449**2
    assert (found.value, found.high) == (0, pytest.approx(z / (60 + z), abs=1e-4))  # Tango's closed form
    assert found.low == pytest.approx(-z / (60 + z), abs=1e-4)
    assert excess(60, 0, 60).high == pytest.approx(1)
    assert excess(0, 0, 4).high is None


def test_prefix_share() -> None:
    assert prefix_share([1, 2, 3, 4], [1, 2, 9, 4]) == 0.5
    assert prefix_share([1, 2], [1, 2, 3]) == 1
    assert prefix_share([1, 2, 3, 4], [1]) == 0.25
    assert prefix_share([], [1]) == 1
    assert prefix_share([1], []) == 0


@pytest.mark.parametrize(
    ("tokens", "loops"),
    [
        ([7] * 20, True),
        ([7] * 19, False),
        (list(range(30)) + [7] * 20, True),
        ([7] * 20 + [8], False),
        ([1, 2, 3, 4, 5, 6, 7] * 3, True),
        ([1, 2, 3, 4, 5, 6, 7] * 2 + [1, 2, 3], False),
        ([5, 6, 7] + [1, 2, 3, 4, 5, 6, 7] * 3 + [1, 2], True),
        (list(range(96)), False),
        ([1, 2] * 9, False),
        ([], False),
    ],
)
def test_copies_at_the_end(tokens: list[int], *, loops: bool) -> None:
    assert ends_in_copies(tokens) == loops


def test_an_answer_that_ended_by_itself_is_no_loop_and_blanks_are_empty() -> None:
    found = decode(said([], [answer_of(1, [7] * 40, "length"), answer_of(2, [7] * 40, text=" \n")])).answers
    assert [is_loop(one) for one in found] == [True, False]
    assert [is_empty(one) for one in found] == [False, True]


def measures(verdict: QualityVerdict) -> dict[str, float]:
    return {one.name: one.value for one in verdict.measures}


def test_a_server_that_answers_the_same_is_perfect() -> None:
    base = server(0)
    found = judge(base, base, LIMITS, floor=base)
    assert (found.status, found.exit_code) == ("PASS", 0)
    assert found.reasons == ("all 7 limits hold",)
    perfect = {"ppl_ratio": 1, "kl": 0, "top1": 1, "prefix_match": 1, "length_ratio": 1}
    assert measures(found) == perfect | {"empty_rate": 0, "loop_rate": 0}
    kl = found.measures[1]
    assert (kl.low, kl.high, kl.most, kl.floor) == (0, 0, 0, 0)
    assert (found.figures.exact_match, found.figures.max_dp) == (1, 0)


def test_a_little_noise_passes_and_is_seen() -> None:
    found = judge(server(0), server(0.05), LIMITS)
    assert found.status == "PASS"
    assert found.floor == "not measured"
    assert 0 < measures(found)["kl"] < 0.01
    assert 0.93 < measures(found)["top1"] < 1
    ratio = found.measures[0]
    assert ratio.low is not None
    assert ratio.high is not None
    assert 0.99 < ratio.low < ratio.value < ratio.high < 1.02
    assert [kind.kind for kind in found.kinds] == ["prose", "code", "german"]
    assert sum(kind.positions for kind in found.kinds) == found.figures.positions == 12 * 60


def test_the_perplexities_are_those_of_the_texts() -> None:
    base, candidate = server(0), server(0.5)
    found = judge(base, candidate, LIMITS)
    by_hand = [
        math.exp(-np.concatenate([text.logprobs for text in one.texts]).mean()) for one in (base, candidate)
    ]
    assert found.figures.ppl_base == pytest.approx(by_hand[0])
    assert found.figures.ppl_candidate == pytest.approx(by_hand[1])
    assert measures(found)["ppl_ratio"] == pytest.approx(by_hand[1] / by_hand[0])


def test_another_model_fails_by_far() -> None:
    base = server(0)
    strange = [answer_of(number, [7] * 96, "length", "E" * 96) for number in range(60)]
    other = replace(server(6.0), answers=decode(said([], strange)).answers)
    found = judge(base, other, LIMITS, floor=server(0.001))
    assert (found.status, found.exit_code) == ("FAIL", 3)
    failed = {one.measure for one in found.limits if one.status == "FAIL"}
    assert failed == {"ppl_ratio", "kl", "top1", "length_ratio", "loop_rate"}
    assert measures(found)["ppl_ratio"] > 10
    assert any(reason.startswith("kl <= 0.05: at least ") for reason in found.reasons)


def test_how_far_answers_are_the_same_can_be_limited() -> None:
    base = server(0)
    halves = [
        replace(one, token_ids=(*one.token_ids[: len(one.token_ids) // 2], 1, 2, 3)) for one in base.answers
    ]
    other = replace(base, answers=tuple(halves))
    by_hand = sum((len(one.token_ids) // 2) / len(one.token_ids) for one in base.answers) / len(base.answers)
    limits = [parse_quality(f"prefix_match >= {percent} %") for percent in (40, 60)]
    found = judge(base, other, limits)
    assert measures(found)["prefix_match"] == pytest.approx(by_hand)
    assert [one.status for one in found.limits] == ["PASS", "FAIL"]
    assert found.figures.exact_match == 0


def test_weights_that_give_no_numbers_fail() -> None:
    base = server(0)
    nothing = [
        replace(one, logprobs=one.logprobs * 0 + IMPOSSIBLE, top_logprobs=one.top_logprobs * 0 + IMPOSSIBLE)
        for one in base.texts
    ]
    found = judge(base, replace(base, texts=tuple(nothing)), LIMITS)
    assert found.status == "FAIL"
    assert {one.measure for one in found.limits if one.status == "FAIL"} >= {"ppl_ratio", "kl"}
    with pytest.raises(AnswersError, match="no baseline"):
        judge(replace(base, texts=tuple(nothing)), base, LIMITS)


def test_what_the_baseline_does_to_itself_never_fails() -> None:
    base, candidate = server(0), server(0.6, own=1)
    alone = judge(base, candidate, LIMITS)
    assert alone.status == "FAIL"
    noisy = judge(base, candidate, LIMITS, floor=server(0.7, own=2), how="restarted")
    assert noisy.floor == "restarted"
    assert noisy.status == "INCONCLUSIVE"
    assert "kl <= 0.05: within the noise: the baseline against itself has 0." in " ".join(noisy.reasons)
    quiet = judge(base, candidate, LIMITS, floor=server(0.01, own=2))
    assert quiet.status == "FAIL"


def test_bounds_on_both_sides_of_a_limit_decide_nothing() -> None:
    base, candidate = server(0), server(0.3)
    kl = next(one for one in judge(base, candidate, LIMITS).measures if one.name == "kl")
    found = judge(base, candidate, [parse_quality(f"kl <= {kl.value:.4f}")])
    assert found.status == "INCONCLUSIVE"
    assert found.reasons[0].startswith("kl <= 0.0")
    assert ": between 0.0" in found.reasons[0]


def test_too_few_texts_decide_nothing() -> None:
    found = judge(server(0, texts=4), server(0, texts=4), LIMITS)
    assert found.status == "INCONCLUSIVE"
    assert "expected at least 5" in found.reasons[0]
    assert {one.status for one in found.limits if one.measure == "length_ratio"} == {"PASS"}
    assert judge(server(0), server(0), []).status == "INCONCLUSIVE"


def test_a_pass_beyond_its_warning_says_so() -> None:
    base, candidate = server(0), server(0.3)
    kl = next(one for one in judge(base, candidate, LIMITS).measures if one.name == "kl")
    assert kl.high is not None
    (limit,) = judge(
        base, candidate, [parse_quality(f"kl <= {kl.high * 2:.9f} warn {kl.value / 2:.9f}")]
    ).limits
    assert limit.status == "PASS"
    assert limit.warning.endswith(f"is beyond {kl.value / 2:.4g}")


def test_a_verdict_is_plain_json_even_where_a_ratio_is_infinite() -> None:
    base = server(0)
    never = [replace(one, logprobs=np.full_like(one.logprobs, -9999.0)) for one in base.texts]
    found = judge(base, replace(base, texts=tuple(never)), LIMITS)
    text = json.dumps(found.to_json(), allow_nan=False)
    assert json.loads(text)["measures"][0]["value"] == "inf"
    assert found.status == "FAIL"


def plain(texts: int = 5) -> dict[str, object]:
    """Return a server's JSON object."""
    logs = logs_of(np.zeros((3, 30)))
    read = [text_of(f"t-{number}", "k", logs, np.arange(4)) for number in range(texts)]
    return said(read, [answer_of(1, [1, 2])])


def test_answers_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "quality-base.json.gz"
    path.write_bytes(gzip.compress(json.dumps(plain()).encode()))
    found = load(path)
    assert isinstance(found, Answers)
    assert found.texts[0].top_ids.shape == (3, K)
    assert found.texts[0].scored.tolist() == [1, 2, 3]
    assert found.answers[0].token_ids == (1, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"plain", "cannot be read"),
        (gzip.compress(b"{", mtime=0), "expected gzipped JSON"),
        (gzip.compress(b"[]", mtime=0), "holds what no quality check writes"),
        (gzip.compress(b'{"schema": 2}', mtime=0), "found the schema 2, expected 1"),
        (gzip.compress(b"{}", mtime=0), "holds what no quality check writes"),
        (gzip.compress(b"x" * 5000, mtime=0)[:-9], "cannot be read|expected gzipped JSON"),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.json.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AnswersError, match=f"a.json.gz: .*({message})") as raised:
        load(path)
    assert "\n" not in str(raised.value)


def test_texts_that_do_not_fit_together_are_refused() -> None:
    for change, message in (
        ({"logprobs": [0.0] * 5}, "found 5 scored of 4 tokens"),
        ({"top_ids": [[1]] * 3}, r"found alternatives of shape \(3, 1\), expected \(3, K\)"),
        ({"logprobs": [0.0, math.nan, 0.0]}, "found a log probability that is no number"),
    ):
        found = copy.deepcopy(plain())
        found["texts"][0] |= change  # type: ignore[index]
        with pytest.raises(AnswersError, match=f"t-0: {message}"):
            decode(found)


def test_servers_that_were_asked_something_else_are_not_compared() -> None:
    base = decode(plain())
    for other, message in (
        (decode(plain(texts=4)), "found the texts t-0, t-1, t-2, t-3, expected"),
        (replace(base, texts=(replace(base.texts[0], tokens=(0, 1, 2, 9)), *base.texts[1:])), "same tokens"),
        (replace(base, answers=(replace(base.answers[0], prompt="?"),)), "same prompts"),
        (replace(base, answers=(replace(base.answers[0], prompt_ids=(1,)),)), "chat templates of .* differ"),
    ):
        with pytest.raises(AnswersError, match=message):
            check_same_questions(base, other)
        with pytest.raises(AnswersError, match=message):
            judge(base, other, LIMITS)
    check_same_questions(base, replace(base, answers=(replace(base.answers[0], prompt_ids=None),)))
    for silent in (replace(base, texts=()), replace(base, answers=(replace(base.answers[0], token_ids=()),))):
        with pytest.raises(AnswersError, match="no baseline"):
            judge(silent, silent, LIMITS)


def test_every_measure_that_can_be_limited_is_made() -> None:
    assert {one.name for one in judge(server(0), server(0), []).measures} == set(QUALITY) == set(PERFECT)

"""Price files, and the cost of tokens."""

from pathlib import Path

import pytest

from analysis.prices import PriceError, Prices, read, token_cost
from tokenswarm import ROOT

WHOLE = """
currency: EUR
per_hour: {h100: 3.2, l4: 0.8}
gpu: h100
gpus_per_replica: 2
servers:
  small: {gpu: l4, gpus_per_replica: 1}
output_per_input: 4
"""


def prices(tmp_path: Path, text: str) -> Prices:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    return read(path)


def test_a_replica_costs_its_gpus(tmp_path: Path) -> None:
    found = prices(tmp_path, WHOLE)
    assert (found.of("any").gpu, found.of("any").gpus, found.of("any").per_hour) == ("h100", 2, 6.4)
    assert (found.of("small").gpu, found.of("small").per_hour) == ("l4", 0.8)


def test_the_cost_of_tokens_by_hand(tmp_path: Path) -> None:
    price = prices(tmp_path, WHOLE).of("small")
    # 0.8 an hour, 10 requests/s of 300 in and 100 out: 36,000 an hour, each worth 300 + 4 * 100 tokens
    found = token_cost(price, 10, 300, 100)
    assert found.per_million_input == pytest.approx(0.8 / 36_000 / 700 * 1e6)
    assert found.per_million_output == pytest.approx(4 * 0.8 / 36_000 / 700 * 1e6)


def test_without_a_ratio_all_is_laid_on_the_output(tmp_path: Path) -> None:
    price = prices(tmp_path, "currency: EUR\nper_hour: {x: 3.6}\ngpu: x").of("any")
    found = token_cost(price, 10, 300, 100)
    assert (found.per_million_output, found.per_million_input) == (pytest.approx(1.0), None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("per_hour: {x: 1}\ngpu: x", "found no currency, expected a word such as EUR"),
        ("currency: EUR\nper_hour: {x: 1}\ngpu: y", "gpu: found y, expected x"),
        ("currency: EUR\nper_hour: {x: 1, z: 2}", "gpu: found nothing, expected x or z"),
        ("currency: EUR\nper_hour: {}\ngpu: x", "gpu: found x, expected a price under per_hour"),
        ("currency: EUR\nper_hour: {x: -1}\ngpu: x", "per_hour"),
        ("currency: EUR\nper_hour: {x: 1}\ngpu: x\ngpus: 3", "unknown field `gpus`"),
        ("currency: EUR\ngpu: x", "missing required field `per_hour`"),
        (
            "currency: EUR\nper_hour: {x: 1}\nservers: {a: {gpu: y}}\ngpu: x",
            "servers: a: gpu: found y, expected x",
        ),
        ("[", "not YAML"),
        ("", "Expected `object`"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PriceError) as refused:
        prices(tmp_path, text)
    assert said in str(refused.value)
    assert "prices.yaml: " in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_server_without_a_gpu_is_named(tmp_path: Path) -> None:
    found = prices(tmp_path, "currency: EUR\nper_hour: {x: 1}\nservers: {a: {gpu: x}}")
    assert found.of("a").per_hour == 1
    with pytest.raises(PriceError, match="found no gpu for b, expected the key gpu, or servers: b: gpu"):
        found.of("b")


def test_the_example_is_whole_and_says_what_it_is() -> None:
    example = ROOT / "experiments" / "prices" / "example.yaml"
    assert read(example).of("any").gpu == "example-gpu"
    assert "EXAMPLE" in example.read_text().splitlines()[0]

"""Which recipe fits which model, and in groups of how many."""

from typing import Any

import pytest

from server import recipes
from server.errors import UsageError

SMOLLM2 = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
}
LLAMA_8B = SMOLLM2 | {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}


def refusal(config: dict[str, Any], wanted: int | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        recipes.group_size(config, wanted)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("config", "wanted", "expected"),
    [
        (LLAMA_8B, None, 128),
        (LLAMA_8B, 32, 32),
        (SMOLLM2, None, 64),
        (SMOLLM2 | {"intermediate_size": 1504}, None, 32),
        (SMOLLM2 | {"hidden_size": 512, "num_attention_heads": 9, "head_dim": 64}, None, 64),
        (SMOLLM2 | {"hidden_size": 512, "num_attention_heads": 8, "head_dim": None}, None, 128),
    ],
)
def test_group_size(config: dict[str, Any], wanted: int | None, expected: int) -> None:
    assert recipes.group_size(config, wanted) == expected


def test_group_size_that_does_not_divide() -> None:
    line = refusal(SMOLLM2, 128)
    assert "found 128, expected 64 or 32" in line
    assert "hidden_size 576, intermediate_size 1536, attention 576" in line
    assert "found 16" in refusal(LLAMA_8B, 16), "it divides, but no kernel takes it"
    assert "none of 128, 64, 32 divides" in refusal(SMOLLM2 | {"intermediate_size": 1500})
    assert "found no intermediate_size" in refusal({"hidden_size": 64, "num_attention_heads": 1})


@pytest.mark.parametrize("recipe", recipes.RECIPES.values(), ids=lambda recipe: recipe.name)
def test_a_model_that_fits(recipe: recipes.Recipe) -> None:
    recipes.check(SMOLLM2, recipe)
    recipes.check(LLAMA_8B, recipe)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"architectures": ["GPT2LMHeadModel"]},
            "architecture: found GPT2LMHeadModel, expected one of Llama",
        ),
        ({"architectures": None}, "architecture: found None"),
        ({"quantization_config": {"quant_method": "gptq"}}, "the model is quantized already (gptq)"),
    ],
)
def test_a_model_that_does_not(change: dict[str, Any], line: str) -> None:
    for recipe in recipes.RECIPES.values():
        with pytest.raises(UsageError) as caught:
            recipes.check(SMOLLM2 | change, recipe)
        assert line in str(caught.value)


def test_autoawq_works_on_64_outputs_at_a_time() -> None:
    odd = SMOLLM2 | {"intermediate_size": 1504}
    recipes.check(odd, recipes.find("awq-ct"))
    with pytest.raises(UsageError, match="found intermediate_size 1504, expected multiples of 64"):
        recipes.check(odd, recipes.find("awq"))
    with pytest.raises(UsageError, match="found keys and values 96"):
        recipes.check(SMOLLM2 | {"head_dim": 32, "num_attention_heads": 18}, recipes.find("awq"))


def test_an_unknown_recipe() -> None:
    with pytest.raises(UsageError, match="found 'gptq', expected one of awq, awq-ct, int8, fp8, nvfp4"):
        recipes.find("gptq")

"""Profiles and the command lines that follow from them; the whole of it is pure."""

from pathlib import Path

import pytest

from server import argv, machine, profiles
from server.errors import UsageError
from server.profiles import Profile
from tokenswarm import serving

GOLDEN = Path(__file__).parent / "golden" / "argv.txt"
NAMES = ("baseline", "awq", "awq-ct", "int8", "fp8", "nvfp4", "transformers", "tensorrt-llm", "sim")
H100 = machine.Machine("NVIDIA H100", 9.0)


def place(profile: Profile, device: str) -> argv.Place:
    model = "baseline" if profile.engine == "sim" else "/models/m"
    return argv.Place("PROGRAM", model, "m", 8000, device=device)  # type: ignore[arg-type]


def written(name: str, device: str) -> str:
    profile = profiles.find(name)
    made = argv.command(profile, place(profile, device))
    words = ["PYTHON" if profile.engine == "sim" and not i else word for i, word in enumerate(made.argv)]
    variables = [f"{key}={value}" for key, value in sorted(made.variables.items())]
    return f"{name} on {device}: {' '.join([*variables, *words])}"


def test_command_lines_are_the_golden_ones() -> None:
    # To renew the file after a wanted change, write `found` into it, and read the difference.
    found = [
        written(name, device)
        for name in NAMES
        for device in ("cpu", "cuda")
        if device == "cuda" or not profiles.find(name).capability
    ]
    assert found == GOLDEN.read_text().splitlines()


def test_the_issue_s_profiles_are_there() -> None:
    assert tuple(profiles.built_in()) == NAMES


def test_awq_leaves_the_kernel_to_vllm() -> None:
    assert "--quantization" not in written("awq", "cuda")
    assert profiles.find("awq").kernel["cuda"] == ["MacheteLinear", "MarlinLinear"]


@pytest.mark.parametrize(
    ("profile", "right", "wrong"),  # names of vLLM 0.32's kernels; the wrong ones are its slow ways out
    [
        ("awq", "MarlinLinearKernel MacheteLinearKernel", "ExllamaLinearKernel TritonW4A16LinearKernel"),
        ("int8", "CutlassInt8ScaledMMLinearKernel", "TritonInt8ScaledMMLinearKernel"),
        ("fp8", "FlashInferFP8ScaledMMLinearKernel", "MarlinFP8ScaledMMLinearKernel"),
        (
            "nvfp4",
            "CutlassNvFp4LinearKernel FlashInferCuteDslNvFp4LinearKernel",
            "MarlinNvFp4LinearKernel EmulationNvFp4LinearKernel FlashInferCuteDslNvFp4W4A16LinearKernel",
        ),
    ],
)
def test_the_kernel_that_was_used_is_known_as_right_or_wrong(profile: str, right: str, wrong: str) -> None:
    expected = profiles.find(profile).kernel["cuda"]
    assert all(serving.is_expected(kernel, expected) for kernel in right.split())
    assert not any(serving.is_expected(kernel, expected) for kernel in wrong.split())


def test_baseline_and_quantized_differ_in_the_weights_alone() -> None:
    baseline = argv.command(profiles.find("baseline"), place(profiles.find("baseline"), "cuda"))
    for name in ("awq", "awq-ct", "int8", "fp8", "nvfp4"):
        assert argv.command(profiles.find(name), place(profiles.find(name), "cuda")) == baseline, name


def test_options_become_arguments() -> None:
    options = {
        "max-num-seqs": 8,
        "enforce-eager": True,
        "enable-prefix-caching": False,
        "x": [1, 2],
        "y": {"a": 1},
    }
    assert list(argv.arguments(options)) == [
        *("--max-num-seqs", "8", "--enforce-eager", "--no-enable-prefix-caching", "--x", "1", "2"),
        *("--y", '{"a": 1}'),
    ]


def test_a_hub_model_keeps_its_revision_and_may_ask_the_hub() -> None:
    profile = profiles.changed(profiles.find("baseline"), model="org/m", revision="a" * 40)
    made = argv.command(profile, argv.Place("PROGRAM", "org/m", "m", 8000))
    assert made.argv[made.argv.index("--revision") + 1] == "a" * 40
    assert made.variables["HF_HUB_OFFLINE"] == "0"


@pytest.mark.parametrize(
    ("host", "development", "mode"),
    [
        ("127.0.0.1", True, "1"),
        ("127.0.0.1", False, "0"),
        ("0.0.0.0", True, "0"),  # noqa: S104 - on purpose
    ],
)
def test_development_endpoints_are_for_experiments_on_loopback(
    host: str, mode: str, *, development: bool
) -> None:
    place = argv.Place("P", "/m", "m", 1, host=host, development=development)
    made = argv.command(profiles.find("baseline"), place)
    assert made.variables["VLLM_SERVER_DEV_MODE"] == mode, "0 too, or our own environment would decide"


def test_a_file_adds_profiles(tmp_path: Path) -> None:
    file = tmp_path / "more.yaml"
    file.write_text(
        "small: {like: int8, model: /m, options: {max-num-seqs: 4}}\n"
        "smaller: {like: small, options: {enforce-eager: true}, variables: {OMP_NUM_THREADS: '2'}}\n"
    )
    found = profiles.find("smaller", file)
    assert (found.model, found.quantization) == ("/m", "int8")
    assert found.options == {"max-num-seqs": 4, "enforce-eager": True}
    assert found.variables == {"OMP_NUM_THREADS": "2"}
    assert profiles.find("awq", file) == profiles.find("awq")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a", "expected profiles"),
        ("a: 1", "expected profiles"),
        ("a: {engine: vllm", "not YAML"),
        ("a: {}", "missing required field `engine`"),
        ("a: {engine: ollama}", "Invalid enum value 'ollama'"),
        ("a: {engine: vllm, dtyp: x}", "unknown field `dtyp`"),
        ("a: {like: b}", "like: found 'b', expected one of baseline, awq"),
        ("a: {like: awq, options: {api-key: x}}", "found api-key, a secret"),
        ("a: {like: awq, variables: {HF_TOKEN: x}}", "found HF_TOKEN, a secret"),
        ("a: {like: awq, variables: {AWS_SECRET_ACCESS_KEY: x}}", "found AWS_SECRET_ACCESS_KEY, a secret"),
        ("a: {like: awq, variables: {VLLM_SERVER_DEV_MODE: '1'}}", "found VLLM_SERVER_DEV_MODE"),
        ("a: {like: awq, options: {host: 0.0.0.0}}", "found host, which is not"),
        ("a: {like: awq, options: {host=0.0.0.0: true}}", "found 'host=0.0.0.0', expected an option's name"),
        (
            "a: {like: awq, variables: {HTTPS_PROXY: 'http://me:pw@p'}}",
            "found a URL with a user in HTTPS_PROXY",
        ),
        ("a: {like: awq, kernel: {cuda: Marlin}}", "kernel"),
        ("a: {like: awq, options: {max-num-seqs: }}", "found nothing for max-num-seqs"),
        ("../a: {like: awq}", "name"),
    ],
)
def test_a_file_that_is_wrong_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "more.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        profiles.find("a", file)
    assert words in str(refused.value)
    assert "more.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_unknown_profile_names_the_known() -> None:
    with pytest.raises(UsageError, match=r"found 'awk', expected one of baseline, awq, .*sim"):
        profiles.find("awk")


@pytest.mark.parametrize(
    ("name", "here", "refused"),
    [
        ("fp8", machine.Machine(), "needs a CUDA GPU of compute capability 8.9 or more, found none"),
        ("fp8", machine.Machine("NVIDIA A100", 8.0), r"found NVIDIA A100 \(8.0\)"),
        ("nvfp4", H100, r"capability 10.0 or more, found NVIDIA H100 \(9.0\)"),
        ("tensorrt-llm", machine.Machine(), "needs a CUDA GPU"),
    ],
)
def test_a_machine_that_cannot_is_told_why(name: str, here: machine.Machine, refused: str) -> None:
    with pytest.raises(UsageError, match=refused):
        machine.check(profiles.find(name), here)


def test_a_machine_that_can() -> None:
    machine.check(profiles.find("fp8"), H100)
    for name in ("baseline", "awq", "int8", "transformers", "sim"):
        machine.check(profiles.find(name), machine.Machine())


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (
            "NVIDIA H100 80GB HBM3, 9.0\nNVIDIA H100 80GB HBM3, 9.0\n",
            machine.Machine("NVIDIA H100 80GB HBM3", 9.0),
        ),
        ("", machine.Machine()),
        ("No devices were found\n", machine.Machine()),
    ],
)
def test_nvidia_smi_s_answer(listed: str, expected: machine.Machine) -> None:
    assert machine.parse(listed) == expected

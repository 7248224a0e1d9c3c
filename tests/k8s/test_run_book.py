"""k8s/README.md says what is there."""

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from tests.k8s.checks import VERSIONS
from tests.k8s.manifests import K8S, OVERLAYS, ROOT, documents, name_of
from tests.k8s.test_faults import FAULTS
from tokenswarm.cli import cli

TEXT = (K8S / "README.md").read_text(encoding="utf-8")


def commands() -> Iterator[list[str]]:
    """Yield the commands of ours that the console blocks have."""
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL):
        for line in re.split(r"\n|&&|;", block):
            if line.strip().startswith("tokenswarm "):
                yield shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_its_commands_exist_with_their_options(words: list[str]) -> None:
    command: click.Command = cli
    context = click.Context(command)
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found, words
        command, words = found, words[1:]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known


def test_its_names_are_those_of_the_folders() -> None:
    for folder in ("overlays", "components"):
        for path in (K8S / folder).iterdir():
            assert f"`{path.name}`" in TEXT or path.name in OVERLAYS
    assert f"Kubernetes {VERSIONS[0]} or later" in TEXT
    assert all(version in TEXT for version in VERSIONS)
    assert len(FAULTS) == 19
    assert "nineteen mistakes" in TEXT


def test_no_key_is_on_a_command_line_where_every_process_can_read_it() -> None:
    texts = [TEXT, *(path.read_text(encoding="utf-8") for path in K8S.rglob("*.yaml"))]
    assert sum("HF_TOKEN" in text for text in texts) > 1
    assert not [text for text in texts if "--from-literal" in text]


def test_docker_leaves_out_of_an_image_what_buildah_does() -> None:
    """It reads no other name; buildah prefers the other. test_image shows what is left out."""
    assert (ROOT / ".dockerignore").is_file()
    assert not (ROOT / ".containerignore").exists()


def test_what_it_asks_kubectl_for_is_there() -> None:
    there = {f"{one['kind'].lower()}/{name_of(one)}" for one in documents(K8S / "overlays" / "baseline")}
    there |= {f"pod/{name_of(one)}" for one in documents(K8S / "reader")}
    asked = re.findall(r"\b((?:job|pod|deployment)[/ ](?:loadtest|llm|results)[\w-]+)", TEXT)
    assert len(asked) >= 5
    assert {one.replace(" ", "/") for one in asked} <= there

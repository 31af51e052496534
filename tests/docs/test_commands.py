"""Commands in the documentation can be typed: each program knows its options, make its targets."""

from __future__ import annotations

import re
import shlex
from itertools import takewhile
from typing import Any

import pytest
import typer

from kd_ops.cli import app
from tests.conftest import PROJECT

PAGES = [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")]
KD: Any = typer.main.get_command(app)


def shell_blocks() -> list[str]:
    """Lines of the shell examples, continued ones joined and comments removed."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            found += [line for line in block.replace("\\\n", "").splitlines() if line.strip()]
    return found


def commands() -> list[list[str]]:
    """Every command of the shell examples as words, without the variables set before it."""
    found = []
    for line in shell_blocks():
        words = shlex.split(line, comments=True)
        while words and re.match(r"^[A-Z_]+=", words[0]):
            words.pop(0)
        if words and words[0] != "export":
            found.append(words)
    return found


def inline() -> list[list[str]]:
    """`kd …` in running text, as far as it names a command."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    return [shlex.split(said) for said in sorted(set(re.findall(r"`(kd [a-z][^`\n]*)`", text)))]


def modules() -> list[str]:
    return sorted({words[words.index("-m") + 1] for words in commands() if "-m" in words[:2]})


def test_there_are_examples() -> None:
    assert len(commands()) > 10
    assert modules()


@pytest.mark.parametrize("words", [words for words in commands() if words[0] == "kd"], ids=" ".join)
def test_kd_examples_are_understood(words: list[str]) -> None:
    """Parsed by the program's own parser; nothing is run."""
    command = KD.commands[words[1]]
    command.make_context(words[1], words[2:], resilient_parsing=False)


@pytest.mark.parametrize("words", inline(), ids=" ".join)
def test_commands_in_the_text_exist(words: list[str]) -> None:
    command = KD.commands.get(words[1])
    assert command is not None, f"there is no kd {words[1]}"
    known = {option for param in command.params for option in param.opts}
    unknown = [word for word in words[2:] if word.startswith("-") and word not in known]
    assert not unknown, f"kd {words[1]} has no {', '.join(unknown)}"


def test_kd_lists_the_commands_of_the_guide() -> None:
    guide = (PROJECT / "docs" / "guide.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `kd ([a-z]+)`", guide, re.MULTILINE)) == set(KD.commands)


def test_make_targets_exist() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    said = set(re.findall(r"`make ([a-z]+)`", text)) | {words[1] for words in commands() if words[0] == "make"}
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert said <= targets


@pytest.mark.parametrize("module", modules())
def test_benchmarks_know_the_options_of_their_examples(module: str) -> None:
    """Looked up in the source: to ask for --help would import torch for each of them."""
    source = PROJECT.joinpath(*module.split(".")).with_suffix(".py")
    known = set(re.findall(r'"(--[a-z-]+)"', source.read_text(encoding="utf-8")))
    own = [takewhile(lambda word: word != "--", words) for words in commands() if module in words]
    given = {word for words in own for word in words if word.startswith("--")}
    assert given <= known, f"python -m {module} has no {', '.join(sorted(given - known))}"


def test_the_first_screen_of_the_readme_has_exactly_two_commands() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    first = re.search(r"```sh\n(.*?)```", readme, re.DOTALL)
    assert first is not None
    assert [line.split("#")[0].strip() for line in first[1].splitlines()] == ["make run", "make test"]
    assert readme[: first.end()].count("\n") < 20

"""The prompt of an agent on a terminal, which has no standard input to read it from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# Linux takes 131,072 bytes an argument, and macOS a megabyte for all of them and the environment.
LONGEST_ARGUMENT = 100_000
FILE = "prompt.md"


@dataclass(frozen=True, slots=True)
class PromptArgument:
    """A prompt as an argument. A long one is in a file, which `text` says to read."""

    text: str
    files: Mapping[Path, str] = field(default_factory=dict[Path, str])  #: to be written


def prompt_argument(prompt: str, run_dir: Path) -> PromptArgument:
    """How to hand *prompt* over.

    Everybody on the machine can read an argument (`ps`), unlike standard input.
    """
    if len(prompt.encode()) <= LONGEST_ARGUMENT:
        return PromptArgument(prompt)
    file = run_dir / FILE
    request = (
        f"Read the file {file} to its end, in parts if it is too long for one look, "
        "and do what it says. It is your job."
    )
    return PromptArgument(request, {file: prompt})

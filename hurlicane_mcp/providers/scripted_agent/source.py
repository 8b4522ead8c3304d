"""Where a script comes from: its text within a prompt, and the plain data within its text."""

import json
import re
import shlex
from pathlib import Path
from typing import cast

from hurlicane_mcp.errors import Invalid

FENCE = re.compile(
    r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})(?:(?:yaml|json)[ \t]+)?script[ \t]*$", re.MULTILINE
)
FILE = re.compile(r"^script:[ \t]*(?P<path>\S.*?)[ \t]*$", re.MULTILINE)
JOB_HEADING = re.compile(
    r"#{1,6}[ \t]+(?:(?:the|your)[ \t]+)?(?:job|task)(?:[ \t]+[^ \t:]+)?[ \t]*(?::.*)?$", re.I
)

TEXT_STEPS = frozenset({"say", "warn", "print", "deny", "finish"})
EDIT_STEPS = frozenset({"edit", "commit"})
HEADERS = frozenset({"mode", "on_error"})
CALL_WORDS = frozenset({"as", "expect_error", "on_error"})


class Placed(dict[str, object]):
    """A mapping that knows on which line of the script it begins (from 1)."""

    def __init__(self, items: dict[str, object], line: int) -> None:
        super().__init__(items)
        self.line = line


def find(prompt: str, work_dir: Path) -> str | None:
    """The text of the script in *prompt*, or None if there is none.

    Raises:
        Invalid: the prompt names a file that cannot be read.
    """
    prompt = prompt.replace("\r\n", "\n")
    if (opening := FENCE.search(prompt)) is not None:
        return _fenced(prompt[opening.end() + 1 :], opening["indent"], opening["fence"])
    marked = [line for line in prompt.split("\n") if re.match(r"![ \t]+\S", line)]
    if marked:
        return "\n".join(marked)
    if (named := FILE.search(prompt)) is not None:
        return _read(work_dir / named["path"])
    return None


def polite(prompt: str) -> str:
    """The script of an agent that was given none: it says so and finishes its job."""
    lines = [line.strip() for line in prompt.split("\n")]
    below = next((n + 1 for n, line in enumerate(lines) if JOB_HEADING.match(line)), 0)
    first = next(filter(None, lines[below:]), "There was nothing to do.")
    result = first.replace("${", "$${")
    return json.dumps(
        [{"say": "The prompt holds no script, so I only finish my job."}, {"finish": result}]
    )


def load(text: str) -> object:
    """The plain data that *text* writes down in YAML, JSON or `!` lines.

    Raises:
        Invalid: it is none of these; the message names the line where that shows.
    """
    start = text.lstrip()[:1]
    if start == "!":
        return _load_lines(text)
    if start in ("[", "{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass  # YAML knows this notation too, and it says where an error is
    return _load_yaml(text)


def _fenced(rest: str, indent: str, fence: str) -> str:
    # A script may hold fenced scripts for children: those are indented more or fenced otherwise.
    closing = re.compile(rf"^[ \t]{{0,{len(indent)}}}{fence[0]}{{{len(fence)},}}[ \t]*$", re.M)
    end = closing.search(rest)
    body = rest if end is None else rest[: end.start()]
    return "\n".join(line.removeprefix(indent) for line in body.split("\n"))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise Invalid(f"The script {path} cannot be read: {error}.") from None


def _load_yaml(text: str) -> object:
    import yaml  # not at the top: scripts in JSON and in lines start 40 ms sooner without it

    class Loader(yaml.SafeLoader):
        """Plain data, with the places of mappings, and dates as the texts that they are."""

        yaml_implicit_resolvers = {  # noqa: RUF012  (the name is the library's)
            first: [rule for rule in rules if rule[0] != "tag:yaml.org,2002:timestamp"]
            for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    def place(loader: yaml.SafeLoader, node: yaml.MappingNode) -> Placed:
        items = cast("dict[str, object]", loader.construct_mapping(node, deep=True))
        return Placed(items, node.start_mark.line + 1)

    Loader.add_constructor("tag:yaml.org,2002:map", place)
    try:
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise Invalid(f"{line}This is not YAML: {error.problem or error.context}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Invalid(f"This is not YAML: {' '.join(str(error).split())}.") from None


def _load_lines(text: str) -> object:
    sections: dict[str, object] = {}
    steps: list[object] = []
    sections["steps"] = steps
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if not line.lstrip().startswith("!"):
            raise Invalid(f"line {number}: Every line of this script begins with `! `.")
        name, _, rest = line.strip().removeprefix("!").strip().partition(" ")
        if name == "on_resume":
            steps = []
            sections["on_resume"] = steps
        elif name in HEADERS:
            sections[name] = rest.strip()
        else:
            try:
                steps.append(Placed({name: _line_value(name, rest.strip())}, number))
            except ValueError as error:
                raise Invalid(f"line {number}: {name}: {error}.") from None
    return sections


def _line_value(name: str, rest: str) -> object:
    if name == "call":
        return _line_call(rest)
    if name in EDIT_STEPS:
        return _line_edit(name, shlex.split(rest))
    if name == "run" and not rest.startswith(("[", "{")):
        return list(shlex.split(rest))
    if name in TEXT_STEPS and not rest.startswith(('"', "{")):
        return rest
    return _json_or_text(rest)


def _line_call(rest: str) -> object:
    tool, _, rest = rest.partition(" ")
    call: dict[str, object] = {"name": tool}
    rest = rest.strip()
    if rest.startswith("{"):
        try:
            call["args"], end = json.JSONDecoder().raw_decode(rest)
        except RecursionError:
            raise ValueError("the arguments are nested too deeply") from None
        rest = rest[end:]
    words = rest.split()
    if len(words) % 2 or not CALL_WORDS.issuperset(words[::2]):
        raise ValueError(
            'after the tool come its arguments as JSON, and any of "as NAME", '
            '"expect_error CODE", "on_error continue"'
        )
    return call | dict(zip(words[::2], words[1::2], strict=True))


def _line_edit(name: str, words: list[str]) -> object:
    most = 3 if name == "commit" else 2
    if not 2 <= len(words) <= most:
        raise ValueError("it takes a path and a line of text, in quotes where they have spaces")
    edit: dict[str, object] = {"path": words[0], "append": words[1] + "\n"}
    return edit if len(words) == 2 else edit | {"message": words[2]}


def _json_or_text(rest: str) -> object:
    if not rest:
        return None
    try:
        return json.loads(rest)
    except (ValueError, RecursionError):
        return rest

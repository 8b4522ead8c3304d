"""References in a script's texts: `${NAME.path}` and `${env.NAME}`, filled in from variables."""

import json
import re
from collections.abc import Mapping
from typing import cast

from hurlicane_mcp.errors import Invalid

REFERENCE = re.compile(r"(?P<escape>\$?)\$\{(?P<path>[^{}]*)\}")
SECRETS = frozenset({"HURLICANE_TOKEN"})  # what a script can print ends in logs


def fill(value: object, variables: Mapping[str, object], env: Mapping[str, str]) -> object:
    """*value* with every reference in its texts replaced; the shape stays.

    A text that is one reference as a whole becomes the value itself, type and all.

    Raises:
        Invalid: a reference leads nowhere; the message says what there is.
    """
    if isinstance(value, str):
        whole = REFERENCE.fullmatch(value)
        if whole is not None and not whole["escape"]:
            return _look_up(whole["path"], variables, env)
        return fill_text(value, variables, env)
    if isinstance(value, Mapping):
        return fill_mapping(cast("Mapping[str, object]", value), variables, env)
    if isinstance(value, list):
        return [fill(item, variables, env) for item in cast("list[object]", value)]
    return value


def fill_mapping(
    pairs: Mapping[str, object], variables: Mapping[str, object], env: Mapping[str, str]
) -> dict[str, object]:
    """*pairs* with the references in its values replaced, as `fill` does.

    Raises:
        Invalid: a reference leads nowhere; the message says what there is.
    """
    return {key: fill(value, variables, env) for key, value in pairs.items()}


def fill_text(text: str, variables: Mapping[str, object], env: Mapping[str, str]) -> str:
    """*text* with its references replaced by texts: JSON for what is not one.

    Raises:
        Invalid: a reference leads nowhere; the message says what there is.
    """

    def replace(found: re.Match[str]) -> str:
        if found["escape"]:
            return found[0][1:]
        value = _look_up(found["path"], variables, env)
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    return REFERENCE.sub(replace, text)


def _look_up(path: str, variables: Mapping[str, object], env: Mapping[str, str]) -> object:
    name, *keys = path.split(".")
    if name == "env":
        return _environment(".".join(keys), env)
    if name not in variables:
        known = ", ".join(sorted(variables)) or "none"
        raise Invalid(
            f"There is no variable {name!r} (known: {known}). Write $${{{path}}} for the text."
        )
    value = variables[name]
    for key in keys:
        value = _inside(value, key, path)
    return value


def _environment(name: str, env: Mapping[str, str]) -> str:
    if name in SECRETS:
        raise Invalid(f"{name} is a secret: a script cannot read it.")
    if name not in env:
        raise Invalid(f"The environment has no {name!r}.")
    return env[name]


def _inside(value: object, key: str, path: str) -> object:
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value)
        if key in pairs:
            return pairs[key]
        raise Invalid(f"${{{path}}}: there is no {key!r} in {sorted(pairs)}.")
    if isinstance(value, list):
        items = cast("list[object]", value)
        if key.isascii() and key.isdigit() and len(key) < 10 and int(key) < len(items):
            return items[int(key)]
        raise Invalid(f"${{{path}}}: there is no {key!r} in a list of {len(items)}.")
    raise Invalid(f"${{{path}}}: {key!r} is looked for in {value!r}, which has no parts.")

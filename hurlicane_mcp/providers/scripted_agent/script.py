"""A script's text as a value: parsed and checked before the first of its steps runs."""

import difflib
import json
import math
import signal
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import cast

from hurlicane_mcp.domain.failures import POLICIES, FailureKind
from hurlicane_mcp.domain.refusals import Scope
from hurlicane_mcp.errors import Invalid
from hurlicane_mcp.providers.scripted_agent import phases, source
from hurlicane_mcp.providers.scripted_agent.vocabulary import (
    Call,
    Commit,
    Crash,
    Deny,
    Disconnect,
    Edit,
    Exit,
    Hang,
    IgnoreTerm,
    Mode,
    OnError,
    Parallel,
    Print,
    PrintBytes,
    RateLimit,
    Refuse,
    Request,
    Run,
    Say,
    Script,
    Sleep,
    Step,
    Usage,
    Warn,
)

MOST_STEPS = 10_000
MOST_TOKENS = 10**12
LONGEST_LINE = 2**32
RESERVED = frozenset({"env", phases.VARIABLE})
#: The kinds of `refuse`.
REFUSALS = tuple(sorted({*POLICIES, FailureKind.CONTEXT_OVERFLOW}))


def parse(text: str, at: phases.At | None = None) -> Script:
    """The script that *text* writes down in YAML, JSON or `!` lines; its steps are those for *at*.

    Raises:
        Invalid: it breaks a rule; the message says where, and what is allowed.
    """
    try:
        return _script(source.load(text), at)
    except RecursionError:
        raise Invalid("The script is nested too deeply.") from None


def _script(data: object, at: phases.At | None) -> Script:
    try:
        if isinstance(data, list):
            return Script(_steps(cast("object", data), ""))
        fields = _mapping(data, "steps", "on_resume", "mode", "on_error", "phases")
        return Script(
            steps=_for_phase(fields, at),
            on_resume=_steps(fields["on_resume"], "on_resume ") if "on_resume" in fields else None,
            mode=_mode(fields["mode"]) if "mode" in fields else None,
            on_error=_on_error(fields.get("on_error", "fail")),
        )
    except ValueError as error:
        raise Invalid(
            f"The script: {error}. It is a list of steps, or a mapping of steps, on_resume, mode, "
            "on_error and phases."
        ) from None


def _for_phase(fields: Mapping[str, object], at: phases.At | None) -> tuple[Step, ...]:
    steps = _steps(fields.get("steps", []), "")
    if "phases" not in fields:
        return steps
    each = {
        place: _steps(inner, f"phase {' '.join(place).strip()}, ")
        for place, inner in phases.sections(fields["phases"]).items()
    }
    return phases.chosen(each, steps if "steps" in fields else None, at)


def _steps(value: object, above: str) -> tuple[Step, ...]:
    """The steps of a list, repeats written out. *above* names the list in messages."""
    if not isinstance(value, list):
        raise ValueError("steps must be a list")
    found: list[Step] = []
    for number, item in enumerate(cast("list[object]", value), start=1):
        found += _step(item, f"{above}step {number}")
        if len(found) > MOST_STEPS:
            raise Invalid(f"{above}step {number}: More than {MOST_STEPS} steps.")
    return tuple(found)


def _step(item: object, place: str) -> tuple[Step, ...]:
    if isinstance(item, source.Placed):
        place = f"line {item.line}, {place}"
    if isinstance(item, str):
        item = {item: None}
    if not isinstance(item, dict) or len(cast("dict[object, object]", item)) != 1:
        raise Invalid(f"{place}: A step is a mapping with one key: {_known()}.")
    ((name, value),) = cast("dict[object, object]", item).items()
    try:
        if name == "parallel":
            return (Parallel(_branches(value, place)),)
        if name == "repeat":
            return _repeated(value, place)
        if not isinstance(name, str) or name not in FORMS:
            raise Invalid(f"{place}: There is no step {name!r}.{_meant(name)} Steps: {_known()}.")
        return (FORMS[name](value),)
    except ValueError as error:
        raise Invalid(f"{place}: {name}: {error}.") from None


def _branches(value: object, place: str) -> tuple[tuple[Step, ...], ...]:
    if not isinstance(value, list):
        raise ValueError("it takes a list of steps")
    return tuple(
        _steps(cast("object", item), f"{place}, branch {number}, ")
        if isinstance(item, list)
        else _step(item, f"{place}, branch {number}")
        for number, item in enumerate(cast("list[object]", value), start=1)
    )


def _repeated(value: object, place: str) -> tuple[Step, ...]:
    fields = _mapping(value, "times", "steps")
    times = _whole(fields.get("times"), "times", MOST_STEPS)
    steps = _steps(fields.get("steps"), f"{place}, ")
    if times * len(steps) > MOST_STEPS:
        raise ValueError(f"that makes more than {MOST_STEPS} steps")
    return steps * times


def _known() -> str:
    return ", ".join(sorted({*FORMS, "parallel", "repeat"}))


def _meant(name: object) -> str:
    close = difflib.get_close_matches(str(name), [*FORMS, "parallel", "repeat"], n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


# Each of these turns the value of one step into the step, or says in a ValueError what it takes.


def _call(value: object) -> Call:
    if isinstance(value, str):
        value = {"name": value}
    fields = _mapping(value, "name", "args", "as", "expect_error", "on_error")
    return Call(
        tool=_text(fields.get("name"), "name"),
        args=_arguments(fields.get("args") or {}),
        store_as=_variable(fields),
        expect_error=_text(fields["expect_error"], "expect_error")
        if "expect_error" in fields
        else None,
        on_error=_on_error(fields["on_error"]) if "on_error" in fields else None,
    )


def _finish(value: object) -> Call:
    if isinstance(value, dict):
        return Call("finish_job", _arguments(cast("object", value)))
    return Call("finish_job", {"result": "Done." if value is None else _text(value, "the result")})


def _edit(value: object) -> Edit:
    return _edited(_mapping(value, "path", "append", "write"))


def _commit(value: object) -> Commit:
    fields = _mapping(value, "path", "append", "write", "message")
    message = _text(fields["message"], "message") if "message" in fields else None
    return Commit(_edited(fields), message)


def _edited(fields: Mapping[str, object]) -> Edit:
    if ("append" in fields) == ("write" in fields):
        raise ValueError("it takes a path and either append or write, a text")
    kind = "append" if "append" in fields else "write"
    return Edit(_text(fields.get("path"), "path"), _text(fields[kind], kind), kind == "append")


def _run(value: object) -> Run:
    if isinstance(value, list):
        value = {"argv": cast("object", value)}
    fields = _mapping(value, "argv", "as", "on_error")
    argv = fields.get("argv")
    if not isinstance(argv, list) or not argv:
        raise ValueError("it takes a program and its arguments, as a list")
    return Run(
        argv=tuple(_text(word, "an argument") for word in cast("list[object]", argv)),
        store_as=_variable(fields),
        on_error=_on_error(fields["on_error"]) if "on_error" in fields else None,
    )


def _usage(value: object) -> Usage:
    fields = _mapping(value, "input", "output", "cost_usd")
    try:
        cost = Decimal(str(fields.get("cost_usd", 0)))
    except InvalidOperation:
        cost = Decimal("NaN")
    if not cost.is_finite() or cost < 0:
        raise ValueError("cost_usd is an amount of money, such as 0.012")
    return Usage(
        input=_whole(fields.get("input", 0), "input", MOST_TOKENS),
        output=_whole(fields.get("output", 0), "output", MOST_TOKENS),
        cost_usd=cost,
    )


def _request(value: object) -> Request:
    fields = _mapping(value, "input", "output")
    return Request(
        input=_whole(fields.get("input", 0), "input", MOST_TOKENS),
        output=_whole(fields.get("output", 0), "output", MOST_TOKENS),
    )


def _refuse(value: object) -> Refuse:
    allowed = ("kind", "text", "scope", "final", "wait_s", "silent", "times", "resets_in_s")
    fields = _mapping({"kind": value} if isinstance(value, str) else value, *allowed, "models")
    kind, scope, final = (
        fields.get("kind"),
        fields.get("scope", Scope.MODEL),
        fields.get("final", True),
    )
    silent = fields.get("silent", False)
    if kind not in REFUSALS:
        raise ValueError(f"kind is one of {', '.join(REFUSALS)}")
    if scope not in tuple(Scope):
        raise ValueError("scope is model or account")
    if not isinstance(final, bool) or not isinstance(silent, bool):
        raise ValueError("final and silent are true or false")
    times = fields.get("times", None if final or "resets_in_s" in fields else 1)
    return Refuse(
        kind=FailureKind(str(kind)),
        text=_text(fields.get("text", f"The model refused: {kind}"), "text"),
        scope=Scope(str(scope)),
        final=final,
        wait_s=_seconds(fields.get("wait_s", 1)),
        silent=silent,
        times=None if times is None else _whole(times, "times", MOST_STEPS),
        resets_in_s=_seconds(fields["resets_in_s"]) if "resets_in_s" in fields else None,
        models=_models(fields["models"]) if "models" in fields else None,
    )


def _models(value: object) -> frozenset[str]:
    if not isinstance(value, list):
        raise ValueError("models is a list of names")
    return frozenset(_text(name, "a model") for name in cast("list[object]", value))


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("it takes seconds, such as 0.5")
    if not math.isfinite(value) or not 0 <= value <= 86_400:
        raise ValueError("it takes seconds from 0 to 86400")
    return float(value)


def _crash(value: object) -> Crash:
    name = "SIGKILL" if value is None else value
    if not isinstance(name, str) or name not in signal.Signals.__members__:
        raise ValueError("it takes the name of a signal, such as SIGKILL or SIGSEGV")
    return Crash(signal.Signals[name])


def _rate_limit(value: object) -> RateLimit:
    if value not in ("claude", "codex"):
        raise ValueError("it takes claude or codex")
    return RateLimit(value)


def _alone(step: Step) -> Callable[[object], Step]:
    def parse_nothing(value: object) -> Step:
        if value is not None:
            raise ValueError("it takes nothing")
        return step

    return parse_nothing


FORMS: Mapping[str, Callable[[object], Step]] = MappingProxyType(
    {
        "call": _call,
        "finish": _finish,
        "edit": _edit,
        "commit": _commit,
        "run": _run,
        "say": lambda value: Say(_text(value, "it")),
        "warn": lambda value: Warn(_text(value, "it")),
        "print": lambda value: Print(_text(value, "it")),
        "print_bytes": lambda value: PrintBytes(_whole(value, "it", LONGEST_LINE)),
        "usage": _usage,
        "request": _request,
        "refuse": _refuse,
        "deny": lambda value: Deny(_text(value, "it")),
        "sleep": lambda value: Sleep(_seconds(value)),
        "disconnect": _alone(Disconnect()),
        "ignore_term": _alone(IgnoreTerm()),
        "rate_limit": _rate_limit,
        "exit": lambda value: Exit(_whole(value, "it", 255)),
        "crash": _crash,
        "hang": _alone(Hang()),
    }
)


def _mapping(value: object, *allowed: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"it takes {', '.join(allowed)}")
    fields = cast("dict[str, object]", value)
    strange = [key for key in fields if key not in allowed]
    if strange:
        raise ValueError(f"it has no {strange[0]!r}; allowed: {', '.join(allowed)}")
    return fields


def _text(value: object, what: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{what} must be a text (in quotes, where YAML reads something else)")
    return str(value)


def _whole(value: object, what: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{what} must be a whole number from 0 to {most}")
    return value


def _variable(fields: Mapping[str, object]) -> str | None:
    if "as" not in fields:
        return None
    name = fields["as"]
    if not isinstance(name, str) or not name.isidentifier() or name in RESERVED:
        raise ValueError("`as` takes a name of letters, digits and _, other than env and phase")
    return name


def _mode(value: object) -> Mode:
    if value not in ("auto", "legacy"):
        raise ValueError("mode is auto or legacy")
    return value


def _on_error(value: object) -> OnError:
    if value not in ("continue", "fail"):
        raise ValueError("on_error is continue or fail")
    return value


def _arguments(value: object) -> Mapping[str, object]:
    """*value* as plain JSON, so that nothing exotic of YAML reaches the wire."""
    if not isinstance(value, dict):
        raise ValueError("args must be a mapping")
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        raise ValueError("args must be such as JSON can hold") from None

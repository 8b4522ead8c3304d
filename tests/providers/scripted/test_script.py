"""What a script may say, and how a wrong one is refused."""

import re
import signal
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.refusals import Scope
from hurlicane_mcp.errors import Invalid
from hurlicane_mcp.providers import scripted_agent
from hurlicane_mcp.providers.scripted_agent.script import FORMS, parse
from hurlicane_mcp.providers.scripted_agent.vocabulary import (
    Call,
    Commit,
    Crash,
    Deny,
    Disconnect,
    Edit,
    Exit,
    Hang,
    Parallel,
    RateLimit,
    Refuse,
    Request,
    Run,
    Say,
    Script,
    Sleep,
    Step,
    Usage,
)

PIECES = (
    "- ", "  ", "\n", "! ", "say", "call", ": ", "x", "{", "}", "[", "]", '"', "'", ",", "1e9",
    "&a ", "*a", "!!binary ", "steps", "parallel", "repeat", "times", "run", "#", "null", "0.1",
    "2001-99-99", "as", "args", "name", "edit", "<<", "\t", "exit", "usage", "\x07", ".nan",
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("- call: list_jobs", Call("list_jobs")),
        (
            "- call: {name: t, args: {n: 1}, as: a, expect_error: any, on_error: continue}",
            Call("t", {"n": 1}, "a", "any", "continue"),
        ),
        ("- finish", Call("finish_job", {"result": "Done."})),
        ("- finish: well", Call("finish_job", {"result": "well"})),
        (
            "- finish: {result: r, detach: true}",
            Call("finish_job", {"result": "r", "detach": True}),
        ),
        ("- parallel: [hang, [hang, hang]]", Parallel(((Hang(),), (Hang(), Hang())))),
        ("- edit: {path: a, write: b}", Edit("a", "b", append=False)),
        ("- commit: {path: a, append: b, message: m}", Commit(Edit("a", "b", append=True), "m")),
        ("- run: [sleep, 1]", Run(("sleep", "1"))),
        ("- run: {argv: [make], as: r}", Run(("make",), "r")),
        ("- say: 3", Say("3")),
        ("- usage: {input: 1, cost_usd: 0.1}", Usage(1, 0, Decimal("0.1"))),
        ("- request: {input: 7}", Request(7, 0)),
        ("- deny: Bash(rm)", Deny("Bash(rm)")),
        ("- refuse: auth", Refuse(FailureKind.AUTH, "The model refused: auth")),
        (
            "- refuse: {kind: rate_limit, text: x, final: false, wait_s: 3, silent: true}",
            Refuse(FailureKind.RATE_LIMIT, "x", final=False, wait_s=3.0, silent=True, times=1),
        ),
        (
            "- refuse: {kind: usage_limit, text: x, scope: account, resets_in_s: 20, models: [a]}",
            Refuse(
                FailureKind.USAGE_LIMIT,
                "x",
                Scope.ACCOUNT,
                resets_in_s=20.0,
                models=frozenset({"a"}),
            ),
        ),
        ("- sleep: 2", Sleep(2.0)),
        ("- disconnect", Disconnect()),
        ("- rate_limit: codex", RateLimit("codex")),
        ("- exit: 3", Exit(3)),
        ("- crash", Crash(signal.SIGKILL)),
        ("- crash: SIGSEGV", Crash(signal.SIGSEGV)),
    ],
    ids=str,
)
def test_a_step_is_understood(text: str, step: Step) -> None:
    assert parse(text) == Script((step,))


def test_a_repeat_is_written_out() -> None:
    text = "- repeat: {times: 2, steps: [hang, {repeat: {times: 2, steps: [{say: a}]}}]}"

    assert parse(text).steps == (Hang(), Say("a"), Say("a")) * 2


def test_a_mapping_sets_what_holds_for_all_steps() -> None:
    text = "mode: legacy\non_error: continue\non_resume: [{say: b}]\nsteps: [{say: a}]"

    assert parse(text) == Script((Say("a"),), (Say("b"),), "legacy", "continue")
    assert parse('{"steps": []}') == Script(())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- say: hi\n- slep: 1", r"line 2, step 2: There is no step 'slep'. Did you mean 'sleep'"),
        ("! slep 1", r"line 1, step 1: There is no step 'slep'"),
        ("- {say: a, sleep: 1}", r"line 1, step 1: A step is a mapping with one key: call, "),
        ("- [hang]", r"step 1: A step is a mapping with one key"),
        ("hello", r"it takes steps, on_resume, mode, on_error"),
        ("step: []", r"it has no 'step'; allowed: steps, on_resume"),
        ("steps: {}", r"steps must be a list"),
        ("on_resume: [{wait: 1}]", r"line 1, on_resume step 1: There is no step 'wait'"),
        ("mode: modern", r"mode is auto or legacy"),
        ("- parallel: [hang, [slep]]", r"step 1, branch 2, step 1: There is no step 'slep'"),
        ("- parallel: hang", r"parallel: it takes a list of steps"),
        ("- repeat: {times: 2}", r"repeat: steps must be a list"),
        ("- repeat: {times: -1, steps: []}", r"times must be a whole number from 0"),
        ("- repeat: {times: 9999, steps: [hang, hang]}", r"more than 10000 steps"),
        ("- call: {args: {}}", r"call: name must be a text"),
        ("- call: {name: t, args: [1]}", r"args must be a mapping"),
        ("- call: {name: t, args: {a: .nan}}", r"args must be such as JSON can hold"),
        ("- call: {name: t, args: {a: !!binary aGk=}}", r"args must be such as JSON can hold"),
        ("- call: {name: t, as: env}", r"`as` takes a name"),
        ("- call: {name: t, on_error: ignore}", r"on_error is continue or fail"),
        ("- say: yes", r"it must be a text \(in quotes"),
        ("- edit: {path: a}", r"either append or write"),
        ("- edit: {path: a, append: b, write: c}", r"either append or write"),
        ("- edit: {path: a, append: b, message: m}", r"it has no 'message'"),
        ("- run: make", r"run: it takes argv"),
        ("- run: []", r"a program and its arguments, as a list"),
        ("- usage: {cost_usd: lots}", r"cost_usd is an amount"),
        ("- request: {cost_usd: 1}", r"it has no 'cost_usd'"),
        ("- refuse: tired", r"refuse: kind is one of auth, billing, "),
        ("- refuse: {text: x}", r"refuse: kind is one of auth, billing, "),
        ("- refuse: {kind: auth, scope: world}", r"scope is model or account"),
        ("- refuse: {kind: auth, final: maybe}", r"final and silent are true or false"),
        ("- refuse: {kind: auth, wait_s: -1}", r"seconds from 0"),
        ("- refuse: {kind: auth, times: often}", r"times must be a whole number"),
        ("- refuse: {kind: auth, models: opus}", r"models is a list of names"),
        ("- sleep: .inf", r"seconds from 0 to 86400"),
        ("- sleep: long", r"it takes seconds"),
        ("- exit: 256", r"whole number from 0 to 255"),
        ("- crash: 9", r"the name of a signal"),
        ("- hang: 5", r"hang: it takes nothing"),
        ("- rate_limit: gemini", r"claude or codex"),
        ("- parallel: " + "[" * 900 + "]" * 900, r"."),
        ("&a [*a]", r"."),
        ("- parallel: &a [*a]", r"."),
    ],
)
def test_a_wrong_script_is_refused_with_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        parse(text)


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_whatever_is_written_is_a_script_or_refused(text: str) -> None:
    with suppress(Invalid):
        assert isinstance(parse(text), Script)


def test_the_reference_names_every_step_and_all_of_its_examples_hold() -> None:
    _, reference = (scripted_agent.__doc__ or "").split("STEPS.")
    steps, lines = reference.split("As lines:")
    examples = re.findall(r"^    ((\w+)(?::.*?)?)(?:  +\S.*)?$", steps, re.MULTILINE)
    marked = re.findall(r"`(! .+?)`", lines.replace("\n", " "))

    assert {name for _, name in examples} == {*FORMS, "parallel", "repeat"}
    for example, name in examples:
        if name not in ("parallel", "repeat"):
            assert len(parse(f"- {example}").steps) == 1
    assert len(marked) > 10
    for line in marked:
        parse(line)

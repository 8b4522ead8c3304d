"""The scripted agent as a process, at a real MCP server."""

import json
import signal
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.refusals import Refusal, Scope
from hurlicane_mcp.domain.stops import StopMode
from hurlicane_mcp.providers.base import (
    ConnectionLost,
    Denied,
    ErrorCleared,
    ErrorSeen,
    MessageSeen,
    ModelSeen,
    Refused,
    RequestUsage,
    SessionSeen,
    SessionUsage,
    Stopped,
    Tokens,
    ToolSeen,
    TurnSeen,
    WarningSeen,
)
from tests.providers.scripted.rehearsal import (
    PROVIDER,
    TOKEN,
    Board,
    Rehearsal,
    Stage,
    stage_at,
    until,
)

pytestmark = pytest.mark.anyio


def lead(mode: str) -> str:
    """A lead's prompt that uses every step that talks to the server."""
    steps: list[object] = [
        {"call": {"name": "create_job", "args": {"description": "! say $${x}"}, "as": "a"}},
        {
            "parallel": [
                {"call": {"name": "create_job", "args": {"description": "b"}, "as": "b"}},
                [
                    {"call": {"name": "create_job", "args": {"description": "c"}}},
                    {"say": "side by side"},
                ],
            ]
        },
        {"call": {"name": "set_priority", "args": {"priority": "${a.priority}"}}},
        {"call": {"name": "get_job", "args": {"job_id": "x"}, "expect_error": "not_found"}},
        {"call": {"name": "get_job", "args": {"job_id": "y"}, "as": "y", "on_error": "continue"}},
        {"repeat": {"times": 2, "steps": [{"usage": {"input": 10, "output": 1}}]}},
        {"usage": {"cost_usd": "0.05"}},
        {"call": {"name": "wait_for_jobs", "args": {"job_ids": ["${a.job_id}"]}, "as": "done"}},
        {"warn": "that was ${y.code}"},
        {"say": "${done.jobs.0.result}, ${env.GREETING}"},
        {"finish": "All done: ${done.jobs.0.job_id}"},
    ]
    return f"# Job\nLead.\n\n```script\n{json.dumps({'mode': mode, 'steps': steps})}\n```\n"


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A stage without a server."""
    return stage_at(tmp_path)


def tool_errors(seen: Rehearsal) -> list[str]:
    """The errors of tool calls, in order."""
    return [tool.detail for tool in seen.of(ToolSeen) if tool.is_error]


async def ready(process: Process) -> None:
    """Return once the agent has said something."""
    assert process.stdout is not None
    lines = BufferedByteReceiveStream(process.stdout)
    with anyio.fail_after(10):
        while b'"message"' not in await lines.receive_until(b"\n", 10_000):
            pass


@pytest.mark.parametrize(
    ("mode", "protocol"), [("auto", "2026-07-28"), ("legacy", "2025-11-25")], ids=str
)
async def test_a_lead_talks_to_the_server_in_either_era(
    stage: Stage, mode: str, protocol: str
) -> None:
    board = Board()
    async with board.serving():
        seen = await Stage(stage.folder, board.url).rehearse(lead(mode), model="opus[1m]")

    assert (seen.code, seen.errors) == (0, "")
    assert board.headers == {f"Bearer {TOKEN}"}
    assert board.protocols == {protocol}
    assert board.calls[0] == ("create_job", {"description": "! say ${x}"})
    assert board.of("set_priority") == [{"priority": 7}]
    assert board.of("finish_job") == [{"result": "All done: job_1"}]
    assert seen.of(ModelSeen) == [ModelSeen("opus[1m]")]
    assert seen.of(WarningSeen) == [WarningSeen("that was not_found")]
    assert seen.of(MessageSeen)[-1] == MessageSeen("result of job_1, good day")
    assert seen.of(SessionUsage)[-1] == SessionUsage(Tokens(20, 2), Decimal("0.05"))
    assert len({turn.request_id for turn in seen.of(TurnSeen)}) == len(board.calls) == 8
    assert Counter(tool.finished for tool in seen.of(ToolSeen)) == {True: 8, False: 8}
    assert tool_errors(seen) == [
        f"Error executing tool get_job: not_found: There is no job '{name}'." for name in "xy"
    ]
    assert seen.of(ErrorSeen) == []
    assert seen.of(ErrorCleared) == [ErrorCleared()]


async def test_a_failed_call_ends_the_agent_with_an_error(stage: Stage) -> None:
    board = Board()
    async with board.serving():
        seen = await Stage(stage.folder, board.url).rehearse(
            '! call get_job {"job_id": "x"} expect_error not_found\n'
            '! call create_job {"description": "x"} expect_error not_found\n'
            "! finish never"
        )

    assert seen.code == 1
    assert seen.of(ErrorSeen) == [
        ErrorSeen("create_job should have failed with 'not_found', but it succeeded.")
    ]
    assert board.of("finish_job") == []


async def test_an_agent_without_a_script_finishes_its_job_politely(stage: Stage) -> None:
    board = Board()
    async with board.serving():
        seen = await Stage(stage.folder, board.url, mode="legacy").rehearse(
            "# Rules\nBe quick.\n\n# Your job\n\nTidy ${HOME}.\nAnd more.\n"
        )

    assert seen.code == 0
    assert len(seen.of(MessageSeen)) == 1
    assert board.calls == [("finish_job", {"result": "Tidy ${HOME}."})]
    assert board.protocols == {"2025-11-25"}


async def test_calls_fail_while_the_server_is_away_and_work_when_it_is_back(stage: Stage) -> None:
    board = Board()
    pause = stage.folder / "pause"
    wait = f'! run sh -c "touch {pause}; while [ -e {pause} ]; do sleep 0.02; done"\n'
    call = '! call create_job {"description": "x"}\n'
    prompt = f"! on_error continue\n{call}{wait}{call}{call}{wait}{call}! disconnect\n{call}"
    seen: list[Rehearsal] = []

    async def rehearse() -> None:
        seen.append(await Stage(stage.folder, board.url).rehearse(prompt))

    async with anyio.create_task_group() as tasks:
        async with board.serving():
            tasks.start_soon(rehearse)
            await until(pause.exists)
        pause.unlink()
        await until(pause.exists)
        async with board.serving():
            pause.unlink()
            await until(lambda: seen)

    away, again, cut = tool_errors(seen[0])
    assert "connection closed before the tool call was answered" in away
    assert again == cut == 'MCP server "hurlicane" is not connected'
    # One more than there were failed calls: `disconnect` says so itself.
    assert [lost.text for lost in seen[0].of(ConnectionLost)] == [away, again, cut, cut]
    assert len(board.of("create_job")) == 2
    assert seen[0].code == 0


async def test_on_a_terminal_the_agent_reads_its_prompt_from_a_file(stage: Stage) -> None:
    request = replace(stage.request("! say hello\n! exit 3"), interactive=True)
    spec = PROVIDER.launch(request)
    for file, text in spec.files.items():
        file.write_text(text)
    process = await anyio.open_process(
        spec.argv, stderr=None, cwd=stage.work_dir, env=stage.environment(spec)
    )
    async with process:
        assert process.stdout is not None
        lines = [line async for line in process.stdout]  # its input is never ended
        await process.wait()

    readings = [one for line in b"".join(lines).splitlines() for one in PROVIDER.parse_line(line)]
    assert process.returncode == 3
    assert SessionSeen(spec.session_id or "") in readings
    assert MessageSeen("hello") in readings


async def test_edits_programs_and_garbage_need_no_server(stage: Stage) -> None:
    stage.git("config", "core.hooksPath", ".hooks")
    (stage.work_dir / ".hooks").mkdir()
    hook = stage.work_dir / ".hooks" / "pre-commit"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o700)
    token = 'import os; print(os.environ.get("HURLICANE_TOKEN"), os.environ["GREETING"])'
    steps: list[object] = [
        {"print": '{"event": "mess'},
        {"print_bytes": 3_000_000},
        {"edit": {"path": "deep/down.txt", "write": "one\n"}},
        {"edit": {"path": "deep/down.txt", "append": "two\n"}},
        {"commit": {"path": "notes.txt", "append": "a\n", "message": "Add notes"}},
        {"commit": {"path": "notes.txt", "append": ""}},
        {"run": {"argv": [sys.executable, "-c", token], "as": "ran"}},
        {"run": {"argv": ["no-such-program"], "on_error": "continue"}},
        {"sleep": 0.01},
        {"say": "${ran.exit_code} ${ran.output}"},
        {"exit": 3},
        {"say": "never"},
    ]
    (stage.work_dir / "script.json").write_text(json.dumps(steps))
    seen = await stage.rehearse("Follow it.\n\nscript: script.json\n")

    assert (seen.code, seen.errors) == (3, "")
    assert max(map(len, seen.lines)) == 3_000_000
    assert (stage.work_dir / "deep" / "down.txt").read_text() == "one\ntwo\n"
    assert stage.git("log", "--format=%an %s").splitlines() == ["Scripted Agent Add notes"]
    assert stage.git("status", "--short").splitlines() == [
        "?? .hooks/",
        "?? deep/",
        "?? script.json",
    ]
    assert seen.of(MessageSeen) == [MessageSeen("0 None good day\n")]
    assert len(tool_errors(seen)) == 1
    assert seen.of(ErrorCleared) == []


async def test_agents_that_share_a_worktree_all_commit(stage: Stage) -> None:
    def prompt(name: str) -> str:
        commit = {"commit": {"path": f"{name}.txt", "append": "line\n", "message": name}}
        return f"```script\n- repeat: {{times: 6, steps: [{json.dumps(commit)}]}}\n```"

    async def commit(name: str) -> None:
        rehearsed = await stage.rehearse(prompt(name))
        assert rehearsed.of(ErrorSeen) == []

    async with anyio.create_task_group() as tasks:
        for name in ("left", "right"):
            tasks.start_soon(commit, name)

    subjects = Counter(stage.git("log", "--format=%s").splitlines())
    assert subjects == {"left": 6, "right": 6}


async def test_a_killed_session_goes_on_behind_the_crash(stage: Stage) -> None:
    print_42 = json.dumps({"argv": [sys.executable, "-c", "print(42)"], "as": "ran"})
    prompt = f"""
! usage {{"input": 5, "cost_usd": "0.1"}}
! run {print_42}
! call get_job on_error continue
! crash
! call get_job on_error continue
! usage {{"output": 2, "cost_usd": "0.02"}}
! say resumed with ${{ran.output}}
! rate_limit codex
! say behind the limit
"""
    first = await stage.rehearse(prompt)
    session = first.of(SessionSeen)[0].session_id
    second = await stage.rehearse("Go on.", resume=session, model="other")
    third = await stage.rehearse("Go on.", resume=session)

    assert first.code == -signal.SIGKILL
    assert second.of(SessionSeen) == [SessionSeen(session)]
    assert second.of(ModelSeen) == [ModelSeen("other")]
    assert second.of(MessageSeen) == [MessageSeen("resumed with 42\n")]
    assert second.of(SessionUsage) == [SessionUsage(Tokens(5, 2), Decimal("0.12"))]
    assert first.of(TurnSeen) + second.of(TurnSeen) == [
        TurnSeen(f"{session}:1"),
        TurnSeen(f"{session}:2"),
    ]
    assert second.code == 1
    assert "usage limit" in second.of(ErrorSeen)[0].text
    assert (third.code, third.of(MessageSeen)) == (0, [MessageSeen("behind the limit")])


async def test_a_resumed_session_follows_on_resume_where_there_is_one(stage: Stage) -> None:
    first = await stage.rehearse("! rate_limit claude\n! on_resume\n! say back again\n")
    session = first.of(SessionSeen)[0].session_id
    second = await stage.rehearse("! say not this", resume=session)

    assert first.code == 1
    assert first.of(ErrorSeen)[0].text.startswith("API Error: Request rejected (429)")
    assert (second.code, second.of(MessageSeen)) == (0, [MessageSeen("back again")])


async def test_a_refused_session_goes_on_at_the_same_step_with_another_model(stage: Stage) -> None:
    prompt = """
! say before
! refuse {"kind": "overloaded", "text": "Full", "models": ["opus", "sonnet"]}
! say behind
"""
    first = await stage.rehearse(prompt, model="opus")
    session = first.of(SessionSeen)[0].session_id
    second = await stage.rehearse("Go on.", resume=session, model="sonnet")
    third = await stage.rehearse("Go on.", resume=session, model="haiku")

    refused = [Refused(Refusal(FailureKind.OVERLOADED, "Full"))]
    assert (first.code, first.of(MessageSeen)) == (1, [MessageSeen("before")])
    assert first.of(ErrorSeen) == [ErrorSeen("Full")]
    assert first.of(Refused) == second.of(Refused) == refused
    assert (second.code, second.of(MessageSeen)) == (1, [])
    assert (third.code, third.of(MessageSeen), third.of(Refused)) == (
        0,
        [MessageSeen("behind")],
        [],
    )


async def test_a_refused_agent_that_waits_asks_again_and_goes_on(stage: Stage) -> None:
    seen = await stage.rehearse(
        '! refuse {"kind": "rate_limit", "final": false, "wait_s": 0.01, "times": 3, "text": "x"}\n'
        '! refuse {"kind": "rate_limit", "final": false, "wait_s": 0.01, "silent": true, '
        '"text": "y"}\n'
        "! say on"
    )

    waiting = Refusal(
        FailureKind.RATE_LIMIT, "x", is_final=False, cli_waits=timedelta(seconds=0.01)
    )
    silent = Refusal(FailureKind.RATE_LIMIT, "y", is_final=False)
    assert seen.code == 0
    assert seen.of(Refused) == [*[Refused(waiting)] * 3, Refused(silent)]
    assert seen.of(ErrorCleared) == [ErrorCleared()] * 3  # behind each step, and at the end
    assert seen.of(ErrorSeen) == []
    assert seen.of(MessageSeen) == [MessageSeen("on")]


async def test_what_a_session_was_refused_counts_over_its_processes(stage: Stage) -> None:
    step = '{"kind": "usage_limit", "scope": "account", "times": 2, "resets_in_s": 3600}'
    first = await stage.rehearse(f"! refuse {step}\n! say on")
    session = first.of(SessionSeen)[0].session_id
    second = await stage.rehearse("Go on.", resume=session)
    third = await stage.rehearse("Go on.", resume=session)

    (announced,), (again,) = first.of(Refused), second.of(Refused)
    assert announced == again  # the end that is announced stays where it is
    assert announced.refusal.scope is Scope.ACCOUNT
    assert announced.refusal.ends_at(datetime.now(UTC)) is not None
    assert (third.code, third.of(Refused), third.of(MessageSeen)) == (0, [], [MessageSeen("on")])


async def test_a_limit_is_over_at_its_announced_end(stage: Stage) -> None:
    seen = await stage.rehearse(
        '! refuse {"kind": "rate_limit", "final": false, "wait_s": 0.05, "resets_in_s": 0.2}\n'
        "! say on"
    )

    assert (seen.code, seen.of(MessageSeen)) == (0, [MessageSeen("on")])


async def test_requests_and_denials_are_told_at_once(stage: Stage) -> None:
    seen = await stage.rehearse(
        '! request {"input": 1000, "output": 50}\n! deny Bash(rm)\n'
        '! request {"output": 5}\n! usage {}',
        model="opus",
    )

    session = seen.of(SessionSeen)[0].session_id
    assert seen.of(TurnSeen) == [TurnSeen(f"{session}:1"), TurnSeen(f"{session}:2")]
    assert seen.of(RequestUsage) == [
        RequestUsage(f"{session}:1", "opus", Tokens(1000, 50)),
        RequestUsage(f"{session}:2", "opus", Tokens(0, 5)),
    ]
    assert seen.of(Denied) == [Denied("Bash(rm)")]
    assert seen.of(SessionUsage) == [SessionUsage(Tokens(1000, 55), Decimal("0.001055"))]


async def test_an_agent_stops_before_a_turn_too_many_and_goes_on_there(stage: Stage) -> None:
    prompt = "! request {}\n! request {}\n! request {}\n! say end"
    first = await stage.rehearse(prompt, max_turns=2)
    session = first.of(SessionSeen)[0].session_id
    second = await stage.rehearse("Go on.", resume=session, max_turns=2)

    assert (first.code, len(first.of(TurnSeen))) == (1, 2)
    assert first.of(Stopped) == [Stopped(StopMode.TURNS)]
    assert first.of(ErrorSeen) == first.of(ErrorCleared) == []
    assert (second.code, second.of(TurnSeen)) == (0, [TurnSeen(f"{session}:3")])
    assert (second.of(Stopped), second.of(MessageSeen)) == ([], [MessageSeen("end")])


async def test_an_agent_that_hangs_can_be_ended_unless_it_ignores_term(stage: Stage) -> None:
    async with stage.running("! say here\n! hang") as meek:
        await ready(meek)
        meek.terminate()
        with anyio.fail_after(5):
            assert await meek.wait() == -signal.SIGTERM

    async with stage.running("! ignore_term\n! say here\n! hang") as stubborn:
        await ready(stubborn)
        stubborn.terminate()
        with anyio.move_on_after(0.3):
            await stubborn.wait()
        assert stubborn.returncode is None


async def test_what_cannot_run_says_why_on_standard_error_only(stage: Stage) -> None:
    malformed = await stage.rehearse("```script\n- say: hello\n- slep: 1\n```")
    unknown = await stage.rehearse("Go on.", resume="no-such-session")

    assert malformed.code == 2
    assert "line 2, step 2: There is no step 'slep'. Did you mean 'sleep'?" in malformed.errors
    assert unknown.code == 1
    assert unknown.errors == "No session found with ID: no-such-session\n"
    assert malformed.lines == unknown.lines == []


async def test_an_agent_that_calls_no_tool_starts_without_the_sdk() -> None:
    code = (
        "import sys, hurlicane_mcp.providers.scripted_agent.__main__;"
        "print(sorted({'mcp', 'httpx2', 'pydantic', 'yaml'} & {*sys.modules}))"
    )
    done = await anyio.run_process((sys.executable, "-c", code))

    assert done.stdout == b"[]\n"

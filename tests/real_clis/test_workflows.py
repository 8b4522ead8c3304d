"""Workflows of the real CLIs: one implements, the other reviews. Only the models are scripted."""

from pathlib import Path
from typing import Any

import pytest

from tests.gh import StubGh
from tests.git.checkouts import git
from tests.real_clis.model_script import (
    Conversation,
    HttpError,
    Move,
    Say,
    Script,
    Told,
    by_role,
    in_order,
)
from tests.real_clis.trial import OPUS, SONNET, Trial, trial
from tests.real_clis.workflow_script import (
    CONTRACT,
    FIRST,
    FIX,
    ONE_CYCLE,
    SECOND,
    TASK,
    TWO_CYCLES,
    Asked,
    by_phase,
    finish,
    shell,
)
from tests.stories.server import until
from tests.stories.workflow_task import repository, subjects

pytestmark = [pytest.mark.real_cli, pytest.mark.anyio, pytest.mark.timeout(180)]

FINAL = ("complete", "incomplete", "cancelled", "blocked")
CREW = {
    **dict.fromkeys(("assess", "implement", "repair"), "claude"),
    **dict.fromkeys(("review", "verify"), "codex"),
}


async def run(on: Trial, folder: Path, **more: object) -> dict[str, Any]:
    """All about a workflow on *folder* that has come to its end."""
    body = {"task": TASK, "title": "Two files", "work_dir": str(folder), **more}
    with on.server.rest() as rest:
        made = rest.post("/api/workflows", json=body).raise_for_status().json()
    path = f"/api/workflows/{made['workflow_id']}"
    await until(lambda: on.get(path)["state"] in FINAL, 120)
    return on.get(path)


def steps(view: dict[str, Any]) -> list[tuple[int, str]]:
    """Cycle and phase of each try at a phase, in order."""
    return [(one["cycle"], one["phase"]) for one in view["phases"]]


def notes(on: Trial, view: dict[str, Any]) -> dict[str, str]:
    """What the workflow's agents have written down."""
    query = {"project": view["project"]}
    found = on.get("/api/notes", prefix=view["notes"], **query)["notes"]
    names = [one["key"].removeprefix(view["notes"]) for one in found]
    return {name: on.get(f"/api/notes/{view['notes']}{name}", **query)["value"] for name in names}


async def test_claude_implements_and_codex_reviews_and_verifies(tmp_path: Path) -> None:
    """The crew is that of the defaults. The user's hook runs with each commit of an agent."""
    gh = StubGh(tmp_path / "gh")
    places = repository(tmp_path, "https://github.com/acme/thing.git")
    hook = places.folder / ".git" / "hooks" / "commit-msg"
    hook.write_text('#!/bin/sh\necho "\nHooked: yes" >> "$1"\n', encoding="utf-8")
    hook.chmod(0o755)
    script = by_phase(TWO_CYCLES)
    with trial(tmp_path, script, provider="claude", gh_bin=gh.program) as on:
        view = await run(on, places.folder, verify=True, publish="pull_request")
        assert view["state"] == "complete", view
        written = notes(on, view)
        attempts = {
            (phase["cycle"], phase["phase"]): on.attempts(phase["job_id"])
            for phase in view["phases"]
        }
    assert steps(view) == list(TWO_CYCLES)
    assert [len(found) for found in attempts.values()] == [1] * len(TWO_CYCLES)
    for (_, phase), (attempt,) in attempts.items():
        assert (attempt["provider"], attempt["outcome"]) == (CREW[phase], "done")
    assert view["models_used"] == [f"claude:{OPUS}", "codex:gpt-5-codex"]
    check_notes(written)
    check_what_was_told(on)
    branch = view["branch"]
    work = f"main..{branch}"
    assert subjects(places.remote, work) == [FIRST, "Mend one.txt", SECOND]
    trailers = git(places.remote, "log", "--format=%(trailers:key=Hooked,valueonly)", work).split()
    assert trailers == ["yes"] * 3
    assert git(places.remote, "show", f"{branch}:one.txt") == "one\nand more"
    assert git(places.folder, "status", "--porcelain", "--branch") == "## main"
    (pull,) = gh.pulls
    assert (pull.url, pull.base, pull.head) == (view["published"]["url"], "main", branch)
    assert f"- [x] {FIRST}\n- [x] {FIX}\n- [x] {SECOND}\n" in pull.body
    assert "without codex:gpt-5-codex, whose price is not known; an agent has built" in pull.body
    for line in ("implemented by claude:opus", "reviewed by codex"):
        assert f"\n- {line}\n" in pull.body


def check_notes(written: dict[str, str]) -> None:
    """The plan, the contract and the worklogs are as the agents left them."""
    assert written.pop("plan") == f"# Plan\n\n- [x] {FIRST}\n- [x] {FIX}\n- [x] {SECOND}\n"
    assert written.pop("contract") == CONTRACT
    assert written == {
        "worklog/cycle-1": "Wrote one.txt. It was forgotten to be committed at first.",
        "worklog/cycle-2": "Mended one.txt, wrote two.txt.",
    }


def check_what_was_told(on: Trial) -> None:
    """Each phase was shown what those before it had made, and refused what does not hold."""
    last = {
        Asked.of(request.conversation): request.conversation
        for request in (*on.claude.requests, *on.codex.requests)
    }
    refused, accepted = last[Asked("implement", 1)].results("finish_job")
    assert "clean_tree failed" in refused.text
    assert "?? one.txt" in refused.text
    assert accepted.data()["status"] == "done"
    assert f"> {FIX}\n" in last[Asked("implement", 2)].prompt
    review = last[Asked("review", 2)]
    for shown in ("+one", "Wrote one.txt. It was forgotten", CONTRACT):
        assert shown in review.prompt
    (diff,) = (one.text for one in last[Asked("review", 3)].results("exec_command"))
    assert "+and more" in diff
    assert "+two" in diff
    (tried,) = (one.text for one in last[Asked("verify", 3)].results("exec_command"))
    assert "2:and more" in tried
    # Nothing of a phase leaks into the next one: each begins a conversation of its own.
    assert all(
        sum("Phase: " in turn.text for turn in one.turns if isinstance(turn, Told)) == 1
        for one in last.values()
    )


def refused_at_work(script: Script) -> Script:
    """Opus answers 429 once its implementation has made its commit."""

    def answer(conversation: Conversation) -> Move:
        if (
            Asked.of(conversation).phase == "implement"
            and "opus" in conversation.model
            and conversation.calls >= 3
        ):
            error = {"type": "rate_limit_error", "message": "Number of requests has exceeded"}
            return HttpError(429, body={"type": "error", "error": error})
        return script(conversation)

    return answer


async def test_a_phase_goes_on_with_the_next_model_when_its_own_one_refuses(tmp_path: Path) -> None:
    places = repository(tmp_path)
    script = refused_at_work(by_phase(ONE_CYCLE))
    with trial(tmp_path, script, provider="claude") as on:
        view = await run(on, places.folder, max_cycles=1)
        assert view["state"] == "complete", view
        assert steps(view) == list(ONE_CYCLE)
        ends = [(one["model"], one["outcome"]) for one in on.attempts(view["phases"][2]["job_id"])]
    assert ends == [(OPUS, "limited"), (SONNET, "done")]
    assert subjects(places.remote, f"main..{view['branch']}") == [FIRST]
    assert view["models_used"] == [f"claude:{OPUS}", f"claude:{SONNET}", "codex:gpt-5-codex"]


def test_codex_commits_in_a_worktree_what_its_checks_want(tmp_path: Path) -> None:
    """Its sandbox is open there and in the repository, and closed around them."""
    places = repository(tmp_path)
    outside = (places.folder, tmp_path)
    script = in_order(
        shell("echo one > one.txt; touch " + " ".join(f"{one}/outside" for one in outside)),
        finish("Done, I think."),
        shell("git add one.txt && git commit --quiet -m 'Write one.txt' && git status"),
        finish("Committed."),
        Say("Bye."),
    )
    checks = ["clean_tree", "diff_not_empty"]
    with trial(tmp_path, by_role({"lead": script})) as on:
        place = {"work_dir": str(places.folder), "use_worktree": True}
        job = on.create("[[role:lead]] Write.", provider="codex", checks=checks, **place)
        told = on.outcome(job)
        assert (told["status"], told["result"]) == ("done", "Committed."), told
        assert subjects(places.folder, f"main..{told['branch']}") == [FIRST]
        (failed,) = on.events(job, "job.checks_failed")
        assert "?? one.txt" in failed["data"]["told"]
    assert not any((folder / "outside").exists() for folder in outside)

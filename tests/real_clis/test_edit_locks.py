"""The real Claude Code as an agent of a job that enforces file locks."""

from pathlib import Path

import pytest

from tests.real_clis.model_script import CallTool, Conversation, Move, Say, Script, by_role
from tests.real_clis.trial import trial

pytestmark = [pytest.mark.real_cli, pytest.mark.timeout(120)]


def scripted(folder: Path) -> Script:
    """An agent that writes at first without the lock, then with it."""
    file = str(folder / "f.txt")
    write = CallTool("Write", {"file_path": file, "content": "mine"}, server=None)

    def move(conversation: Conversation) -> Move:
        steps: list[Move] = [
            write,
            CallTool("lock_files", {"paths": ["f.txt"]}),
            write,
            CallTool("finish_job", {"result": conversation.results("Write")[0].text})
            if len(conversation.results("Write")) > 1
            else Say("Never said."),
            Say("Done."),
        ]
        return steps[conversation.calls]

    return move


def test_an_edit_is_refused_until_the_file_is_locked(tmp_path: Path) -> None:
    folder = tmp_path / "sandbox" / "work"
    with trial(tmp_path, by_role({"writer": scripted(folder)})) as on:
        job = on.create("[[role:writer]] Write f.txt.", enforce_locks=True)
        told = on.outcome(job)
        assert told["status"] == "done"
        assert f"You do not hold the lock of {folder / 'f.txt'}" in told["result"]
        assert "lock_files" in told["result"]
        assert (folder / "f.txt").read_text() == "mine"
        (taken,) = on.events(job, "lock.taken")
        assert taken["data"]["paths"] == [str(folder / "f.txt")]
        requests = on.claude.requests
        assert "Before you edit or create a file, lock it" in requests[0].conversation.prompt

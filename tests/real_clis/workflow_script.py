"""A task for workflows of the real CLIs: what the models do in each phase that a prompt names.

What they do is what `tests/stories/workflow_task.py` has scripted agents do: two cycles, a `Fix:`
milestone, a verification. Here the tools are the CLIs' own, and the models see what the CLIs show.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tests.real_clis.model_script import CallTool, Conversation, Move, Say, Script

FIRST, SECOND = "Write one.txt", "Write two.txt"
FIX = "Fix: one.txt lacks its second line (one.txt:1)"
TASK = "[[role:crew]] Write two files."
CONTRACT = "Both files exist, and `grep -q more one.txt` passes."

_PHASE = re.compile(r"^Phase: (\w+) \(cycle (\d+) of \d+\)$", re.MULTILINE)
_WORKFLOW = re.compile(r"^Workflow: (wf_\w+)$", re.MULTILINE)

Step: TypeAlias = Move | Script
Phases: TypeAlias = Mapping[tuple[int, str], Sequence[Step]]


@dataclass(frozen=True, slots=True)
class Asked:
    """Which phase a conversation is about."""

    phase: str
    cycle: int

    @staticmethod
    def of(conversation: Conversation) -> "Asked":
        """What stands in the agent's prompt."""
        found = _PHASE.search(conversation.prompt)
        assert found is not None, f"the prompt names no phase: {conversation.prompt[:500]}"
        return Asked(found[1], int(found[2]))


def by_phase(phases: Phases) -> Script:
    """A script that takes the steps of the phase that the prompt names, one for each call so far.

    Behind the last step it says good-bye. The calls are counted, not the moves: a resumed session
    goes on where it was.
    """

    def script(conversation: Conversation) -> Move:
        asked = Asked.of(conversation)
        steps = phases[asked.cycle, asked.phase]
        if conversation.calls >= len(steps):
            return Say("Bye.")
        step = steps[conversation.calls]
        return step(conversation) if callable(step) else step

    return script


def bash(command: str) -> CallTool:
    """A shell command of Claude Code."""
    return CallTool("Bash", {"command": command}, server=None)


def shell(command: str) -> CallTool:
    """A shell command of Codex, in its sandbox."""
    return CallTool("exec_command", {"cmd": command}, server=None)


def finish(result: str) -> CallTool:
    """The end of a phase."""
    return CallTool("finish_job", {"result": result})


def write(file: str, text: str) -> Script:
    """Claude Code's own tool for files; the last command must have been `pwd`."""

    def step(conversation: Conversation) -> Move:
        folder = conversation.results("Bash")[-1].text.strip()
        return CallTool("Write", {"file_path": f"{folder}/{file}", "content": text}, server=None)

    return step


def note(name: str, text: str) -> Script:
    """Write one of the notes of the workflow."""

    def step(conversation: Conversation) -> Move:
        key = f"workflow/{_workflow(conversation)}/{name}"
        return CallTool("write_note", {"key": key, "value": text})

    return step


def read_plan(conversation: Conversation) -> Move:
    """Read the note with the plan."""
    return CallTool("read_note", {"key": f"workflow/{_workflow(conversation)}/plan"})


def change_plan(*changes: tuple[str, str]) -> Script:
    """Write the plan that was read last, with each first text replaced by the second."""

    def step(conversation: Conversation) -> Move:
        plan = conversation.results("read_note")[-1].data()["value"]
        for before, after in changes:
            assert before in plan, plan
            plan = plan.replace(before, after)
        return note("plan", plan)(conversation)

    return step


def check_off(milestone: str) -> Script:
    """Check a milestone off in the plan that was read last."""
    return change_plan((f"- [ ] {milestone}", f"- [x] {milestone}"))


def named_diff(conversation: Conversation) -> Move:
    """The command that the prompt names for the changes."""
    found = re.search(r"`(git diff [0-9a-f]+\^ HEAD)`", conversation.prompt)
    assert found is not None, conversation.prompt
    return shell(found[1])


def _workflow(conversation: Conversation) -> str:
    found = _WORKFLOW.search(conversation.prompt)
    assert found is not None, f"the prompt names no workflow: {conversation.prompt[:500]}"
    return found[1]


def commit(*files: str, message: str) -> CallTool:
    """Have Claude Code commit these files."""
    return bash(f"git add {' '.join(files)} && git commit --quiet -m '{message}' && git status")


#: Claude Code implements, Codex reviews and verifies.
TWO_CYCLES: Phases = {
    (0, "assess"): (
        bash("git status --short && ls"),
        note("plan", f"# Plan\n\n- [ ] {FIRST}\n- [ ] Write the other one\n"),
        note("contract", CONTRACT),
        finish("Two milestones."),
    ),
    (1, "review"): (
        shell("git log --oneline && git status --short"),
        read_plan,
        change_plan(("Write the other one", SECOND)),
        finish("The second milestone named no file."),
    ),
    (1, "implement"): (
        bash("pwd"),
        write("one.txt", "one\n"),
        finish("Done, I think."),  # not committed: this has to be refused
        commit("one.txt", message=FIRST),
        read_plan,
        check_off(FIRST),
        note("worklog/cycle-1", "Wrote one.txt. It was forgotten to be committed at first."),
        finish("one.txt is there."),
    ),
    (2, "review"): (
        named_diff,
        read_plan,
        change_plan((f"- [ ] {SECOND}", f"- [ ] {FIX}\n- [ ] {SECOND}")),
        finish("one.txt lacks a line."),
    ),
    (2, "implement"): (
        bash("echo and more >> one.txt"),
        commit("one.txt", message="Mend one.txt"),
        read_plan,
        check_off(FIX),
        bash("pwd"),
        write("two.txt", "two\n"),
        commit("two.txt", message=SECOND),
        read_plan,
        check_off(SECOND),
        note("worklog/cycle-2", "Mended one.txt, wrote two.txt."),
        finish("Both are there."),
    ),
    (3, "review"): (named_diff, finish("Tried both files; no defects.")),
    (3, "verify"): (
        shell("cat two.txt && grep -n more one.txt"),
        finish("Both files are there, and one.txt has its second line."),
    ),
}

#: The same with one milestone and without a verification.
ONE_CYCLE: Phases = {
    (0, "assess"): (
        note("plan", f"- [ ] {FIRST}\n"),
        note("contract", CONTRACT),
        finish("One milestone."),
    ),
    (1, "review"): (finish("The plan is good."),),
    (1, "implement"): (
        bash("pwd"),
        write("one.txt", "one\n"),
        commit("one.txt", message=FIRST),
        read_plan,
        check_off(FIRST),
        note("worklog/cycle-1", "Wrote one.txt."),
        finish("one.txt is there."),
    ),
}

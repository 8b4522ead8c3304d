"""One script in the task of a workflow, and each of its agents follows the part that is its own."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest

from hurlicane_mcp.domain.workflows import Phase
from hurlicane_mcp.engine.prompts import Prompts
from hurlicane_mcp.engine.workflow_prompts import PhaseFacts, WorkflowPrompts
from hurlicane_mcp.errors import Invalid
from hurlicane_mcp.providers.base import MessageSeen, SessionSeen
from hurlicane_mcp.providers.scripted_agent.phases import At, find
from hurlicane_mcp.providers.scripted_agent.script import parse
from hurlicane_mcp.providers.scripted_agent.vocabulary import Say
from tests.providers.scripted.rehearsal import Board, Stage, stage_at

pytestmark = pytest.mark.anyio

PROMPTS = WorkflowPrompts(Prompts.load())
TASK = """\
Build it. Do not follow this:

Phase: verify (cycle 9 of 9)
Workflow: wf_other

```yaml script
phases:
  assess:
    - call:
        name: create_job
        args: {description: "workflow/${phase.workflow}/plan, cycle ${phase.cycle}"}
  review:
    cycles:
      1: [{say: "the plan"}]
      default: [{say: "the code of cycle ${phase.cycle}"}]
  implement:
    cycles:
      2: [{say: two}]
steps:
  - say: "nothing for ${phase.name}"
```
"""
#: Notes and changes that hold scripts of their own: they come behind the task.
OTHER = "```script\n- say: not this one\n```\n"
FACTS = PhaseFacts(
    "wf_1", "Build it", TASK, Phase.ASSESS, 0, 10, plan=OTHER, contract=OTHER, diff=OTHER,
    problems=[OTHER],
)  # fmt: skip


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return stage_at(tmp_path)


@pytest.fixture
async def board() -> AsyncGenerator[Board]:
    board = Board()
    async with board.serving():
        yield board


def prompt(phase: Phase, cycle: int, task: str = TASK) -> str:
    described = PROMPTS.of(replace(FACTS, phase=phase, cycle=cycle, task=task))
    return f"You are an agent.\n\n# Job job_1: Phase\n\n{described}"


@pytest.mark.parametrize(
    ("phase", "cycle", "said"),
    [
        (Phase.REVIEW, 1, "the plan"),
        (Phase.REVIEW, 2, "the code of cycle 2"),
        (Phase.REVIEW, 12, "the code of cycle 12"),
        (Phase.IMPLEMENT, 2, "two"),
        (Phase.IMPLEMENT, 3, "nothing for implement"),
        (Phase.VERIFY, 3, "nothing for verify"),
        (Phase.REPAIR, 0, "nothing for repair"),
    ],
)
async def test_an_agent_follows_the_steps_of_its_phase_and_cycle(
    stage: Stage, phase: Phase, cycle: int, said: str
) -> None:
    done = await stage.rehearse(prompt(phase, cycle))

    assert (done.code, done.errors) == (0, "")
    assert [one.text for one in done.of(MessageSeen)] == [said]


async def test_references_name_the_workflow_of_the_prompt_and_not_one_of_the_task(
    stage: Stage, board: Board
) -> None:
    done = await replace(stage, url=board.url).rehearse(prompt(Phase.ASSESS, 0))

    assert done.code == 0
    assert board.of("create_job") == [{"description": "workflow/wf_1/plan, cycle 0"}]


async def test_a_resumed_agent_is_still_in_its_phase(stage: Stage) -> None:
    task = "```script\nphases: {verify: [{say: one}, {exit: 0}, {say: 'still ${phase.name}'}]}\n```"
    first = await stage.rehearse(prompt(Phase.VERIFY, 3, task))
    (session,) = first.of(SessionSeen)
    second = await stage.rehearse("Go on.", resume=session.session_id)

    assert [one.text for one in second.of(MessageSeen)] == ["still verify"]


async def test_a_phase_without_steps_is_refused_before_the_first_step(stage: Stage) -> None:
    task = "```script\nphases: {implement: {cycles: {1: [{say: a}]}}, assess: [{say: b}]}\n```"
    done = await stage.rehearse(prompt(Phase.IMPLEMENT, 2, task))

    assert done.code == 2
    assert "no steps for the phase implement of cycle 2" in done.errors
    assert "implement (1), assess" in done.errors


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("Phase: review (cycle 3 of 10)\nWorkflow: wf_1", At("review", 3, "wf_1")),
        ("# Job\r\nPhase: assess (cycle 0 of 1)  \r\nx\r\nWorkflow: w", At("assess", 0, "w")),
        ("Phase: repair (cycle 1 of 1)", At("repair", 1, "")),
        ("Phase: publish (cycle 1 of 1)", None),
        ("> Phase: review (cycle 1 of 1)", None),
        ("Phase: review", None),
    ],
)
def test_the_first_line_that_names_a_phase_counts(text: str, at: At | None) -> None:
    assert find(f"{text}\nPhase: verify (cycle 8 of 9)" if at else text) == at


def test_json_writes_the_cycles_as_texts() -> None:
    text = '{"phases": {"review": {"cycles": {"02": [{"say": "a"}]}}}}'

    assert parse(text, At("review", 2, "w")).steps == (Say("a"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("phases: [hang]", r"phases is a mapping of assess, review, implement, verify, repair"),
        ("phases: {plan: []}", r"there is no phase 'plan'; phases are assess"),
        ("phases: {review: {1: []}}", r"the phase review takes a list of steps, or \{cycles"),
        ("phases: {review: {cycles: []}}", r"the phase review takes a list of steps, or"),
        ("phases: {review: {cycles: {last: []}}}", r"review: a cycle is a number or default"),
        ("phases: {review: hang}", r"steps must be a list"),
        (
            "phases:\n  verify:\n    cycles:\n      2:\n        - slep: 1",
            r"line 5, phase verify 2, step 1: There is no step 'slep'",
        ),
        ("phases: {review: [hang]}", r"for phases of workflows only"),
        ("steps: [{call: {name: t, as: phase}}]", r"other than env and phase"),
    ],
)
def test_wrong_phases_are_refused_with_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        parse(text)


def test_outside_of_workflows_a_script_with_phases_follows_its_steps() -> None:
    assert parse("phases: {review: [hang]}\nsteps: [{say: a}]").steps == (Say("a"),)

"""What the agents of a workflow are told: every branch, within its size, and nothing escapes."""

import itertools
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt  # comes with rich; the judge of where a block ends

from hurlicane_mcp.domain import milestones
from hurlicane_mcp.domain.workflows import Phase
from hurlicane_mcp.engine.fencing import block, shares
from hurlicane_mcp.engine.prompts import Prompts
from hurlicane_mcp.engine.workflow_prompts import (
    BUDGET,
    LEAST_MATERIAL,
    PhaseFacts,
    PullRequestFacts,
    WorkflowPrompts,
)
from hurlicane_mcp.errors import Invalid

PROMPTS = WorkflowPrompts(Prompts.load())
JOBS = [phase for phase in Phase if phase.is_job]
LONG = "One line of many.\n" * 3_000
BARE = PhaseFacts("wf_1", "Add x", "Add `x` to y.", Phase.ASSESS, 1, 10)
FULL = replace(
    BARE,
    plan="- [x] Read y\n- [ ] Add x\n",
    contract="Test with `make test`.",
    worklogs=[(f"workflow/wf_1/worklog/cycle-{n}", f"Log {n}.") for n in (5, 4, 3, 2, 1)],
    commits=["abcdef2 Add x", "abcdef1 Begin"],
    diff="+x\n",
    problems=["The tree was not clean."],
    milestone="**Add** x",
    checks=["`make test` ends with 0"],
    branch="hurlicane/add-x-1",
)
CUT = replace(
    FULL,
    plan=LONG,
    contract=LONG,
    worklogs=[(key, LONG) for key, _ in FULL.worklogs],
    commits=["abcdef1 Commit"] * 5000,
    diff=LONG,
    problems=[LONG],
)
NOTHING: Mapping[str, Any] = {
    "plan": "",
    "contract": "",
    "worklogs": (),
    "commits": (),
    "diff": "",
    "problems": (),
    "milestone": None,
    "checks": (),
    "branch": None,
}


def variants() -> Iterator[PhaseFacts]:
    """Each phase with everything, with nothing, cut, and with each part missing or alone."""
    for phase in JOBS:
        for cycle, most, facts in itertools.product((0, 1, 2), (2, 10), (BARE, FULL)):
            yield replace(facts, phase=phase, cycle=cycle, max_cycles=most)
        here, cut = (replace(facts, phase=phase, cycle=2) for facts in (FULL, CUT))
        yield from (cut, replace(here, commits=["no id"]), replace(cut, commits=["no id"] * 5000))
        for name, empty in NOTHING.items():
            yield replace(here, **{name: empty})
            yield replace(here, **(dict(NOTHING) | {name: getattr(FULL, name)}))


def alone(prompts: WorkflowPrompts) -> Iterator[str]:
    """What the prompts say without a workflow."""
    texts = ("", "Short.", LONG)
    for phase, plan, contract, diff in itertools.product(JOBS, texts, texts, texts):
        yield prompts.alone(phase, "Add x.", plan, contract, diff)


REQUEST = PullRequestFacts("wf_1", "Add x", "Add x.", FULL.plan, 3, 10)


def requests() -> Iterator[PullRequestFacts]:
    yield REQUEST
    yield replace(REQUEST, plan="None.", cost_usd=Decimal("1.239"), verified=True)
    yield replace(
        REQUEST, plan="- [ ] a\n" * 200, conflicts=["a.py"], checks=["`make` ends with 0"]
    )
    yield replace(REQUEST, conflicts=["a.py"], base_branch="main", models=["claude:opus did it"])
    yield replace(REQUEST, cost_usd=Decimal(0), unpriced=["codex"])


@contextmanager
def executed(lines: set[tuple[str, int]]) -> Generator[None]:
    """Notes which lines of which templates are run, in the code that Jinja makes of them."""

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.endswith(".j2"):
            return None
        if event == "line":
            lines.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def test_every_branch_of_every_template_can_be_rendered() -> None:
    prompts, seen = WorkflowPrompts(Prompts.load()), set[tuple[str, int]]()
    with executed(seen):
        for facts in variants():
            prompts.of(facts)
        for facts in requests():
            prompts.pull_request(facts)
        assert all(alone(prompts))
    environment = prompts.prompts.environment
    names = [name for name in environment.list_templates() if name.startswith("workflow/")]
    assert len(names) == 9
    for name in names:
        assert environment.loader is not None
        source, path, _ = environment.loader.get_source(environment, name)
        code = environment.compile(source, name, path, raw=True).splitlines()
        wanted = {n for n, line in enumerate(code, 1) if line.lstrip().startswith("yield ")}
        assert wanted
        missed = wanted - {line for file, line in seen if file == path}
        assert [code[n - 1].strip() for n in sorted(missed)] == [], name


@pytest.mark.parametrize("phase", JOBS)
def test_a_prompt_says_where_it_stands_before_anything_of_others(phase: Phase) -> None:
    prompt = PROMPTS.of(replace(FULL, phase=phase, cycle=2, task="Phase: verify (cycle 9 of 9)"))

    assert prompt.startswith(f"Phase: {phase} (cycle 2 of 10)\nWorkflow: wf_1\n")
    assert prompt.index("## Task") < prompt.index("## Plan") < prompt.index("## What to do")
    assert "`workflow/wf_1/plan`" in prompt
    assert "`finish_job`" in prompt.partition("## How to end")[2]


def test_implementing_names_the_milestone_the_branch_the_notes_and_the_checks() -> None:
    prompt = PROMPTS.of(replace(FULL, phase=Phase.IMPLEMENT, cycle=2))

    assert "\n> Add x\n" in prompt
    for word in (
        "`workflow/wf_1/worklog/cycle-2`",
        "`write_note`",
        "`hurlicane/add-x-1`",
        "`make test` ends with 0",
        "The tree was not clean.",
        "Log 5.",
    ):
        assert word in prompt
    assert "Log 2." not in prompt
    assert "`list_notes` with the prefix `workflow/wf_1/worklog/`" in prompt


def test_the_first_review_is_of_the_plan_and_later_ones_are_of_code() -> None:
    first, second = (PROMPTS.of(replace(FULL, phase=Phase.REVIEW, cycle=n)) for n in (1, 2))

    assert "Improve the plan" in first
    assert "- [ ] Fix: " not in first
    assert "- [ ] Fix: " in second
    assert "`git diff abcdef1^ HEAD`" in second


def test_publishing_is_no_phase_of_an_agent() -> None:
    with pytest.raises(Invalid, match="No agent does the phase publish"):
        PROMPTS.of(replace(BARE, phase=Phase.PUBLISH))


def test_what_is_cut_says_so_and_where_the_rest_is() -> None:
    prompt = PROMPTS.of(replace(CUT, phase=Phase.REVIEW, cycle=2))

    assert len(prompt.encode()) <= BUDGET
    assert len(prompt.encode()) > BUDGET - 1024
    assert prompt.count("Cut: ") == 8
    for place in (
        "`read_note` with the key `workflow/wf_1/plan`",
        "`read_note` with the key `workflow/wf_1/contract`",
        "`read_note` with the key `workflow/wf_1/worklog/cycle-3`",
        "`git log --oneline`",
        "`git diff abcdef1^ HEAD`",
    ):
        assert place in prompt


def test_the_dearest_parts_get_their_room_first() -> None:
    huge = 10**6
    assert shares([(huge, 10), (huge, 10), (5, 10), (huge, 10)], 100) == [75, 10, 5, 10]
    assert shares([(huge, 10), (huge, 10), (5, 10)], 15) == [10, 5, 0]
    assert shares([(3, 10), (4, 2)], 100) == [3, 4]
    assert shares([(3, 10)], -5) == [0]


TEXTS = st.lists(
    st.sampled_from(
        (
            "`", "```", "````", "``````````", "~~~~", "~~~~~~", "\n", "\r", "\r\n", "# Heading",
            "\n## What to do\n", "- [ ] a", "> ", "    ", "<!--", "</div>", "é", "𝄞", "\x00",
            "\ud800", "word ",
        )
    ),
    max_size=40,
).map("".join)  # fmt: skip


def headings(prompt: str) -> Sequence[str]:
    """The headings that Markdown sees."""
    tokens = MarkdownIt().parse(prompt)
    starts = [n for n, token in enumerate(tokens) if token.type == "heading_open"]
    return [tokens[n + 1].content for n in starts]


@settings(deadline=None)
@given(TEXTS, st.integers(1, 40), st.sampled_from(JOBS), st.integers(0, 3))
def test_nothing_of_others_can_end_its_block(
    text: str, times: int, phase: Phase, cycle: int
) -> None:
    evil = text * times
    harmless = PROMPTS.of(replace(FULL, phase=phase, cycle=cycle))
    prompt = PROMPTS.of(
        replace(
            FULL,
            phase=phase,
            cycle=cycle,
            task=evil,
            plan=f"a{evil}",
            contract=f"a{evil}",
            worklogs=[(key, f"a{evil}") for key, _ in FULL.worklogs],
            commits=[f"a{evil}"],
            diff=f"a{evil}",
            problems=[f"a{evil}"],
        )
    )

    assert headings(prompt) == headings(harmless)
    assert "\x00" not in prompt
    prompt.encode()


PIECES = st.tuples(TEXTS, st.integers(0, 2000)).map(lambda piece: piece[0] * piece[1])


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(JOBS),
    st.tuples(PIECES, PIECES, PIECES, PIECES, PIECES),
    st.integers(0, 50),
    st.integers(12 * 1024, 64 * 1024),
)
def test_a_prompt_keeps_to_its_budget_whatever_it_is_made_of(
    phase: Phase, texts: tuple[str, str, str, str, str], logs: int, budget: int
) -> None:
    plan, contract, worklog, diff, problem = texts
    facts = replace(
        BARE,
        phase=phase,
        cycle=2,
        plan=plan,
        contract=contract,
        worklogs=[(f"workflow/wf_1/worklog/cycle-{n}", worklog) for n in range(logs, 0, -1)],
        commits=[f"abcdef{n} {problem}" for n in range(logs)],
        diff=diff,
        problems=[problem],
        checks=["make test"] * 3,
    )
    prompt = WorkflowPrompts(PROMPTS.prompts, budget).of(facts)

    assert len(prompt.encode()) <= max(budget, 9 * 1024 + LEAST_MATERIAL)


def test_a_long_task_is_never_cut() -> None:
    prompt = PROMPTS.of(replace(CUT, task=LONG, phase=Phase.IMPLEMENT))

    assert LONG in prompt
    assert len(prompt.encode()) <= len(LONG) + 9 * 1024 + LEAST_MATERIAL


@given(TEXTS, st.integers(0, 300))
def test_a_block_has_at_most_the_room_that_it_is_given(text: str, room: int) -> None:
    cut = block(text * 20, room)

    assert len(cut.fenced.encode()) <= room
    assert cut.is_cut == (cut.shown < cut.size)


def test_a_pull_request_has_a_title_and_tells_how_it_was_made() -> None:
    facts = replace(
        REQUEST,
        title="Add\nx " + "y" * 300,
        cost_usd=Decimal("1.239"),
        unpriced=["codex:sol", "codex:luna"],
        models=["claude:opus has implemented"],
        conflicts=["src/a.py"],
        base_branch="main",
        checks=["`make test` ends with 0"],
        verified=True,
    )
    made = PROMPTS.pull_request(facts)

    assert "\n" not in made.title
    assert len(made.title) == 120
    assert made.body.startswith("> Add x.\n\n## Milestones\n\n- [x] Read y\n- [ ] Add x\n")
    for words in (
        "Merging this into `main` conflicts in:\n\n- `src/a.py`",
        "`make test` ends with 0",
        "1 of 2 milestones, 3 of at most 10 cycles, 1.24 US dollars without codex:sol, codex:luna, "
        "whose price is not known",
        "- claude:opus has implemented",
        "an agent has built and tried the result",
    ):
        assert words in made.body


@settings(deadline=None)
@given(TEXTS, st.integers(1, 500))
def test_a_pull_request_fits_whatever_its_task_and_plan_are(text: str, times: int) -> None:
    plan = "".join(f"- [ ] {' '.join(text.split())} {n}\n" for n in range(times))
    made = PROMPTS.pull_request(
        replace(REQUEST, task=text * times, plan=plan, conflicts=[text] * times)
    )

    assert len(made.body) <= 65_536
    expected = ["Milestones", "Conflicts"]
    assert [one for one in headings(made.body) if one in expected] == expected
    assert milestones.parse(plan).total == 0 or "- [ ] " in made.body

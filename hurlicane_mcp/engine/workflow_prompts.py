"""What the agents of a workflow are told, and what its pull request says.

The words are in `prompts/workflow`. Here is what goes into them, and how much of it: plan, notes
and changes are cut so that a prompt stays within its budget, and each cut says where the rest is.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from hurlicane_mcp.domain import milestones
from hurlicane_mcp.domain.texts import storable
from hurlicane_mcp.domain.workflows import Phase
from hurlicane_mcp.engine.fencing import Block, block, shares
from hurlicane_mcp.engine.prompts import Prompts
from hurlicane_mcp.errors import Invalid

#: Bytes of a whole prompt.
BUDGET = 48 * 1024
#: Bytes for plan, notes and changes, however long the task is, which is never cut.
LEAST_MATERIAL = 8 * 1024
#: Bytes of one part, however large the budget is: whoever prepares them holds up the writer.
MOST_SHOWN = 64 * 1024
#: Worklogs that are shown; for the others the prompt says where they are.
WORKLOGS = 3
MOST_DIGITS = 8  #: of the number of bytes that are shown
#: Characters of a pull request's title; GitHub takes 256 (November 2026).
MAX_TITLE = 120
#: Bytes of the task, and how many milestones and files with conflicts a pull request shows; its
#: body may have 65,536 characters (GitHub, November 2026).
SHOWN_TASK, SHOWN_MILESTONES, SHOWN_CONFLICTS, SHOWN_PATH = 4 * 1024, 100, 50, 200

_SHA = re.compile(r"[0-9a-f]{7,64}(?=\s|$)")


@dataclass(frozen=True, slots=True)
class PhaseFacts:
    """What the prompt of one phase is made of."""

    workflow_id: str
    title: str
    task: str
    phase: Phase
    cycle: int
    max_cycles: int
    plan: str = ""
    contract: str = ""
    worklogs: Sequence[tuple[str, str]] = ()  #: key and text, the newest first
    commits: Sequence[str] = ()  #: id and subject, the newest first
    diff: str = ""
    problems: Sequence[str] = ()  #: why the last try, or the evidence, did not hold
    milestone: str | None = None  #: the one to be done
    checks: Sequence[str] = ()  #: in words
    branch: str | None = None


@dataclass(frozen=True, slots=True)
class PullRequestFacts:
    """What a pull request is described by."""

    workflow_id: str
    title: str
    task: str
    plan: str
    cycles: int
    max_cycles: int
    base_branch: str | None = None
    cost_usd: Decimal | None = None
    unpriced: Sequence[str] = ()  #: models that it leaves out, since nobody knows their prices
    models: Sequence[str] = ()  #: in words: who implemented, who reviewed
    conflicts: Sequence[str] = ()  #: files that cannot be merged into the base as they are
    checks: Sequence[str] = ()  #: in words: those that held
    verified: bool = False


@dataclass(frozen=True, slots=True)
class PullRequestText:
    """Title (one line) and body (Markdown)."""

    title: str
    body: str


@dataclass(frozen=True, slots=True)
class WorkflowPrompts:
    """Renders the templates in `prompts/workflow`."""

    prompts: Prompts
    budget: int = BUDGET

    def of(self, facts: PhaseFacts) -> str:
        """The prompt for one phase, for a job's description.

        It has at most `budget` bytes, unless the task alone leaves less than `LEAST_MATERIAL`.

        Raises:
            Invalid: a template of the user's cannot be rendered; the message says why. Or the
                phase is none of an agent.
        """
        if not facts.phase.is_job:
            raise Invalid(f"No agent does the phase {facts.phase}.")
        return self._within_budget(_names(facts), _parts(facts), facts.phase)

    def alone(
        self, phase: Phase, task: str, plan: str, contract: str, diff: str = "", since: str = ""
    ) -> str:
        """The same for somebody who works without a workflow: there are no notes and no cycles.

        A review is of code if there is a *diff*, or a commit *since* which the code changed.

        Raises:
            Invalid: as `of`; or the task is empty.
        """
        if not task.strip():
            raise Invalid("`task` is empty: say what is to be done.")
        facts = PhaseFacts("", "", task, phase, 0, 0, plan, contract, diff=diff)
        names = _names(facts) | {
            "workflow_id": None,
            "reviews_code": bool(diff.strip() or since.strip()),
            "since": _line(since, SHOWN_PATH) or None,
        }
        return self._within_budget(names, _parts(facts), phase)

    def pull_request(self, facts: PullRequestFacts) -> PullRequestText:
        """Title and body of the pull request: the first line of the template, and the rest.

        Raises:
            Invalid: as `of`.
        """
        plan = milestones.parse(facts.plan)
        shown = plan.milestones[:SHOWN_MILESTONES]
        names: dict[str, Any] = {
            "workflow_id": facts.workflow_id,
            "title": _line(facts.title, MAX_TITLE),
            "task": block(facts.task, SHOWN_TASK),
            "milestones": shown,
            "left_out": plan.total - len(shown),
            "done": plan.done,
            "total": plan.total,
            "cycles": facts.cycles,
            "max_cycles": facts.max_cycles,
            "base_branch": facts.base_branch,
            "cost_usd": None if facts.cost_usd is None else f"{facts.cost_usd:.2f}",
            "unpriced": [_line(one, SHOWN_PATH) for one in facts.unpriced],
            "models": [_line(one, SHOWN_PATH) for one in facts.models],
            "conflicts": [_line(one, SHOWN_PATH) for one in facts.conflicts[:SHOWN_CONFLICTS]],
            "checks": [_line(one, SHOWN_PATH) for one in facts.checks],
            "verified": facts.verified,
        }
        title, _, body = self.prompts.render("workflow/pull_request", names).strip().partition("\n")
        return PullRequestText(_line(title, MAX_TITLE), body.strip() + "\n")

    def _within_budget(
        self, names: Mapping[str, Any], parts: Sequence["_Part"], phase: Phase
    ) -> str:
        """The prompt with as much of each part as there is room for."""
        template = f"workflow/{phase}"
        # How long is it without them, if each of them says that it is cut?
        empty = [
            replace(part.whole, text="", size=part.whole.size + 1, fenced="") for part in parts
        ]
        bare = self.prompts.render(template, {**names, **_shown(parts, empty)})
        room = self.budget - len(bare.encode())
        room -= len(parts) * MOST_DIGITS
        wanted = [(len(part.whole.fenced.encode()), part.at_first) for part in parts]
        given = shares(wanted, max(room, LEAST_MATERIAL))
        blocks = [part.cut(most) for part, most in zip(parts, given, strict=True)]
        return self.prompts.render(template, {**names, **_shown(parts, blocks)})


@dataclass(frozen=True, slots=True)
class _Part:
    """A text that may be cut."""

    name: str  #: in the templates
    whole: Block  #: or as much as can ever be shown
    at_first: int  #: bytes that it gets before those behind it get any
    language: str

    @staticmethod
    def of(name: str, text: str, at_first: int, language: str = "text", key: str = "") -> "_Part":
        return _Part(name, block(text, MOST_SHOWN, language, key), at_first, language)

    def cut(self, room: int) -> Block:
        shown = block(self.whole.text, room, self.language, self.whole.key)
        return replace(shown, size=self.whole.size)


def _names(facts: PhaseFacts) -> dict[str, Any]:
    """All that is in the prompt whatever room there is."""
    notes = f"workflow/{facts.workflow_id}"
    oldest = _SHA.match(facts.commits[-1]) if facts.commits else None
    return {
        "workflow_id": facts.workflow_id,
        "task": block(facts.task, None),
        "phase": facts.phase.value,
        "cycle": facts.cycle,
        "max_cycles": facts.max_cycles,
        "reviews_code": facts.cycle >= 2,
        "plan_key": f"{notes}/plan",
        "contract_key": f"{notes}/contract",
        "worklog_key": f"{notes}/worklog/cycle-{facts.cycle}",
        "worklogs_prefix": f"{notes}/worklog/",
        "has_more_worklogs": len(facts.worklogs) > WORKLOGS,
        "milestone": facts.milestone
        and _line(milestones.clean(facts.milestone), milestones.MAX_TEXT),
        "checks": [_line(one, SHOWN_PATH) for one in facts.checks],
        "branch": facts.branch and _line(facts.branch, SHOWN_PATH),
        "since": f"{oldest[0]}^" if oldest else None,
    }


def _parts(facts: PhaseFacts) -> list[_Part]:
    """What is shown as far as there is room, the dearest first. Empty texts are left out."""
    problems = "\n".join(f"- {one.strip()}" for one in facts.problems if one.strip())
    newest, *older = [*facts.worklogs[:WORKLOGS], ("", "")]
    parts = (
        _Part.of("plan", facts.plan, 16 * 1024, "markdown"),
        _Part.of("contract", facts.contract, 8 * 1024, "markdown"),
        _Part.of("problems", problems, 4 * 1024),
        _Part.of("worklogs", newest[1], 5 * 1024, "markdown", newest[0]),
        _Part.of("commits", "\n".join(facts.commits), 2 * 1024),
        _Part.of("diff", facts.diff, 12 * 1024, "diff"),
        *(_Part.of("worklogs", text, 2 * 1024, "markdown", key) for key, text in older),
    )
    return [part for part in parts if part.whole.text.strip()]


def _shown(parts: Sequence[_Part], blocks: Sequence[Block]) -> dict[str, Any]:
    """The variables of the templates for *blocks*, those of *parts*."""
    found: dict[str, Any] = dict.fromkeys(("plan", "contract", "problems", "commits", "diff"))
    worklogs: list[Block] = []
    for part, one in zip(parts, blocks, strict=True):
        if part.name == "worklogs":
            worklogs.append(one)
        else:
            found[part.name] = one
    return found | {"worklogs": worklogs}


def _line(text: str, most: int) -> str:
    """*text* as one line of at most *most* characters."""
    flat = " ".join(storable(text).split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"

"""The prompts of workflows for a person at an IDE or a CLI, who works without a workflow.

Operators only: prompts are chosen by people, and an agent's CLI would list them for nobody.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Final, TypeAlias

from mcp import MCPError
from mcp.server.mcpserver.prompts import Prompt
from mcp.types import INVALID_PARAMS
from pydantic import Field

from hurlicane_mcp.domain.workflows import Phase
from hurlicane_mcp.engine.workflow_prompts import WorkflowPrompts
from hurlicane_mcp.errors import Invalid

_Task: TypeAlias = Annotated[str, Field(description="What is to be done")]
_Plan: TypeAlias = Annotated[str, Field(description="Markdown with a checkbox a milestone")]
_Contract: TypeAlias = Annotated[
    str, Field(description="What must hold: commands, interfaces, constraints")
]
_Diff: TypeAlias = Annotated[str, Field(description="The changes; with them, code is reviewed")]
_Since: TypeAlias = Annotated[
    str, Field(description="Instead of a diff: the commit or branch since which code is reviewed")
]

_SPACE: Final = re.compile(r"\s")
_SPLIT: Final = """\
{words} …

That is only its beginning: the CLI has cut it at the spaces. All of it stands behind the command \
with which the user asked for this prompt (`<command-args>`). If nothing does, ask the user."""


class WorkPrompts:
    """assess, review, implement and verify, in the words that agents of workflows get."""

    def __init__(self, prompts: WorkflowPrompts) -> None:
        self._prompts = prompts

    @property
    def prompts(self) -> Sequence[Prompt]:
        """All of them, in the order in which they are used."""
        return (
            Prompt.from_function(self.assess, title="Plan a task"),
            Prompt.from_function(self.review, title="Review a plan or changes"),
            Prompt.from_function(self.implement, title="Do the next milestone"),
            Prompt.from_function(self.verify, title="Try the result out"),
        )

    def assess(self, task: _Task, plan: _Plan = "", contract: _Contract = "") -> str:
        """Read the code, and write a plan of milestones and a contract for a task."""
        return self._of(Phase.ASSESS, task, plan, contract)

    def review(
        self,
        task: _Task,
        plan: _Plan = "",
        contract: _Contract = "",
        diff: _Diff = "",
        since: _Since = "",
    ) -> str:
        """Improve a plan; or, with a diff or a commit, look for defects in what was changed."""
        return self._of(Phase.REVIEW, task, plan, contract, diff, since)

    def implement(self, task: _Task, plan: _Plan = "", contract: _Contract = "") -> str:
        """Do the first open milestone of a plan, with tests, and commit it."""
        return self._of(Phase.IMPLEMENT, task, plan, contract)

    def verify(self, task: _Task, plan: _Plan = "", contract: _Contract = "") -> str:
        """Build, run and try the result as a user would."""
        return self._of(Phase.VERIFY, task, plan, contract)

    def _of(
        self, phase: Phase, task: str, plan: str, contract: str, diff: str = "", since: str = ""
    ) -> str:
        if task and plan and not _SPACE.search(plan):
            # No plan is one word. Claude Code (2.1.330, November 2026) gives the first word behind
            # its command to the first argument, the second one to the second, and drops the rest.
            words = " ".join(filter(None, (task, plan, contract, diff, since)))
            task, plan, contract, diff, since = _SPLIT.format(words=words), "", "", "", ""
        try:
            return self._prompts.alone(phase, task, plan, contract, diff, since)
        except Invalid as error:  # other errors are masked by the SDK
            raise MCPError(INVALID_PARAMS, str(error)) from error

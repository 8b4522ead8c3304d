"""Phases of a workflow: what a prompt says about its own, and a script's steps for each."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from hurlicane_mcp.domain.workflows import Phase
from hurlicane_mcp.errors import Invalid

PHASES = tuple(phase.value for phase in Phase if phase.is_job)
#: The variable of a script's references that tells the phase.
VARIABLE = "phase"
_DEFAULT = "default"

_PHASE = re.compile(
    rf"^Phase:[ \t]*(?P<name>{'|'.join(PHASES)})[ \t]*\(cycle (?P<cycle>\d{{1,4}}) of \d+\)[ \t]*$",
    re.MULTILINE,
)
_WORKFLOW = re.compile(r"^Workflow:[ \t]*(?P<id>\S+)[ \t]*$", re.MULTILINE)

#: A phase's name, and a cycle, `default`, or nothing for steps of all cycles.
Place = tuple[str, str]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class At:
    """Where in a workflow an agent is."""

    name: str
    cycle: int
    workflow: str

    @property
    def variable(self) -> dict[str, object]:
        """What `${phase.name}`, `${phase.cycle}` and `${phase.workflow}` refer to."""
        return {"name": self.name, "cycle": self.cycle, "workflow": self.workflow}


def find(prompt: str) -> At | None:
    """The phase that *prompt* is for, as its first lines `Phase:` and `Workflow:` say.

    They stand above all that others have written.
    """
    prompt = prompt.replace("\r\n", "\n")
    phase, workflow = _PHASE.search(prompt), _WORKFLOW.search(prompt)
    if phase is None:
        return None
    return At(phase["name"], int(phase["cycle"]), workflow["id"] if workflow else "")


def sections(value: object) -> Mapping[Place, object]:
    """The lists of steps that a script's `phases` holds, not looked into.

    Raises:
        ValueError: it has another form.
    """
    found: dict[Place, object] = {}
    for name, steps in _mapping(value, f"phases is a mapping of {', '.join(PHASES)}").items():
        if name not in PHASES:
            raise ValueError(f"there is no phase {name!r}; phases are {', '.join(PHASES)}")
        if not isinstance(steps, dict):
            found[name, ""] = steps
            continue
        form = (
            f"the phase {name} takes a list of steps, or {{cycles: {{1: [...], default: [...]}}}}"
        )
        if list(cast("dict[object, object]", steps)) != ["cycles"]:
            raise ValueError(form)
        for cycle, inner in _mapping(cast("dict[str, object]", steps)["cycles"], form).items():
            if cycle != _DEFAULT and not (cycle.isascii() and cycle.isdigit()):
                raise ValueError(f"{name}: a cycle is a number or default, not {cycle!r}")
            found[name, str(int(cycle)) if cycle != _DEFAULT else cycle] = inner
    return found


def chosen(steps: Mapping[Place, T], otherwise: T | None, at: At | None) -> T:
    """Those of *steps* that are for *at*, or *otherwise* if there are none.

    Raises:
        Invalid: there are none at all.
    """
    if at is not None:
        for place in ((at.name, str(at.cycle)), (at.name, _DEFAULT), (at.name, "")):
            if place in steps:
                return steps[place]
    if otherwise is not None:
        return otherwise
    if at is None:
        raise Invalid(
            "The script has steps for phases of workflows only, and the prompt has no line "
            "`Phase: NAME (cycle N of M)`. Give it `steps` as well."
        )
    raise Invalid(
        f"The script has no steps for the phase {at.name} of cycle {at.cycle}; it has some for "
        f"{_listed(list(steps))}. Give it `steps` for all others."
    )


def _listed(places: Sequence[Place]) -> str:
    named = (f"{name} ({cycle})" if cycle else name for name, cycle in places)
    return ", ".join(named) or "none"


def _mapping(value: object, form: str) -> Mapping[str, object]:
    """*value* with texts as keys: YAML reads a cycle as a number, JSON cannot."""
    if not isinstance(value, dict):
        raise ValueError(form)
    return {str(key): inner for key, inner in cast("dict[object, object]", value).items()}

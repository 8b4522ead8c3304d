"""A workflow as it is asked for, and what no server would take."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import cast

from hurlicane_mcp.domain.checks import Check
from hurlicane_mcp.domain.jobs import MAX_KEY, MAX_TITLE, PRIORITIES
from hurlicane_mcp.domain.stops import Stop, StopMode, check_stop
from hurlicane_mcp.domain.texts import check_text
from hurlicane_mcp.domain.workflows import CYCLES, Phase, Publish
from hurlicane_mcp.errors import Invalid

MAX_TASK_BYTES = 64 * 1024
#: The phases whose jobs can be bounded; a repair has the bound of the assessment.
BOUNDED = (Phase.ASSESS, Phase.REVIEW, Phase.IMPLEMENT, Phase.VERIFY)


@dataclass(frozen=True, slots=True)
class WorkflowSpec:
    """What `create_workflow` was given; None means "not given"."""

    task: str
    title: str | None = None
    work_dir: str | None = None
    project: str | None = None
    implementer: str | None = None  #: `model` or `provider:model`
    reviewer: str | None = None
    max_cycles: int = 10
    stops: Mapping[Phase, Stop] = field(default_factory=dict[Phase, Stop])
    use_worktree: bool = True
    base_branch: str | None = None
    verify: bool = False
    publish: Publish = Publish.BRANCH
    checks: tuple[Check, ...] = ()  #: what has to hold after each implementation
    budget_usd: Decimal | None = None  #: for all of it
    priority: int = 0
    idempotency_key: str | None = None


def check_workflow(spec: WorkflowSpec) -> None:
    """Refuse a spec that no server would take, whatever else exists.

    Raises:
        Invalid: the message names the field, the limit and what was given.
    """
    for name, text in _texts_of(spec):
        check_text(name, text)
    if not spec.task.strip():
        raise Invalid("`task` is empty: say what the workflow has to build.")
    size = len(spec.task.encode())
    if size > MAX_TASK_BYTES:
        raise Invalid(
            f"`task` has {size:,} bytes, {MAX_TASK_BYTES:,} are allowed: put the long part into a "
            "file of the repository and name its path."
        )
    if spec.title is not None and not 0 < len(spec.title.strip()) <= MAX_TITLE:
        raise Invalid(f"`title` must have 1 to {MAX_TITLE} characters.")
    if spec.max_cycles not in CYCLES:
        raise Invalid(
            f"`max_cycles` must be from {CYCLES.start} to {CYCLES.stop - 1}, not {spec.max_cycles}."
        )
    if spec.priority not in PRIORITIES:
        raise Invalid(f"`priority` must be from -10 to 10, not {spec.priority}.")
    if spec.base_branch is not None and not spec.use_worktree:
        raise Invalid(
            "`base_branch` says what the worktree's branch begins from: leave it out, or set "
            "use_worktree to true."
        )
    if spec.publish is not Publish.NONE and not spec.use_worktree:
        raise Invalid(
            "Without a worktree there is no branch of its own to publish: set `publish` to none, "
            "or use_worktree to true."
        )
    if spec.budget_usd is not None:
        try:
            check_stop(StopMode.BUDGET, spec.budget_usd)
        except Invalid as error:
            raise Invalid(f"`budget_usd`: {error}") from None
    if spec.idempotency_key is not None and not 0 < len(spec.idempotency_key) <= MAX_KEY:
        raise Invalid(f"`idempotency_key` must have 1 to {MAX_KEY} characters.")


def parse_stops(value: object) -> dict[Phase, Stop]:
    """The bounds of the phases, from `{"implement": {"stop_mode": "turns", "stop_value": 50}}`.

    Raises:
        Invalid: an unknown phase or mode, or a value that the mode does not allow.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Invalid(f"`stops` must be an object with phases as keys. {_form()}")
    entries = cast("Mapping[object, object]", value)
    return {_phase(name): _stop(name, bound) for name, bound in entries.items()}


def _phase(name: object) -> Phase:
    if name not in BOUNDED:
        raise Invalid(f"`stops` names {name!r}, which is no phase. {_form()}")
    return Phase(name)


def _stop(name: object, bound: object) -> Stop:
    if not isinstance(bound, Mapping):
        raise Invalid(f"The bound of {name} must be an object. {_form()}")
    fields = cast("Mapping[str, object]", bound)
    unknown = sorted(set(fields) - {"stop_mode", "stop_value"})
    if unknown:
        raise Invalid(f"The bound of {name} has an unknown field {unknown[0]!r}. {_form()}")
    try:
        mode = StopMode(str(fields.get("stop_mode")))
        number = fields.get("stop_value")
        value = None if number is None else Decimal(str(number))
    except (ValueError, ArithmeticError):
        raise Invalid(f"The bound of {name} cannot be read. {_form()}") from None
    return check_stop(mode, value)


def _form() -> str:
    return (
        'Write {"implement": {"stop_mode": "turns", "stop_value": 50}}; phases: '
        f"{', '.join(BOUNDED)}; modes: {', '.join(StopMode)}."
    )


def _texts_of(spec: WorkflowSpec) -> Iterator[tuple[str, str]]:
    names = ("task", "title", "work_dir", "project", "implementer", "reviewer", "base_branch")
    for name in (*names, "idempotency_key"):
        text: str | None = getattr(spec, name)
        if text is not None:
            yield name, text

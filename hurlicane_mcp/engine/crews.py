"""Who does a workflow: a model that implements, and another one that reviews."""

from collections.abc import Callable
from dataclasses import dataclass

from hurlicane_mcp.engine import budgets
from hurlicane_mcp.engine.chains import FIRST_PROVIDER, Chains, Step
from hurlicane_mcp.errors import Invalid

#: The model that reviews by default is of this CLI, if it is there.
REVIEWER = "codex"


@dataclass(frozen=True, slots=True)
class Crew:
    """The two models, and how the reviewer came to be chosen."""

    implementer: Step
    reviewer: Step
    why: str


class Crews:
    """Chooses crews."""

    def __init__(self, chains: Chains, provider: str, is_installed: Callable[[str], bool]) -> None:
        """*provider* implements by default; *is_installed* tells whether a CLI is there."""
        self._chains = chains
        self._provider = provider
        self._is_installed = is_installed

    def of(self, implementer: str | None, reviewer: str | None, *, has_budget: bool) -> Crew:
        """The crew that was asked for, with defaults for who is not named.

        Raises:
            Invalid: a model that its CLI cannot have; or one without a price where *has_budget*.
        """
        first = self._named("implementer", implementer) if implementer else self._default()
        if has_budget:
            self._check(first)
        if reviewer is not None:
            named = self._named("reviewer", reviewer)
            if has_budget:
                self._check(named)
            return Crew(first, named, "It was asked for.")
        second, why = self._reviewer(first, has_budget=has_budget)
        return Crew(first, second, why)

    def _default(self) -> Step:
        known = self._chains.of_new(self._provider, None, None)
        return known[1] if len(known) > 1 else Step(self._provider, None)

    def _named(self, field: str, text: str) -> Step:
        name = text.strip()
        if name in self._chains.providers.names:
            return Step(name, None)
        try:
            return self._chains.steps([name], self._provider)[0]
        except Invalid as error:
            raise Invalid(f"`{field}`: {error}") from None

    def _reviewer(self, implementer: Step, *, has_budget: bool) -> tuple[Step, str]:
        """Another CLI's model if there is one, since it errs otherwise; else another model."""
        if implementer.provider == "scripted":
            return implementer, "Scripted agents review what scripted agents do."
        other = REVIEWER if implementer.provider != REVIEWER else FIRST_PROVIDER
        name = other.capitalize()
        if not self._is_installed(other):
            return self._same_cli(implementer, f"{name} is not installed")
        step = Step(other, None)
        if other == FIRST_PROVIDER:
            known = self._chains.of_new(other, None, None)
            step = known[1] if len(known) > 1 else step
        if has_budget and not self._has_price(step):
            cause = f"what {name} costs is not known, and there is a budget"
            return self._same_cli(implementer, cause)
        return step, f"{name} is installed: another vendor's model reviews."

    def _same_cli(self, implementer: Step, cause: str) -> tuple[Step, str]:
        chain = self._chains.of_new(implementer.provider, implementer.model, None)
        keys = self._chains.keys(chain)
        others = (step for step, key in zip(chain, keys, strict=True) if key != keys[0])
        other = next((step for step in others if step.provider == implementer.provider), None)
        if other is None:
            return implementer, f"{cause}, and no other model is known: the same model reviews."
        return other, f"{cause}: another model of the same CLI reviews."

    def _has_price(self, step: Step) -> bool:
        try:
            self._check(step)
        except Invalid:
            return False
        return True

    def _check(self, step: Step) -> None:
        chain = self._chains.of_new(step.provider, step.model, None)
        budgets.check_prices(self._chains.providers, chain, interactive=False)

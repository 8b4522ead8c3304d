"""Chains: which models a job may run on, in which order."""

from collections.abc import Sequence
from dataclasses import dataclass

from hurlicane_mcp.domain.cooldowns import Key
from hurlicane_mcp.errors import Invalid
from hurlicane_mcp.providers.registry import Providers
from hurlicane_mcp.store.tables import JobRow

#: Whose model the first step of a chain is, if it does not say.
FIRST_PROVIDER = "claude"


@dataclass(frozen=True, slots=True)
class Step:
    """A model of a provider; None is the default of that CLI. As text `provider:model`."""

    provider: str
    model: str | None

    def __str__(self) -> str:
        return f"{self.provider}:{self.model or ''}"

    @staticmethod
    def stored(text: str) -> "Step":
        """The step that was stored as *text*."""
        provider, _, model = text.partition(":")
        return Step(provider, model or None)


@dataclass(frozen=True, slots=True)
class Chains:
    """The chains of the settings, and what follows from them for a job."""

    providers: Providers
    known: tuple[tuple[Step, ...], ...] = ()

    @staticmethod
    def load(texts: Sequence[str], providers: Providers) -> "Chains":
        """The chains in *texts*, each as `opus > sonnet > codex:gpt-6.1-sol`.

        A step that names no provider has that of the step before it, the first one claude.

        Raises:
            Invalid: a step is empty, or names a model that its provider cannot have.
        """
        chains = Chains(providers)
        return Chains(
            providers, tuple(chains.steps(text.split(">"), FIRST_PROVIDER) for text in texts)
        )

    def steps(self, texts: Sequence[str], provider: str) -> tuple[Step, ...]:
        """The steps that *texts* name; the first is of *provider* if it does not say.

        Raises:
            Invalid: as `load`.
        """
        steps: list[Step] = []
        for text in texts:
            prefix, colon, rest = text.strip().partition(":")
            named = colon and prefix in self.providers.names
            provider, model = (prefix, rest) if named else (provider, text.strip())
            if not model:
                raise Invalid(f"A step of the chain {' > '.join(texts)!r} names no model.")
            self.providers.get(provider).check_model(model)
            steps.append(Step(provider, model))
        return tuple(steps)

    def of_new(
        self, provider: str, model: str | None, fallback: Sequence[str] | None
    ) -> tuple[Step, ...]:
        """The chain of a new job that asks for *model* and, if it says so, for *fallback*.

        Otherwise what comes after the model in a chain of the settings follows; after a CLI's own
        default, the whole first chain that begins with that CLI. A model outside of every chain
        stands alone.

        Raises:
            Invalid: a step of *fallback* is none.
        """
        first = Step(provider, model)
        if fallback is not None:
            rest: tuple[Step, ...] = self.steps(fallback, provider)
        elif model is None:
            rest = next((one for one in self.known if one[0].provider == provider), ())
        else:
            rest = self._after(first)
        return tuple(dict.fromkeys((first, *rest)))

    def keys(self, chain: Sequence[Step]) -> tuple[Key, ...]:
        """What the ledger of limits calls each step."""
        return tuple(self.key(step.provider, step.model) for step in chain)

    def key(self, provider: str, model: str | None) -> Key:
        """What the ledger calls this model: an alias and its full id are one."""
        return Key(provider, self.providers.get(provider).resolve_model(model))

    def _after(self, first: Step) -> tuple[Step, ...]:
        by_name = (chain[chain.index(first) :] for chain in self.known if first in chain)
        key = self.key(first.provider, first.model)
        by_id = (
            chain[index:]
            for chain in self.known
            for index, step in enumerate(chain)
            if self.key(step.provider, step.model) == key
        )
        return next(iter(by_name), None) or next(iter(by_id), ())


def chain_of(job: JobRow) -> tuple[Step, ...]:
    """The chain that was stored with *job*; one of an older version had only its model."""
    stored: Sequence[str] = job.chain
    return tuple(map(Step.stored, stored)) or (Step(job.provider, job.model),)

"""The providers that this server can start."""

from collections.abc import Mapping
from dataclasses import dataclass

from hurlicane_mcp.errors import Invalid
from hurlicane_mcp.providers.base import Provider


@dataclass(frozen=True, slots=True)
class Providers:
    """Providers by name."""

    by_name: Mapping[str, Provider]

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order given."""
        return tuple(self.by_name)

    def get(self, name: str) -> Provider:
        """The provider called *name*.

        Raises:
            Invalid: there is none; the message lists the names.
        """
        try:
            return self.by_name[name]
        except KeyError:
            known = ", ".join(self.names)
            raise Invalid(f"There is no provider {name!r}. Known: {known}.") from None

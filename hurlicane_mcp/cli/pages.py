"""Lists of the server, which come in pages, the newest first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hurlicane_mcp.cli.connection import Connection

RECENT: Final = 10  #: that are shown whatever has become of them
PAGE: Final = 200

Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Listing:
    """One list: where it is, the name of its lines in an answer, and of a line's id."""

    path: str
    name: str
    id: str
    filter: str  #: the parameter that names states

    async def everything(self, server: Connection) -> Sequence[Line]:
        """All lines, the newest first."""
        found: list[Line] = []
        while True:
            before = found[-1][self.id] if found else None
            page = (await server.get(self.path, limit=PAGE, before=before))[self.name]
            found += page
            if len(page) < PAGE:
                return found

    async def going_on(self, server: Connection, states: Sequence[str]) -> Sequence[Line]:
        """Those in one of *states* and the `RECENT` newest others, the newest first."""
        wanted: dict[str, Any] = {"limit": PAGE, self.filter: states}
        answers = (await server.get(self.path, limit=RECENT), await server.get(self.path, **wanted))
        found = {line[self.id]: line for answer in answers for line in answer[self.name]}
        return sorted(found.values(), key=lambda line: line["created_at"], reverse=True)

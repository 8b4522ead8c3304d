"""The guard in front of every route: who asks, from where, under which name."""

import re
from collections.abc import Iterable
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hurlicane_mcp.engine.access import CALLER_KEY, Access
from hurlicane_mcp.errors import StoreUnavailable, Unauthorized
from hurlicane_mcp.web.problems import problem

LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")

_AUTHORITY = re.compile(rb"(\[[0-9a-f:.]+\]|[^:/@\[\]]+)(?::[0-9]{1,5})?", re.IGNORECASE)
_NO_TOKEN: Final = (
    "This needs a token. Send `Authorization: Bearer …` with the operator's token, which is in "
    "operator.token in the server's data folder; `hurlicane mcp-config` prints a configuration "
    "that has it."
)


class Guard:
    """ASGI middleware: checks Host and Origin, and puts the caller into the scope.

    It reads the raw headers only: every call of every agent passes here.
    """

    def __init__(self, app: ASGIApp, access: Access, hosts: Iterable[str]) -> None:
        self._app = app
        self._access = access
        self._hosts = frozenset(_host(name) for name in (*LOOPBACK, *hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
        host = token = b""
        for name, value in headers:
            if name == b"host":
                host = value
            elif name == b"authorization":
                token = _token(value)
            elif name == b"origin" and not self._knows(value.partition(b"://")[2]):
                await _foreign_origin()(scope, receive, send)
                return
        # Without this check a page of any site could reach us under a name that it resolves to
        # this machine (DNS rebinding).
        if not self._knows(host):
            await _wrong_host()(scope, receive, send)
            return
        try:
            if not token:
                raise Unauthorized(_NO_TOKEN)
            scope[CALLER_KEY] = await self._access.caller(token.decode("latin-1"))
        except Unauthorized as error:
            await problem(401, error.code, str(error))(scope, receive, send)
            return
        except StoreUnavailable as error:
            await problem(503, error.code, str(error))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _knows(self, authority: bytes) -> bool:
        found = _AUTHORITY.fullmatch(authority)
        return found is not None and found[1].lower() in self._hosts


def _host(name: str) -> bytes:
    """*name* as it stands in a header: an IPv6 address in brackets."""
    bare_ipv6 = ":" in name and not name.startswith("[")
    return (f"[{name}]" if bare_ipv6 else name).lower().encode("latin-1")


def _token(authorization: bytes) -> bytes:
    scheme, _, token = authorization.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


def _wrong_host() -> Response:
    message = (
        "This server does not answer to that Host. Use 127.0.0.1, or add the name to the setting "
        "allowed_hosts."
    )
    return problem(421, "wrong_host", message)


def _foreign_origin() -> Response:
    message = (
        "Pages of that Origin may not call this server. Add its host to the setting allowed_hosts."
    )
    return problem(403, "foreign_origin", message)

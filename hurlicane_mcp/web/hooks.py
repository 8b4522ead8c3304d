"""The routes that Claude Code sends its hooks to."""

import json
import logging
from typing import Any, Final, cast

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hurlicane_mcp.engine.hooks import HookAnswer, Hooks
from hurlicane_mcp.engine.locks import Locks
from hurlicane_mcp.errors import Forbidden, Invalid
from hurlicane_mcp.web.operations import JSON, Call, Nothing, Operation, Operations

log = logging.getLogger(__name__)

#: A hook that tells of a tool holds what the tool got and gave. What is longer counts as a sign of
#: life only.
MAX_HOOK: Final = 16 * 1024 * 1024
#: Longer texts are parsed in a thread.
_LONG: Final = 256 * 1024


class HookRoutes:
    """Hooks over HTTP, for agents only."""

    def __init__(self, hooks: Hooks, locks: Locks) -> None:
        self._hooks = hooks
        self._locks = locks

    @property
    def operations(self) -> Operations:
        """What these routes can do."""
        path, none = "/hooks/claude", Nothing
        return (
            Operation("POST", path, self.claude, none, none, None, (JSON,), for_agents=True),
            Operation(
                "POST", f"{path}/edit", self.edit, none, none, None, (JSON,), for_agents=True
            ),
        )

    async def claude(self, call: Call[Nothing, Nothing]) -> Response:
        """For agents: a hook of Claude Code, as its documentation describes it."""
        if not call.caller.is_agent:
            raise Forbidden("Hooks are for agents.")
        try:
            hook = await _hook(call.request)
            event, again = str(hook.get("hook_event_name", "")), bool(hook.get("stop_hook_active"))
            answer = await self._hooks.answer(call.caller, event, stops_again=again)
        except Exception:  # top-level handler: the CLI shows its user every hook that fails
            log.exception("a hook was not understood")
            answer = HookAnswer()
        return _HookResponse(answer)

    async def edit(self, call: Call[Nothing, Nothing]) -> Response:
        """For agents: the hook before an edit; refused without the file's lock, if the job wants
        that. Answered with an error if it cannot be judged: the caller decides what that means."""
        if not call.caller.is_agent:
            raise Forbidden("Hooks are for agents.")
        hook = await _hook(call.request)
        told = await self._hooks.answer(call.caller, "PreToolUse")
        if told.body:  # a stale attempt is told to stop
            # Told to stop, it may still make this edit first: only a denial is sure to keep it.
            return _HookResponse(_denied("Another attempt has taken over: stop now.", told))
        folder = str(hook.get("cwd") or "")
        for path in _files_of(hook):
            why = await self._locks.refuse_edit(call.caller, path, folder)
            if why is not None:
                break
        else:
            return _HookResponse(HookAnswer())
        return _HookResponse(_denied(why, HookAnswer()))


class _HookResponse(Response):
    """The answer; notes whether the CLI was there to hear it."""

    media_type = JSON

    def __init__(self, answer: HookAnswer) -> None:
        super().__init__(json.dumps(answer.body))
        self._over = answer.over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._over is None:
            await super().__call__(scope, receive, send)
            return
        heard = False
        try:
            is_there = not await Request(scope, receive).is_disconnected()
            await super().__call__(scope, receive, send)
            heard = is_there
        finally:
            self._over(heard)


def _denied(why: str, told: HookAnswer) -> HookAnswer:
    """*told*, and that the tool may not run."""
    denied = {"permissionDecision": "deny", "permissionDecisionReason": why}
    output = {"hookSpecificOutput": {"hookEventName": "PreToolUse", **denied}}
    return HookAnswer({**told.body, **output}, told.over)


def _files_of(hook: dict[str, Any]) -> list[str]:
    """The file that a tool is about to change; all that it names, whichever it takes.

    Raises:
        Invalid: the hook does not say.
    """
    given: object = hook.get("tool_input")
    tool_input = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
    named = (tool_input.get("file_path"), tool_input.get("notebook_path"))
    paths = [one for one in named if isinstance(one, str) and one]
    if not paths:
        raise Invalid("The hook names no file.")
    return paths


async def _hook(request: Request) -> dict[str, Any]:
    """The body as an object; empty if it is none, or too long."""
    body, size = bytearray(), 0
    async for part in request.stream():
        size += len(part)
        if size <= MAX_HOOK:
            body += part
    if size > MAX_HOOK:
        return {}
    if size <= _LONG:
        return _parsed(bytes(body))
    return await anyio.to_thread.run_sync(_parsed, bytes(body))


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}

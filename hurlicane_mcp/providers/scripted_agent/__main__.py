"""`python -m hurlicane_mcp.providers.scripted_agent`: the agent's command line."""

import argparse
import os
import signal
import sys
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path

import anyio

from hurlicane_mcp.errors import HurlicaneError, Invalid, NotFound
from hurlicane_mcp.providers import scripted_agent
from hurlicane_mcp.providers.scripted_agent import phases, script, session, source
from hurlicane_mcp.providers.scripted_agent.client import Endpoint
from hurlicane_mcp.providers.scripted_agent.steps import Start, follow
from hurlicane_mcp.providers.scripted_agent.stream import Stream

BAD_SCRIPT = 2


def main() -> int:
    """Run the agent on its prompt; the exit code."""
    options = _options()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # to be ended as other agents are, no traceback
    try:
        prompt = (
            options.prompt_file.read_bytes() if options.prompt_file else sys.stdin.buffer.read()
        )
        current, plan, endpoint = _prepare(options, prompt)
    except Invalid as error:
        print(f"scripted agent: {error}", file=sys.stderr)
        return BAD_SCRIPT
    except NotFound:
        print(f"No session found with ID: {options.resume}", file=sys.stderr)
        return 1
    except (HurlicaneError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    stream = Stream(sys.stdout.buffer)
    stream.event("session", session_id=current.session_id, model=options.model)
    start = Start(options.model, options.resume is not None, options.max_turns)
    return anyio.run(partial(follow, plan, current, stream, endpoint, start))


def _prepare(
    options: argparse.Namespace, prompt: bytes
) -> tuple[session.Session, script.Script, Endpoint]:
    folder = session.folder_of(os.environ)
    if options.resume is not None:
        current = session.load(folder, options.resume)
        plan = script.parse(current.script, current.phase)
        return current, plan, _endpoint(os.environ, plan)
    text = prompt.decode(errors="replace")
    found, phase = source.find(text, Path.cwd()), phases.find(text)
    written = source.polite(text) if found is None else found
    plan = script.parse(written, phase)
    endpoint = _endpoint(os.environ, plan)
    return session.begin(folder, options.session, written, phase), plan, endpoint


def _endpoint(env: Mapping[str, str], plan: script.Script) -> Endpoint:
    mode = plan.mode or env.get("SCRIPTED_MCP_MODE") or "auto"
    if mode not in ("auto", "legacy"):
        raise Invalid(f"SCRIPTED_MCP_MODE is {mode!r}; it can be auto or legacy.")
    limit = env.get("SCRIPTED_CALL_LIMIT_S") or "3600"
    if not limit.isascii() or not limit.isdigit() or int(limit[:9]) == 0:
        raise Invalid(f"SCRIPTED_CALL_LIMIT_S is {limit!r}; it must be whole seconds.")
    return Endpoint(
        url=env.get("HURLICANE_MCP_URL", ""),
        token=env.get("HURLICANE_TOKEN", ""),
        mode=mode,
        call_limit=timedelta(seconds=int(limit[:9])),
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m hurlicane_mcp.providers.scripted_agent",
        description=scripted_agent.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="scripted", help="the model that it claims to be")
    parser.add_argument(
        "--prompt-file", type=Path, metavar="PATH", help="its prompt, instead of standard input"
    )
    parser.add_argument(
        "--max-turns", type=int, metavar="N", help="end before the model's turn after these"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--session", metavar="ID", help="begin a session with this id")
    which.add_argument("--resume", metavar="ID", help="go on with this session")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

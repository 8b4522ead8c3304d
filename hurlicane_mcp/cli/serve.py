"""`hurlicane serve`: options and variables become settings, and the server runs with them.

Until the socket is bound only the standard library is imported: clients that come during the rest
of the start wait in the socket's backlog.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hurlicane_mcp import logs
from hurlicane_mcp.cli.parent import Bind, Work, WorkerLinks, run_parent
from hurlicane_mcp.cli.whereabouts import HOST, PORT, data_dir_of
from hurlicane_mcp.errors import HurlicaneError, Invalid

if TYPE_CHECKING:
    from pydantic import ValidationError

#: The fields of `Settings`, each of them an option as well. Named here too because importing the
#: settings takes longer than everything else before the socket is bound.
OPTIONS: Final = (
    "data_dir",
    "host",
    "port",
    "allow_remote",
    "allowed_hosts",
    "database_url",
    "synchronous",
    "slots",
    "provider",
    "work_dir",
    "claude_bin",
    "codex_bin",
    "claude_permissions",
    "claude_hooks",
    "codex_sandbox",
    "models_file",
    "prompts_dir",
    "max_depth",
    "max_open_jobs",
    "wait_limit",
    "leave_grace",
    "kill_grace",
    "lost_grace",
    "silent_after",
    "tool_stalled_after",
    "unattended_limit",
    "output_limit",
    "chains",
    "cooldown",
    "cli_patience",
    "daily_budget",
    "project_budget",
    "classify",
    "worktree_retention",
    "locks_fail_open",
    "gh_bin",
    "log_level",
)

_ABOUT: Final = (
    "Run the server in the foreground. Every option can also be set by a variable: --data-dir is "
    "HURLICANE_DATA_DIR; the option wins. SIGTERM stops the server and leaves the agents running; "
    "SIGHUP takes up newly installed code."
)


def serve(arguments: Sequence[str]) -> int:
    """Serve until told to stop. Returns 0, 1 if it cannot serve, or 2 if a setting is wrong."""
    options = parsed(arguments)
    logs.configure("info")
    data_dir = data_dir_of(options.get("data_dir"))
    try:
        return run_parent(
            _bind(options),
            lambda: _load({**options, "data_dir": str(data_dir)}),
            lambda host, port: _announce(data_dir, host, port),
        )
    except Invalid as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except HurlicaneError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def parsed(arguments: Sequence[str]) -> Mapping[str, str]:
    """The settings that the command line gives, as they were written. Exits on wrong usage."""
    helps: Mapping[str, str] = _helps() if {"-h", "--help"} & set(arguments) else {}
    parser = argparse.ArgumentParser("hurlicane serve", description=_ABOUT, allow_abbrev=False)
    for name in OPTIONS:
        flag, help_ = f"--{name.replace('_', '-')}", helps.get(name)
        if name == "allow_remote":
            parser.add_argument(flag, action="store_const", const="true", help=help_)
        else:
            parser.add_argument(flag, metavar=name.rpartition("_")[2].upper(), help=help_)
    return {name: value for name, value in vars(parser.parse_args(arguments)).items() if value}


def _helps() -> Mapping[str, str]:
    from hurlicane_mcp.settings import Settings

    return {
        # argparse would take a percent sign for a format.
        name: (field.description or "").replace("%", "%%")
        for name, field in Settings.model_fields.items()
    }


def _bind(options: Mapping[str, str]) -> Bind:
    """Where to listen. That it is allowed there is checked with the other settings."""
    host = options.get("host") or os.environ.get("HURLICANE_HOST") or HOST
    port = options.get("port") or os.environ.get("HURLICANE_PORT") or str(PORT)
    if not port.isdecimal() or int(port) > 65535:
        raise Invalid(f"port: {port!r} is not a number from 0 to 65535.")
    return Bind(host, int(port))


def _load(options: Mapping[str, str]) -> Work:
    """The application's work, with everything imported that it needs."""
    from pydantic import ValidationError

    from hurlicane_mcp.settings import Settings

    try:
        settings = Settings.model_validate(options)  # it takes what is missing from the variables
    except ValidationError as error:
        raise Invalid(_sentence(error)) from None
    logs.configure(settings.log_level)
    from hurlicane_mcp import app

    def work(links: WorkerLinks) -> None:
        app.serve(settings, links)

    return work


def _sentence(error: "ValidationError") -> str:
    """The first of the wrong settings, as it is to be mended."""
    first = error.errors()[0]
    reason = first["msg"].removeprefix("Value error, ").removesuffix(".")
    if not first["loc"]:
        return f"{reason}."
    name = str(first["loc"][0])
    return (
        f"{name}: {reason}, but it is {str(first['input'])!r}. "
        f"Set --{name.replace('_', '-')} or HURLICANE_{name.upper()}."
    )


def _announce(data_dir: Path, host: str, port: int) -> None:
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    sys.stdout.write(
        f"hurlicane {version('hurlicane-mcp')} ready: "
        f"MCP {url}/mcp · feed {url}/events · data {data_dir}\n"
    )
    sys.stdout.flush()

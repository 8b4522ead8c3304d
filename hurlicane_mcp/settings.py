"""Settings, read once: from the command line and from variables named `HURLICANE_…`."""

import ipaddress
import os
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PORT = 7717


def _default_data_dir() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "hurlicane"


def _words(value: object) -> object:
    """`a, b` as a tuple: a list in a variable is written with commas."""
    if not isinstance(value, str):
        return value
    return tuple(word.strip() for word in value.split(",") if word.strip())


def _permissions(value: object) -> object:
    return value if value in ("edit", "full") else _words(value)


def _seconds(value: object) -> object:
    """A variable is text: a bare number in it is seconds, not days."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Duration = Annotated[timedelta, BeforeValidator(_seconds), Field(ge=timedelta(0))]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
Permissions = Annotated[
    Literal["edit", "full"] | tuple[str, ...], NoDecode, BeforeValidator(_permissions)
]


class Settings(BaseSettings):
    """What an operator can set. Durations take seconds or ISO 8601 (`PT30M`)."""

    model_config = SettingsConfigDict(env_prefix="HURLICANE_", frozen=True, extra="forbid")

    data_dir: Path = Field(
        default_factory=_default_data_dir,
        description="Folder of the database, the operator's token and the agents' output.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(PORT, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    allow_remote: bool = Field(
        False, description="Allow a host that is not loopback. There is no TLS: put a proxy before."
    )
    allowed_hosts: Words = Field(
        (), description="More names that a Host or Origin header may have, with commas."
    )
    database_url: str | None = Field(
        None, description="postgresql+psycopg://… instead of SQLite in the data folder."
    )
    synchronous: Literal["FULL", "NORMAL"] = Field(
        "FULL",
        description="SQLite's; NORMAL is faster but may lose the last commits in a power cut.",
    )
    slots: int = Field(8, ge=1, description="Agents that may work at once; waiting ones are free.")
    provider: str = Field("claude", description="Agent CLI of jobs that name none.")
    work_dir: Path = Field(
        default_factory=Path.cwd, description="Folder of jobs that name none: where serve started."
    )
    claude_bin: str = Field("claude", description="Program of Claude Code: a name or a path.")
    codex_bin: str = Field("codex", description="Program of the Codex CLI: a name or a path.")
    gh_bin: str = Field("gh", description="Program of the GitHub CLI, for pull requests.")
    claude_permissions: Permissions = Field(
        "edit",
        description="edit (edits, Bash, our tools), full, or a list of allowed tools with commas.",
    )
    claude_hooks: bool = Field(
        True, description="Have Claude Code's hooks tell the server of agents that we launch."
    )
    locks_fail_open: bool = Field(
        False,
        description="Let agents of jobs that enforce file locks edit while the server is away.",
    )
    codex_sandbox: Literal["read-only", "workspace-write", "danger-full-access"] = Field(
        "workspace-write", description="Sandbox of the Codex CLI."
    )
    models_file: Path | None = Field(None, description="Catalog of models over the one shipped.")
    prompts_dir: Path | None = Field(None, description="Templates that replace those shipped.")
    max_depth: int = Field(6, ge=0, description="How deep jobs may create jobs.")
    max_open_jobs: int = Field(200, ge=1, description="Jobs of one tree that may be open at once.")
    wait_limit: Duration = Field(
        timedelta(minutes=30), description="Longest blocking call of an agent that we launched."
    )
    leave_grace: Duration = Field(
        timedelta(seconds=10), description="From finish_job until the process is told to end."
    )
    kill_grace: Duration = Field(
        timedelta(seconds=2), description="From telling a process to end until it is killed."
    )
    lost_grace: Duration = Field(
        timedelta(minutes=2),
        description="How long an agent may be without a connection before it is resumed.",
    )
    silent_after: Duration = Field(
        timedelta(minutes=20),
        description="How long an agent may give no sign of life before it is resumed, once.",
    )
    tool_stalled_after: Duration = Field(
        timedelta(minutes=60), description="How long an agent may be inside one tool call."
    )
    unattended_limit: Duration = Field(
        timedelta(minutes=60),
        gt=timedelta(0),
        description="How long an agent lives on while no server runs; then it is resumed by one.",
    )
    output_limit: int = Field(
        512 * 1024 * 1024, ge=1024, description="Bytes that one run of an agent may print."
    )
    chains: Words = Field(
        ("opus > sonnet[1m] > sonnet > haiku",),
        description="Models in the order in which jobs fall back when one is limited, each chain "
        "as `opus > sonnet > codex:gpt-6.1-sol`, with commas between chains.",
    )
    cooldown: Duration = Field(
        timedelta(seconds=30),
        gt=timedelta(0),
        description="How long a limited model is left alone at first, if no reset is announced.",
    )
    cli_patience: Duration = Field(
        timedelta(seconds=20),
        description="Longest announced wait that is left to the CLI instead of changing the model.",
    )
    daily_budget: Decimal | None = Field(
        None, gt=0, description="US dollars that all jobs together may cost on one day (UTC)."
    )
    project_budget: Decimal | None = Field(
        None, gt=0, description="US dollars that the jobs of one project may cost on one day (UTC)."
    )
    classify: bool = Field(
        False,
        description="Have a cheap model choose haiku, sonnet or opus for jobs that name no model.",
    )
    worktree_retention: Duration = Field(
        timedelta(hours=24),
        description="How long a worktree is kept after the last job in it; its commits stay.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least important records to log."
    )

    @model_validator(mode="after")
    def _is_safe(self) -> "Settings":
        if not self.allow_remote and not _is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is not loopback: everybody who reaches it could try tokens. "
                "Use 127.0.0.1, or set allow_remote=true and put a TLS proxy before the server."
            )
        return self

    @property
    def url_of_database(self) -> str:
        """Where the database is: the one set, or SQLite in the data folder."""
        return self.database_url or f"sqlite:///{self.data_dir / 'hurlicane.db'}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

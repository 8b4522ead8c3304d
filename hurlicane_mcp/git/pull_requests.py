"""Pull requests by `gh`, the GitHub CLI, with the user's own login. Blocking.

What it takes and says was tried with gh 2.23 and read in the sources of later ones (November 2026):
exit code 4 without a login, and "already exists" with the address on a line of its own.
"""

import json
import os
import re
import shlex
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hurlicane_mcp.errors import GitFailed
from hurlicane_mcp.git.remotes import Route, reason_in

#: Seconds that one call of gh may take.
CALL_S: Final = 60.0
#: GitHub refuses longer ones (65,536 and 256 characters; GraphQL errors, November 2026).
MAX_BODY: Final = 60_000
MAX_TITLE: Final = 250

_NO_LOGIN: Final = 4
_ALREADY: Final = re.compile(r"already exists:\s+(https?://\S+)")
#: What may be gone at the next try: sentences of gh, of Go's network library and of GitHub.
_PASSING: Final = re.compile(
    r"error connecting to|dial tcp|connection re(?:fused|set)|i/o timeout|TLS handshake"
    r"|no such host|unexpected EOF|deadline exceeded|HTTP 5\d\d|rate limit|submitted too quickly",
    re.IGNORECASE,
)
#: Another repository, a terminal that is none, and talk about itself.
_UNWANTED: Final = frozenset(
    {"GH_REPO", "GH_FORCE_TTY", "GH_DEBUG", "DEBUG", "CLICOLOR_FORCE", "GIT_DIR", "GIT_WORK_TREE"}
    | {"GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX"}
)
_QUIET: Final = (
    *(("GH_PROMPT_DISABLED", "1"), ("GH_NO_UPDATE_NOTIFIER", "1"), ("GH_PAGER", "cat")),
    *(("NO_COLOR", "1"), ("GIT_TERMINAL_PROMPT", "0"), ("GIT_ASKPASS", "true")),
)


class NoPullRequest(Exception):
    """`gh` cannot open one here until a person does something; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class PullRequest:
    """An open pull request."""

    url: str
    was_there: bool  #: it had been opened before


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a pull request is to say. Title and body are cut where GitHub would refuse them."""

    base: str
    head: str
    title: str
    body: str


class GitHub:
    """The pull requests of one repository, as `gh` sees them from *folder*."""

    def __init__(self, program: str, folder: Path, route: Route, limit_s: float = CALL_S) -> None:
        self._program = program
        self._folder = folder
        self._route = route
        self._limit_s = limit_s

    def open(self, proposal: Proposal) -> PullRequest:
        """The open pull request of that branch; it is created only if there is none.

        Raises:
            NoPullRequest: no `gh`, no login, no GitHub, or GitHub refuses it.
            GitFailed: the network, GitHub or a time limit was in the way: trying again may help.
        """
        url = self._existing(proposal.head)
        if url:
            return PullRequest(url, was_there=True)
        title = " ".join(proposal.title.split())[:MAX_TITLE] or proposal.head
        argv = self._create(proposal, title)
        ended = self._call(*argv, "--body-file", "-", body=proposal.body[:MAX_BODY])
        if ended.returncode == 0:
            return PullRequest(_last_line(ended.stdout), was_there=False)
        if found := _ALREADY.search(ended.stderr):
            return PullRequest(found[1], was_there=True)
        raise self._fault(ended)

    def by_hand(self, proposal: Proposal) -> str:
        """The command that opens it, for a person to run in the repository."""
        return shlex.join(["gh", *self._create(proposal, None)])

    def _existing(self, head: str) -> str | None:
        """The address of the open pull request that comes from our branch."""
        fields = "number,url,isCrossRepository,headRepositoryOwner"
        ended = self._call(
            *("pr", "list", *self._repository, "--head", head, "--state", "open", "--json", fields)
        )
        if ended.returncode != 0:
            raise self._fault(ended)
        try:
            found: list[dict[str, Any]] = json.loads(ended.stdout)
            return next((str(one["url"]) for one in found if self._is_ours(one)), None)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise NoPullRequest(f"{self._program} pr list answers no list of them.") from None

    def _is_ours(self, pull: dict[str, Any]) -> bool:
        """Whether it comes from where we push to: --head finds the branches of all forks."""
        owner = self._fork_owner
        if owner is None:
            return not pull["isCrossRepository"]
        told: dict[str, Any] | None = pull["headRepositoryOwner"]
        return told is not None and str(told["login"]).lower() == owner.lower()

    def _create(self, proposal: Proposal, title: str | None) -> list[str]:
        owner = self._fork_owner
        head = proposal.head if owner is None else f"{owner}:{proposal.head}"
        argv = ["pr", "create", *self._repository, "--base", proposal.base, "--head", head]
        return argv if title is None else [*argv, "--title", title]

    @property
    def _repository(self) -> tuple[str, ...]:
        """With several remotes gh asks which repository is meant, unless it was told before."""
        slug = self._route.home.slug
        return () if slug is None or self._route.is_chosen else ("--repo", slug)

    @property
    def _fork_owner(self) -> str | None:
        """Who owns what we push to, if pull requests belong to another repository."""
        push, home = self._route.push.slug, self._route.home.slug
        if push is None or home is None or push.lower() == home.lower():
            return None
        return push.split("/")[1]

    def _call(self, *args: str, body: str = "") -> "subprocess.CompletedProcess[str]":
        argv = [self._program, *args]
        kept = {name: value for name, value in os.environ.items() if _is_kept(name)}
        try:
            process = subprocess.Popen(
                argv,
                cwd=self._folder,
                env=kept | dict(_QUIET),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except FileNotFoundError:
            raise NoPullRequest(
                f"There is no program {self._program!r} (the GitHub CLI, cli.github.com)."
            ) from None
        except OSError as error:
            raise NoPullRequest(f"{self._program} cannot be started: {error}.") from None
        with process:
            try:
                out, err = process.communicate(body, self._limit_s)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                tried = f"{self._program} pr {args[1]}"
                late = f"it took longer than {self._limit_s:g} s and was ended"
                raise GitFailed(tried, self._folder, late) from None
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def _fault(self, ended: "subprocess.CompletedProcess[str]") -> NoPullRequest | GitFailed:
        """What is wrong, for a person; or for another try, if that may help."""
        if ended.returncode == _NO_LOGIN:
            return NoPullRequest(f"{self._program} is not logged in: run `gh auth login`.")
        lines = [line.strip() for line in ended.stderr.splitlines()]
        lines = [line for line in lines if not line.startswith("check your internet")]
        reason = reason_in(lines, f"exit code {ended.returncode}")
        if _PASSING.search(ended.stderr):
            return GitFailed(f"{self._program} {' '.join(ended.args[1:3])}", self._folder, reason)
        return NoPullRequest(f"{self._program} says: {reason}")


def _is_kept(name: str) -> bool:
    return name not in _UNWANTED and not name.startswith("HURLICANE_")


def _last_line(text: str) -> str:
    lines = text.split()
    return lines[-1] if lines else ""

"""From a branch with work on it to a pushed branch or a pull request, as often as it is asked.

Every step looks first: what is pushed already, whether there is a pull request. So a publication
that was cut off anywhere, or is asked for twice, goes on from what is there.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from hurlicane_mcp.domain.workflows import Publish
from hurlicane_mcp.errors import GitFailed
from hurlicane_mcp.git import history, remotes
from hurlicane_mcp.git.history import MergePreview
from hurlicane_mcp.git.pull_requests import CALL_S, MAX_BODY, GitHub, NoPullRequest, Proposal
from hurlicane_mcp.git.remotes import Route, There

#: Paths with conflicts that a pull request lists.
_LISTED: Final = 50
_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class Publication:
    """What is to be published, and how far."""

    folder: Path  #: a work tree of the repository
    branch: str
    base_branch: str | None  #: None: not known
    mode: Publish
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Published:
    """How far it came. The note is for people and holds no credentials."""

    pushed: bool  #: the remote has all of the branch
    remote: str | None  #: its name
    url: str | None  #: of the pull request
    conflicts: tuple[str, ...]  #: paths that contradict the base; empty as well if that is unknown
    note: str


class Publisher:
    """Publishes branches with git and with `gh`, the GitHub CLI."""

    def __init__(self, gh: str, gh_limit_s: float = CALL_S) -> None:
        """*gh* is the program of the GitHub CLI: a name or a path. Each call has that long."""
        self._gh = gh
        self._gh_limit_s = gh_limit_s
        self._threads = anyio.CapacityLimiter(_AT_ONCE)  # a push may take minutes

    async def publish(self, wanted: Publication) -> Published:
        """Bring the branch as far as is wanted and possible. May be repeated; nothing is forced.

        What a person has to change first (no remote, no `gh`, no login) is told in the note.

        Raises:
            GitFailed: there is no such branch; or the remote, a hook or the network refused. That
                may have changed at the next call.
        """
        # A server that stops does not wait: the next call goes on from what came of this one.
        return await anyio.to_thread.run_sync(
            self._publish, wanted, limiter=self._threads, abandon_on_cancel=True
        )

    def _publish(self, wanted: Publication) -> Published:
        branch, base = wanted.branch, wanted.base_branch
        if wanted.mode is Publish.NONE:
            return _kept(f"Nothing is published, as was asked for. The work is on {branch}.")
        head = history.needed(wanted.folder, f"refs/heads/{branch}")
        route = remotes.route(wanted.folder, base)
        if isinstance(route, str):
            return _stays(wanted, route, _preview(wanted))
        there = remotes.look(wanted.folder, route.push, branch, base)
        if branch in (base, there.default):
            return _kept(f"{branch} is the base itself: nothing is ever pushed to that.")
        preview = _preview(wanted, _base_there(wanted, route, there), route)
        if preview is not None and preview.ahead == 0:
            return _kept(f"{base} has everything that is on {branch}: nothing to publish.")
        if not _is_there(wanted, route, there, head):
            remotes.push(wanted.folder, route.push, branch)
        url, said = None, ""
        if wanted.mode is Publish.PULL_REQUEST:
            url, said = self._request(wanted, route, preview)
        told = (f"{branch} is pushed to {route.push.name}.", said, _outlook(base, preview))
        conflicts = preview.conflicts if preview else ()
        note = " ".join(one for one in told if one)
        return Published(True, route.push.name, url, conflicts, note)

    def _request(
        self, wanted: Publication, route: Route, preview: MergePreview | None
    ) -> tuple[str | None, str]:
        """The pull request's address, and what to say of it."""
        base = wanted.base_branch
        if base is None:
            return None, "No pull request: the branch that it should go to is not known."
        body = _with_conflicts(wanted.body, base, preview.conflicts if preview else ())
        proposal = Proposal(base, wanted.branch, wanted.title, body)
        github = GitHub(self._gh, wanted.folder, route, self._gh_limit_s)
        try:
            made = github.open(proposal)
        except NoPullRequest as error:
            return None, f"No pull request: {error} To open it: `{github.by_hand(proposal)}`."
        return made.url, f"Pull request {'was there' if made.was_there else 'opened'}: {made.url}."


def _kept(note: str, preview: MergePreview | None = None) -> Published:
    """The answer for a branch that is not pushed."""
    return Published(False, None, None, preview.conflicts if preview else (), note)


def _stays(wanted: Publication, why: str, preview: MergePreview | None) -> Published:
    """The answer if there is no remote to push to."""
    by_hand = shlex.join(("git", "push", "REMOTE", wanted.branch))
    told = f"{why} The work stays on the local branch {wanted.branch}. To push it: `{by_hand}`."
    outlook = _outlook(wanted.base_branch, preview)
    return _kept(f"{told} {outlook}".rstrip(), preview)


def _base_there(wanted: Publication, route: Route, there: There) -> str | None:
    """The commit of the base branch where pull requests go to, if that is known."""
    if route.home.name == route.push.name or wanted.base_branch is None:
        return there.base
    try:
        return remotes.look(wanted.folder, route.home, wanted.base_branch, None).branch
    except GitFailed:  # it may be readable for others only; the branch can go to its fork
        return None


def _preview(
    wanted: Publication, base_there: str | None = None, route: Route | None = None
) -> MergePreview | None:
    """What a merge into the base would do; None if no such base is known here or there."""
    folder, base = wanted.folder, wanted.base_branch
    if base is None:
        return None
    found = None
    if route is not None and base_there is not None:
        found = history.commit_of(folder, base_there)
        if found is None and remotes.bring(folder, route.home, base):
            found = history.commit_of(folder, base_there)
    found = found or history.commit_of(folder, base)
    return history.merge_preview(folder, wanted.branch, found) if found else None


def _is_there(wanted: Publication, route: Route, there: There, head: str) -> bool:
    """Whether the remote has all of the branch, perhaps with commits of others on top."""
    folder = wanted.folder
    if there.branch in (None, head):
        return there.branch == head
    if history.commit_of(folder, there.branch) is None:
        remotes.bring(folder, route.push, wanted.branch)
    return history.contains(folder, there.branch, head)


def _outlook(base: str | None, preview: MergePreview | None) -> str:
    """What a merge would meet, in a sentence; empty if there is nothing to say."""
    if base is None:
        return ""
    if preview is None:
        return f"Whether it merges is not known: there is no {base} here or there."
    if preview.unknown:
        return f"Whether it merges into {base} could not be tried: {preview.unknown}."
    if not preview.conflicts:
        return ""
    first, more = preview.conflicts[:3], len(preview.conflicts) - 3
    named = ", ".join(first) + (f" and {more} more" if more > 0 else "")
    return f"It conflicts with {base} in {named}."


def _with_conflicts(body: str, base: str, conflicts: tuple[str, ...]) -> str:
    """*body* with the conflicts behind it, short enough for GitHub."""
    lines = [f"- `` {path} ``" for path in conflicts[:_LISTED]]
    if len(conflicts) > _LISTED:
        lines.append(f"- and {len(conflicts) - _LISTED} more")
    section = "\n".join(("", "", f"## Conflicts with `{base}`", "", *lines, "")) if lines else ""
    room = MAX_BODY - len(section)
    cut = "\n\n[cut]"
    kept = body if len(body) <= room else body[: room - len(cut)] + cut
    return kept.rstrip() + section if section else kept

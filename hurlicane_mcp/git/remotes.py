"""Where a branch is pushed to, what is there already, and the push itself.

Nothing is forced and nobody is asked for a password. The user's hooks run (a pre-push hook may
upload what git-lfs keeps). Blocking: call it in a worker thread. Addresses may hold passwords: no
answer and no error has one.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from hurlicane_mcp.errors import GitFailed
from hurlicane_mcp.git.commands import Completed, run_git

#: Seconds for a look at the remote, and for a push with the hooks of both ends.
LOOK_S: Final = 60.0
PUSH_S: Final = 600.0
#: Git Credential Manager opens a window unless it is told not to (its docs, environment variables).
_UNASKED: Final = (("GCM_INTERACTIVE", "never"),)
_LONGEST_REASON: Final = 300
_USERINFO: Final = re.compile(r"\b([a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s'\"]*@")
_SECRET: Final = re.compile(r"([?&][\w-]*(?:token|key|password|secret)=)[^&\s'\"]+", re.IGNORECASE)
#: `[user@]host:owner/name`, what ssh takes beside URLs.
_SCP: Final = re.compile(r"(?:[^@/\s]+@)?(?P<host>[^:/\s]+):(?!/)(?P<path>\S+)")


@dataclass(frozen=True, slots=True)
class Remote:
    """A remote of a repository."""

    name: str
    slug: str | None  #: `host/owner/name`, if its address reads like a forge's


@dataclass(frozen=True, slots=True)
class Route:
    """Where a branch goes."""

    push: Remote  #: it is pushed there
    home: Remote  #: the base branch lives there; another one if *push* is a fork
    is_chosen: bool  #: a person has told `gh` which repository pull requests belong to


@dataclass(frozen=True, slots=True)
class There:
    """What a remote has: commits, or None."""

    branch: str | None
    base: str | None
    default: str | None  #: the name of its default branch


def names_of(folder: Path) -> tuple[str, ...]:
    """The remotes of a repository; those that git would take for options left out."""
    listed = run_git(folder, "remote").text.splitlines()
    return tuple(one for one in listed if not one.startswith("-"))


def route(folder: Path, base: str | None) -> Route | str:
    """Which remote a branch that began from *base* is pushed to; a sentence if that is open.

    As git itself chooses (`man git-config`, remote.pushDefault): `branch.<base>.pushRemote`, then
    `remote.pushDefault`, then `branch.<base>.remote`; after them `origin`, or the only one.
    """
    names = names_of(folder)
    if not names:
        return "The repository has no remote; `git remote add origin ADDRESS` makes one."
    fetched = _setting(folder, f"branch.{base}.remote") if base else None
    wishes = (
        _setting(folder, f"branch.{base}.pushRemote") if base else None,
        _setting(folder, "remote.pushDefault"),
        fetched,
        "origin",
        names[0] if len(names) == 1 else None,
    )
    # A branch's remote may also be "." or an address.
    push = next((one for one in wishes if one in names), None)
    if push is None:
        return (
            f"Of the remotes {', '.join(names)} none is the one to push to: "
            "choose it with `git config remote.pushDefault NAME`."
        )
    there = _remote(folder, push)
    chosen = _chosen(folder, names)
    if chosen is not None:
        return Route(there, chosen, is_chosen=True)
    if fetched is None or fetched not in names or fetched == push:
        return Route(there, there, is_chosen=False)
    return Route(there, _remote(folder, fetched), is_chosen=False)


def look(folder: Path, remote: Remote, branch: str, base: str | None) -> There:
    """What *remote* has of the two branches.

    Raises:
        GitFailed: it cannot be reached, or does not let us in.
    """
    refs = [f"refs/heads/{one}" for one in (branch, base) if one]
    told = _talk(folder, "ls-remote", "--symref", remote.name, "HEAD", *refs)
    if told.code != 0:
        raise GitFailed(f"git ls-remote {remote.name}", folder, _reason(told))
    found: dict[str, str] = {}
    for line in os.fsdecode(told.stdout).splitlines():
        value, _, name = line.partition("\t")
        found.setdefault("default" if value.startswith("ref: ") else name, value)
    default = found.get("default", "").removeprefix("ref: refs/heads/") or None
    base_ref = f"refs/heads/{base}" if base else ""
    return There(found.get(f"refs/heads/{branch}"), found.get(base_ref), default)


def bring(folder: Path, remote: Remote, branch: str) -> bool:
    """Get the commits of *remote*'s *branch* without changing any ref. False if that failed."""
    asked = (
        *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--refmap="),
        *("--no-recurse-submodules", remote.name, f"refs/heads/{branch}"),
    )
    try:
        return _talk(folder, *asked).code == 0
    except GitFailed:  # its time was up
        return False


def push(folder: Path, remote: Remote, branch: str) -> None:
    """Push *branch* to the branch of the same name, without force.

    Raises:
        GitFailed: it was refused, by the remote or a hook, or took longer than ten minutes. The
            message says what a person can do.
    """
    ref = f"refs/heads/{branch}"
    told = _talk(
        *(folder, "push", "--porcelain", "--no-follow-tags", remote.name, f"{ref}:{ref}"),
        timeout=PUSH_S,
        hooks=True,
    )
    if told.code == 0:
        return
    # "!<TAB>from:to<TAB>[rejected] (why)", as `man git-push` describes --porcelain
    refused = next((one for one in told.text.splitlines() if one.startswith("!\t")), "")
    tried = f"git push {remote.name} {branch}"
    if "[rejected]" in refused:
        raise GitFailed(
            tried,
            folder,
            f"{remote.name} has commits on {branch} that are not here, so somebody else has pushed "
            f"to it. Nothing was forced. Look at them (git fetch {remote.name} {branch}), merge or "
            "rebase, and publish again.",
        )
    if "[remote rejected]" in refused:
        why = without_credentials(refused.rpartition("[remote rejected]")[2].strip(" ()"))
        raise GitFailed(tried, folder, f"{remote.name} refuses it: {why[:_LONGEST_REASON]}")
    raise GitFailed(tried, folder, _reason(told))


def without_credentials(text: str) -> str:
    """*text* with the user, password and tokens taken out of its addresses."""
    return _SECRET.sub(r"\1…", _USERINFO.sub(r"\1", text))


def slug_of(address: str) -> str | None:
    """`host/owner/name` of a remote's *address*; None if it does not read like a forge's.

    A host without a dot is an alias of the ssh configuration: what it means, `gh` has to find out.
    """
    if "://" in address:
        try:
            parts = urlsplit(address)
            host, path = parts.hostname or "", parts.path
        except ValueError:
            return None
    elif scp := _SCP.fullmatch(address):
        host, path = scp["host"].lower(), scp["path"]
    else:
        return None
    words = path.removesuffix("/").removesuffix(".git").strip("/").split("/")
    if "." not in host or len(words) != 2 or not all(words):
        return None
    # GitHub takes ssh at port 443 under a name of its own (docs.github.com, November 2026).
    host = "github.com" if host in ("ssh.github.com", "www.github.com") else host
    return "/".join((host, *words))


def _remote(folder: Path, name: str) -> Remote:
    return Remote(name, slug_of(run_git(folder, "remote", "get-url", name).text))


def _chosen(folder: Path, names: Sequence[str]) -> Remote | None:
    """What `gh repo set-default` has noted: a remote itself, or the repository that it forks."""
    for name in names:
        wish = _setting(folder, f"remote.{name}.gh-resolved")
        if wish is None:
            continue
        remote = _remote(folder, name)
        if wish == "base" or remote.slug is None:
            return remote
        host = remote.slug.partition("/")[0]
        return Remote(name, wish if wish.count("/") == 2 else f"{host}/{wish}")
    return None


def _setting(folder: Path, key: str) -> str | None:
    told = run_git(folder, "config", "--get", key, check=False)
    return told.text if told.code == 0 else None


def _talk(folder: Path, *args: str, timeout: float = LOOK_S, hooks: bool = False) -> Completed:
    return run_git(folder, *args, timeout=timeout, hooks=hooks, check=False, env=dict(_UNASKED))


def _reason(ended: Completed) -> str:
    """The last line that says something, of git, of a hook or of the other end."""
    lines = [line.strip() for line in ended.stderr.decode(errors="replace").splitlines()]
    return reason_in(lines, ended.complaint)


def reason_in(lines: Sequence[str], otherwise: str) -> str:
    """The last of *lines* that says why, as it can be shown; at most 300 characters.

    Without hints, credentials and what moves a terminal's cursor.
    """
    dull = (
        *("hint:", "error: failed to push some refs", "fatal: Could not read from remote"),
        *("Please make sure", "and the repository"),
    )
    telling = [line for line in lines if line and not line.startswith(dull)]
    reason = without_credentials(telling[-1] if telling else otherwise)
    return "".join(one for one in reason if one.isprintable())[:_LONGEST_REASON]

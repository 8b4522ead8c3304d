"""A `gh` program without GitHub: it takes and says what gh 2.x does, and keeps a JSON file.

Its sentences and exit codes are those of gh 2.23 (run in November 2026) and of the sources of later
ones. It takes every remote for one at GitHub, unless it is told that there is none.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

ROOT = Path(__file__).parent.parent
#: How a command can go wrong: no network; a network that breaks off when all is done; GitHub's
#: refusal; a call that never ends; another caller who was faster.
Fault = Literal["network", "no_answer", "forbidden", "hang", "late"]
FIELDS: Final = frozenset(
    {"number", "url", "title", "body", "state", "baseRefName", "headRefName", "isDraft"}
    | {"isCrossRepository", "headRepositoryOwner"}
)
OPTIONS: Final = {
    "list": {"--head", "-H", "--state", "-s", "--json", "--base", "-B", "--limit", "-L"}
    | {"--repo", "-R"},
    "create": {"--base", "-B", "--head", "-H", "--title", "-t", "--body", "-b", "--body-file", "-F"}
    | {"--repo", "-R"},
}
LONG: Final = {
    **{"-H": "--head", "-s": "--state", "-B": "--base", "-L": "--limit", "-R": "--repo"},
    **{"-t": "--title", "-b": "--body", "-F": "--body-file"},
}
NO_LOGIN: Final = (
    "To get started with GitHub CLI, please run:  gh auth login\n"
    "Alternatively, populate the GH_TOKEN environment variable with a GitHub API authentication "
    "token."
)
NO_HOST: Final = (
    "none of the git remotes configured for this repository point to a known GitHub host. To tell "
    "gh about a new GitHub host, please use `gh auth login`"
)
NO_NETWORK: Final = (
    'Post "https://api.github.com/graphql": dial tcp: lookup api.github.com: no such host'
)
FORBIDDEN: Final = (
    "pull request create failed: GraphQL: Resource not accessible by personal access token "
    "(createPullRequest)"
)


@dataclass(frozen=True, slots=True)
class Pull:
    """A pull request that the stub keeps."""

    number: int
    title: str
    body: str
    base: str
    head: str
    state: str = "OPEN"
    owner: str = "acme"
    repo: str = "acme/thing"

    @property
    def url(self) -> str:
        return f"https://github.com/{self.repo}/pull/{self.number}"

    def answer(self) -> dict[str, Any]:
        """All that `--json` can tell."""
        return {
            **{"number": self.number, "url": self.url, "title": self.title, "body": self.body},
            **{"state": self.state, "baseRefName": self.base, "headRefName": self.head},
            "isDraft": False,
            "isCrossRepository": self.owner != self.repo.split("/")[0],
            "headRepositoryOwner": {"login": self.owner},
        }


class StubGh:
    """The program `gh` in a folder of its own, to be put on PATH; its state, and its faults."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin_dir = folder / "bin"
        self.bin_dir.mkdir(parents=True, exist_ok=True)
        program = self.bin_dir / "gh"
        program.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            f"from tests.gh import main\nmain({str(folder)!r}, sys.argv[1:])\n",
            encoding="utf-8",
        )
        program.chmod(0o755)
        if not (folder / "hanging").exists():
            os.mkfifo(folder / "hanging")

    @property
    def program(self) -> str:
        """Its path, for the setting `gh_bin`."""
        return str(self.bin_dir / "gh")

    @property
    def pulls(self) -> tuple[Pull, ...]:
        """All pull requests, first to last."""
        return tuple(Pull(**one) for one in self._state()["pulls"])

    @property
    def calls(self) -> tuple[tuple[str, ...], ...]:
        """The arguments of every call so far."""
        return tuple(tuple(one) for one in self._state()["calls"])

    def wait_until_hanging(self) -> int:
        """The process that hangs, as soon as one does. Blocking; the caller has to end it."""
        return int((self.folder / "hanging").read_text(encoding="utf-8"))

    def log_out(self) -> None:
        """From now on nobody is logged in."""
        self._change(logged_in=False)

    def log_in(self) -> None:
        """From now on somebody is, as in the beginning."""
        self._change(logged_in=True)

    def leave_github(self) -> None:
        """From now on no remote is at GitHub."""
        self._change(github=False)

    def fail(self, command: Literal["list", "create"], fault: Fault) -> None:
        """From now on `gh pr COMMAND` goes wrong, until `mend`."""
        self._change(faults={**self._state()["faults"], command: fault})

    def mend(self) -> None:
        """From now on nothing goes wrong."""
        self._change(faults={})

    def add(self, pull: Pull) -> None:
        """Have a pull request that somebody else has opened."""
        self._change(pulls=[*self._state()["pulls"], _kept(pull)])

    def close(self, number: int) -> None:
        """Close a pull request without a merge."""
        pulls = self._state()["pulls"]
        self._change(
            pulls=[{**one, "state": "CLOSED"} if one["number"] == number else one for one in pulls]
        )

    def _state(self) -> dict[str, Any]:
        return _load(self.folder)

    def _change(self, **values: Any) -> None:
        _save(self.folder, {**self._state(), **values})


def main(folder: str, argv: Sequence[str]) -> NoReturn:
    """Be `gh` with these arguments."""
    _Gh(Path(folder), argv).run()
    sys.exit(0)


class _Gh:
    def __init__(self, folder: Path, argv: Sequence[str]) -> None:
        self._folder = folder
        self._argv = list(argv)
        self._state = _load(folder)

    def run(self) -> None:
        self._state["calls"].append(self._argv)
        _save(self._folder, self._state)
        if self._argv == ["--version"]:
            sys.stdout.write("gh version 2.83.0 (2026-11-01)\n")
            return
        if len(self._argv) < 2 or self._argv[0] != "pr" or self._argv[1] not in OPTIONS:
            _end(f'unknown command "{" ".join(self._argv[:2])}" for "gh"')
        command = self._argv[1]
        given = self._parse(command)
        if not self._state["logged_in"]:
            _end(NO_LOGIN, 4)
        remotes = self._remotes()
        if not remotes:
            _end("no git remotes found")
        if not self._state["github"] and "--repo" not in given:
            _end(NO_HOST)
        if len(remotes) > 1 and "--repo" not in given and not self._has_default():
            _end(
                "X No default remote repository has been set. To learn more about the default "
                "repository, run: gh repo set-default --help\n\nplease run `gh repo set-default` "
                "to select a default remote repository."
            )
        fault = self._state["faults"].get(command)
        if fault == "network":
            _end(NO_NETWORK)
        if fault == "hang":
            (self._folder / "hanging").write_text(str(os.getpid()), encoding="utf-8")
            time.sleep(600)
        if command == "list":
            self._list(given)
        else:
            self._create(given, fault)

    def _parse(self, command: str) -> dict[str, str]:
        given: dict[str, str] = {}
        words = iter(self._argv[2:])
        for word in words:
            name, equals, value = word.partition("=")
            if not word.startswith("-") or word == "-":
                _end(f'unknown argument "{word}"; please quote all values that have spaces')
            if name not in OPTIONS[command]:
                _end(f"unknown flag: {name}")
            if not equals:
                value = next(words, None)
                if value is None:
                    _end(f"flag needs an argument: {name}")
            given[LONG.get(name, name)] = value
        return given

    def _list(self, given: dict[str, str]) -> None:
        state = given.get("--state", "open")
        if state not in ("open", "closed", "merged", "all"):
            _end(f'invalid argument "{state}" for "-s, --state" flag')
        names = given.get("--json", "").split(",")
        if unknown := [name for name in names if name not in FIELDS]:
            _end(f'Unknown JSON field: "{unknown[0]}"\nAvailable fields:')
        pulls = [Pull(**one) for one in self._state["pulls"]]
        found = [
            {name: pull.answer()[name] for name in names}
            for pull in reversed(pulls)
            if given.get("--head") in (None, pull.head)
            and given.get("--base") in (None, pull.base)
            and state in ("all", pull.state.lower())
        ]
        sys.stdout.write(json.dumps(found) + "\n")

    def _create(self, given: dict[str, str], fault: str | None) -> None:
        body = given.get("--body")
        if given.get("--body-file") == "-":
            body = sys.stdin.read()
        elif "--body-file" in given:
            body = Path(given["--body-file"]).read_text(encoding="utf-8")
        if "--title" not in given or body is None:
            _end("must provide `--title` and `--body` (or `--fill`) when not running interactively")
        if not given["--title"].strip():
            _end("pull request title must not be blank")
        if "--head" not in given:
            _end("aborted: you must first push the current branch to a remote, or use --head")
        if len(body) > 65_536 or len(given["--title"]) > 256:
            _end("pull request create failed: GraphQL: Body is too long (maximum is 65536 chars)")
        if fault == "forbidden":
            _end(FORBIDDEN)
        self._store(given, body, fault)

    def _store(self, given: dict[str, str], body: str, fault: str | None) -> None:
        owner, _, head = given["--head"].rpartition(":")
        repo = "/".join(given.get("--repo", "acme/thing").split("/")[-2:])
        base = given.get("--base", "main")
        pulls = self._state["pulls"]
        pull = Pull(
            len(pulls) + 1, given["--title"], body, base, head, "OPEN", owner or "acme", repo
        )
        for one in (Pull(**known) for known in pulls):
            if (one.head, one.base, one.state) == (head, base, "OPEN"):
                self._already(given, one)
        self._check_branches(base, head)
        pulls.append(_kept(pull))
        _save(self._folder, self._state)
        if fault == "late":
            self._already(given, pull)
        if fault == "no_answer":
            _end('Post "https://api.github.com/graphql": read: connection reset by peer')
        sys.stdout.write(f"{pull.url}\n")

    def _already(self, given: dict[str, str], pull: Pull) -> NoReturn:
        _end(
            f'a pull request for branch "{given["--head"]}" into branch "{pull.base}" already '
            f"exists:\n{pull.url}"
        )

    def _check_branches(self, base: str, head: str) -> None:
        """As GitHub: both branches have to be there, and to differ."""
        there: set[str] = set()
        for remote in self._remotes():
            listed = _git("ls-remote", "--heads", remote)
            there |= {line.partition("refs/heads/")[2] for line in listed.splitlines()}
        faults = [f"No commits between {base} and {head}"] if base == head else []
        faults += ["Head sha can't be blank", "Head ref must be a branch"] * (head not in there)
        faults += ["Base ref must be a branch"] * (base not in there)
        if faults:
            said = ", ".join(faults)
            _end(f"pull request create failed: GraphQL: {said} (createPullRequest)")

    def _remotes(self) -> list[str]:
        return _git("remote").split()

    def _has_default(self) -> bool:
        return bool(_git("config", "--get-regexp", r"^remote\..*\.gh-resolved$"))


def _git(*arguments: str) -> str:
    return subprocess.run(
        ("git", *arguments), capture_output=True, text=True, check=False
    ).stdout.strip()


def _kept(pull: Pull) -> dict[str, Any]:
    return {name: getattr(pull, name) for name in Pull.__slots__}


def _load(folder: Path) -> dict[str, Any]:
    fresh: dict[str, Any] = {
        **{"pulls": [], "calls": [], "faults": {}},
        **{"logged_in": True, "github": True},
    }
    file = folder / "gh.json"
    return fresh | json.loads(file.read_text(encoding="utf-8")) if file.exists() else fresh


def _save(folder: Path, state: dict[str, Any]) -> None:
    unfinished = folder / f"gh.{os.getpid()}.new"
    unfinished.write_text(json.dumps(state), encoding="utf-8")
    unfinished.replace(folder / "gh.json")


def _end(said: str, code: int = 1) -> NoReturn:
    sys.stderr.write(f"{said}\n")
    sys.exit(code)

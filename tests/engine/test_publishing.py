"""From a branch to a pull request: real git, real bare remotes, and a stub of `gh`."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hurlicane_mcp.domain.workflows import Publish
from hurlicane_mcp.engine.publishing import Publication, Published, Publisher
from hurlicane_mcp.errors import GitFailed
from tests.gh import ROOT, Pull, StubGh
from tests.git.places import Place, git, new_place

pytestmark = pytest.mark.anyio

BRANCH = "hurlicane/add-a-parser-7f3k"
TITLE = "Add a parser"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return new_place(tmp_path)


@pytest.fixture
def gh(tmp_path: Path) -> StubGh:
    return StubGh(tmp_path / "gh")


@pytest.fixture
def publisher(gh: StubGh) -> Publisher:
    return Publisher(gh.program)


def wish(place: Place, mode: Publish, base: str | None = "main") -> Publication:
    return Publication(place.folder, BRANCH, base, mode, TITLE, "What was done.\n")


def hook(place: Place, name: str, script: str) -> None:
    folder = Path(git(place.folder, "rev-parse", "--absolute-git-dir")) / "hooks"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def pushed_by_others(place: Place, bare: Place, branch: str, **texts: str) -> str:
    """A commit of somebody else at the remote's *branch*."""
    other = place.clone(f"others-{branch.replace('/', '-')}", bare)
    git(other.folder, "checkout", "--quiet", branch)
    sha = other.commit("Somebody else's", **texts)
    git(other.folder, "push", "--quiet", "origin", branch)
    return sha


# none ------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_remote", [False, True])
async def test_with_none_nothing_leaves_the_machine(
    place: Place, publisher: Publisher, gh: StubGh, with_remote: bool
) -> None:
    bare = place.remote() if with_remote else None
    place.begin(BRANCH)
    made = await publisher.publish(wish(place, Publish.NONE))
    note = f"Nothing is published, as was asked for. The work is on {BRANCH}."
    assert made == Published(False, None, None, (), note)
    assert gh.calls == ()
    assert bare is None or set(bare.branches()) == {"main"}


# branch ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [Publish.BRANCH, Publish.PULL_REQUEST])
async def test_without_a_remote_the_branch_stays_and_the_note_says_so(
    place: Place, publisher: Publisher, gh: StubGh, mode: Publish
) -> None:
    place.begin(BRANCH)
    made = await publisher.publish(wish(place, mode))
    assert (made.pushed, made.remote, made.url) == (False, None, None)
    assert made.note == (
        "The repository has no remote; `git remote add origin ADDRESS` makes one. The work stays "
        f"on the local branch {BRANCH}. To push it: `git push REMOTE {BRANCH}`."
    )
    assert gh.calls == ()


async def test_a_branch_is_pushed_to_a_branch_of_its_name_and_nothing_else(
    place: Place, publisher: Publisher, gh: StubGh
) -> None:
    bare = place.remote()
    main, sha = place.sha("main"), place.begin(BRANCH)
    made = await publisher.publish(wish(place, Publish.BRANCH))
    assert made == Published(True, "origin", None, (), f"{BRANCH} is pushed to origin.")
    assert bare.branches() == {"main": main, BRANCH: sha}
    assert gh.calls == ()


async def test_from_a_linked_work_tree_it_is_the_same(place: Place, publisher: Publisher) -> None:
    bare = place.remote()
    tree = Place(place.beside / "tree", place.beside)
    git(place.folder, "worktree", "add", "--quiet", "-b", BRANCH, str(tree.folder))
    sha = tree.commit("Work", work_txt="work\n")
    made = await publisher.publish(wish(tree, Publish.BRANCH))
    assert made.pushed
    assert bare.branches()[BRANCH] == sha


async def test_twice_does_no_harm_and_new_commits_follow(
    place: Place, publisher: Publisher
) -> None:
    bare = place.remote()
    place.begin(BRANCH)
    wanted = wish(place, Publish.BRANCH)
    first = await publisher.publish(wanted)
    hook(place, "pre-push", "exit 1")  # what is there already is not pushed again
    assert await publisher.publish(wanted) == first
    hook(place, "pre-push", "exit 0")
    sha = place.commit("More", more_txt="more\n")
    assert (await publisher.publish(wanted)).pushed
    assert bare.branches()[BRANCH] == sha


async def test_a_branch_that_somebody_else_has_pushed_to_is_never_forced(
    place: Place, publisher: Publisher
) -> None:
    bare = place.remote()
    place.begin(BRANCH)
    await publisher.publish(wish(place, Publish.BRANCH))
    theirs = pushed_by_others(place, bare, BRANCH, theirs_txt="x\n")
    place.commit("Ours", ours_txt="y\n")
    with pytest.raises(GitFailed) as caught:
        await publisher.publish(wish(place, Publish.BRANCH))
    assert "somebody else has pushed to it. Nothing was forced." in str(caught.value)
    assert f"git fetch origin {BRANCH}" in str(caught.value)
    assert bare.branches()[BRANCH] == theirs


async def test_commits_of_others_on_top_of_ours_are_left_there(
    place: Place, publisher: Publisher
) -> None:
    bare = place.remote()
    place.begin(BRANCH)
    first = await publisher.publish(wish(place, Publish.BRANCH))
    theirs = pushed_by_others(place, bare, BRANCH, theirs_txt="x\n")
    assert await publisher.publish(wish(place, Publish.BRANCH)) == first
    assert bare.branches()[BRANCH] == theirs


async def test_the_users_own_hook_may_refuse_and_its_words_are_told(
    place: Place, publisher: Publisher
) -> None:
    bare = place.remote()
    place.begin(BRANCH)
    hook(place, "pre-push", r"printf 'tests are \033[31mred\000\n' >&2; exit 1")
    with pytest.raises(GitFailed, match=r"tests are \[31mred$"):
        await publisher.publish(wish(place, Publish.BRANCH))
    assert set(bare.branches()) == {"main"}


async def test_the_remote_may_refuse_and_its_reason_is_told(
    place: Place, publisher: Publisher
) -> None:
    bare = place.remote()
    place.begin(BRANCH)
    hook(bare, "pre-receive", "exit 1")
    with pytest.raises(GitFailed, match="origin refuses it: pre-receive hook declined"):
        await publisher.publish(wish(place, Publish.BRANCH))


async def test_a_hook_that_wants_to_ask_somebody_gets_an_end_and_no_terminal(
    place: Place, publisher: Publisher
) -> None:
    place.remote()
    place.begin(BRANCH)
    hook(place, "pre-push", "cat > /dev/null; read answer < /dev/tty || exit 1")
    with pytest.raises(GitFailed, match="/dev/tty"):
        await publisher.publish(wish(place, Publish.BRANCH))


@pytest.mark.parametrize("base", ["main", None, "other"])
async def test_the_base_itself_is_never_pushed(
    place: Place, publisher: Publisher, base: str | None
) -> None:
    bare = place.remote()
    before = bare.branches()
    place.commit("On main", x_txt="x\n")
    made = await publisher.publish(replace(wish(place, Publish.BRANCH, base), branch="main"))
    assert made.note == "main is the base itself: nothing is ever pushed to that."
    assert not made.pushed
    assert bare.branches() == before


async def test_a_branch_without_commits_of_its_own_is_not_published(
    place: Place, publisher: Publisher, gh: StubGh
) -> None:
    bare = place.remote()
    git(place.folder, "branch", BRANCH)
    made = await publisher.publish(wish(place, Publish.PULL_REQUEST))
    assert made.note == f"main has everything that is on {BRANCH}: nothing to publish."
    assert set(bare.branches()) == {"main"}
    assert gh.calls == ()


async def test_a_branch_that_is_gone_is_an_error(place: Place, publisher: Publisher) -> None:
    place.remote()
    with pytest.raises(GitFailed, match=BRANCH):
        await publisher.publish(wish(place, Publish.BRANCH))


async def test_a_remote_that_cannot_be_reached_is_an_error_without_its_password(
    place: Place, publisher: Publisher
) -> None:
    place.begin(BRANCH)
    git(place.folder, "remote", "add", "origin", "http://me:hunter2@127.0.0.1:9/x.git")
    with pytest.raises(GitFailed) as caught:
        await publisher.publish(wish(place, Publish.PULL_REQUEST))
    assert "hunter2" not in str(caught.value)


# pull_request ----------------------------------------------------------------------------


async def test_a_pull_request_is_opened_with_title_and_body(
    place: Place, publisher: Publisher, gh: StubGh
) -> None:
    bare = place.remote()
    sha = place.begin(BRANCH)
    made = await publisher.publish(wish(place, Publish.PULL_REQUEST))
    (pull,) = gh.pulls
    assert pull == Pull(1, TITLE, "What was done.\n", "main", BRANCH)
    assert made.url == pull.url
    assert made.note == f"{BRANCH} is pushed to origin. Pull request opened: {pull.url}."
    assert bare.branches()[BRANCH] == sha


async def test_gh_is_found_on_the_path(
    place: Place, gh: StubGh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{gh.bin_dir}:{os.environ['PATH']}")
    place.remote()
    place.begin(BRANCH)
    made = await Publisher("gh").publish(wish(place, Publish.PULL_REQUEST))
    assert made.url == gh.pulls[0].url


async def test_a_second_call_finds_the_pull_request_and_changes_nothing_of_it(
    place: Place, publisher: Publisher, gh: StubGh
) -> None:
    bare = place.remote()
    place.begin(BRANCH)
    await publisher.publish(wish(place, Publish.PULL_REQUEST))
    sha = place.commit("More", more_txt="more\n")
    again = replace(wish(place, Publish.PULL_REQUEST), title="Another", body="Another")
    made = await publisher.publish(again)
    assert made.note == f"{BRANCH} is pushed to origin. Pull request was there: {made.url}."
    assert [pull.title for pull in gh.pulls] == [TITLE]
    assert bare.branches()[BRANCH] == sha


async def test_a_closed_pull_request_and_one_of_a_stranger_do_not_count(
    place: Place, publisher: Publisher, gh: StubGh
) -> None:
    place.remote()
    place.begin(BRANCH)
    gh.add(Pull(1, "Old", "", "main", BRANCH, state="CLOSED"))
    gh.add(Pull(2, "A fork's", "", "other", BRANCH, owner="stranger"))
    made = await publisher.publish(wish(place, Publish.PULL_REQUEST))
    assert made.url == gh.pulls[2].url


async def test_without_gh_the_branch_is_pushed_and_the_rest_is_told(place: Place) -> None:
    bare = place.remote()
    place.begin(BRANCH)
    made = await Publisher("no-such-gh").publish(wish(place, Publish.PULL_REQUEST))
    assert made.pushed
    assert BRANCH in bare.branches()
    assert made.url is None
    assert "There is no program 'no-such-gh'" in made.note
    assert f"`gh pr create --base main --head {BRANCH}`" in made.note


async def test_without_a_login_or_github_or_a_right_the_note_says_what_is_missing(
    place: Place, publisher: Publisher, gh: StubGh
) -> None:
    bare = place.remote()
    place.begin(BRANCH)
    wanted = wish(place, Publish.PULL_REQUEST)
    gh.log_out()
    assert "run `gh auth login`" in (await publisher.publish(wanted)).note
    gh.log_in()
    gh.fail("create", "forbidden")
    assert "Resource not accessible" in (await publisher.publish(wanted)).note
    gh.mend()
    gh.leave_github()
    made = await publisher.publish(wanted)
    assert "none of the git remotes configured" in made.note
    assert f"To open it: `gh pr create --base main --head {BRANCH}`." in made.note
    assert made.pushed
    assert BRANCH in bare.branches()
    assert gh.pulls == ()


async def test_without_a_known_base_there_is_no_pull_request(
    place: Place, publisher: Publisher, gh: StubGh
) -> None:
    place.remote()
    place.begin(BRANCH)
    made = await publisher.publish(wish(place, Publish.PULL_REQUEST, None))
    assert made.pushed
    assert "the branch that it should go to is not known" in made.note
    assert gh.calls == ()


async def test_a_base_that_only_we_have_is_refused_by_github_and_told(
    place: Place, publisher: Publisher, gh: StubGh
) -> None:
    place.remote()
    git(place.folder, "checkout", "--quiet", "-b", "mine")
    place.begin(BRANCH)
    made = await publisher.publish(wish(place, Publish.PULL_REQUEST, "mine"))
    assert made.pushed
    assert "Base ref must be a branch" in made.note
    assert gh.pulls == ()


@pytest.mark.parametrize("command", ["list", "create"])
async def test_a_network_that_fails_is_an_error_and_the_next_call_goes_on(
    place: Place, publisher: Publisher, gh: StubGh, command: str
) -> None:
    bare = place.remote()
    place.begin(BRANCH)
    wanted = wish(place, Publish.PULL_REQUEST)
    gh.fail("list" if command == "list" else "create", "network")
    with pytest.raises(GitFailed, match="no such host"):
        await publisher.publish(wanted)
    assert BRANCH in bare.branches()
    gh.mend()
    assert (await publisher.publish(wanted)).url == gh.pulls[0].url


async def test_a_gh_that_never_answers_is_ended(place: Place, tmp_path: Path) -> None:
    place.remote()
    place.begin(BRANCH)
    program = tmp_path / "silent-gh"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    program.chmod(0o755)
    publisher = Publisher(str(program), gh_limit_s=2)
    with pytest.raises(GitFailed, match=r"pr list.* longer than 2 s and was ended"):
        await publisher.publish(wish(place, Publish.PULL_REQUEST))
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_an_answer_that_is_lost_leaves_one_pull_request(
    place: Place, publisher: Publisher, gh: StubGh
) -> None:
    place.remote()
    place.begin(BRANCH)
    wanted = wish(place, Publish.PULL_REQUEST)
    gh.fail("create", "no_answer")
    with pytest.raises(GitFailed, match="connection reset"):
        await publisher.publish(wanted)
    made = await publisher.publish(wanted)
    assert (made.url,) == tuple(pull.url for pull in gh.pulls)


async def test_somebody_who_is_faster_is_no_error(
    place: Place, publisher: Publisher, gh: StubGh
) -> None:
    place.remote()
    place.begin(BRANCH)
    gh.fail("create", "late")
    made = await publisher.publish(wish(place, Publish.PULL_REQUEST))
    assert made.url == gh.pulls[0].url
    assert "Pull request was there" in made.note


async def test_killed_between_push_and_pull_request_the_next_call_goes_on(
    place: Place, publisher: Publisher, gh: StubGh
) -> None:
    bare = place.remote()
    sha = place.begin(BRANCH)
    gh.fail("create", "hang")
    kill_while_it_hangs(place, gh)
    assert bare.branches()[BRANCH] == sha
    gh.mend()
    made = await publisher.publish(wish(place, Publish.PULL_REQUEST))
    assert (made.url,) == tuple(pull.url for pull in gh.pulls)


def kill_while_it_hangs(place: Place, gh: StubGh) -> None:
    """Publish in a process of its own, and kill that when `gh` has been started."""
    script = (
        "import anyio; from pathlib import Path; from hurlicane_mcp.engine.publishing import *\n"
        f"wanted = Publication(Path({str(place.folder)!r}), {BRANCH!r}, 'main', "
        "Publish.PULL_REQUEST, 'A', 'B')\n"
        f"anyio.run(Publisher({gh.program!r}).publish, wanted)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    hanging = gh.wait_until_hanging()
    process.kill()
    process.wait()
    os.kill(hanging, signal.SIGKILL)


async def test_title_and_body_fit_into_what_github_takes(
    place: Place, publisher: Publisher, gh: StubGh
) -> None:
    place.remote()
    place.begin(BRANCH)
    wanted = wish(place, Publish.PULL_REQUEST)
    await publisher.publish(replace(wanted, title=f"--web\n{'x' * 300}", body="ü" * 90_000))
    (pull,) = gh.pulls
    assert pull.title.startswith("--web xxx")
    assert len(pull.title) == 250
    assert len(pull.body) == 60_000
    assert pull.body.endswith("ü\n\n[cut]")


async def test_a_title_of_nothing_is_the_branch(
    place: Place, publisher: Publisher, gh: StubGh
) -> None:
    place.remote()
    place.begin(BRANCH)
    await publisher.publish(replace(wish(place, Publish.PULL_REQUEST), title=" \n", body=""))
    assert gh.pulls[0].title == BRANCH


# conflicts -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [Publish.BRANCH, Publish.PULL_REQUEST])
async def test_conflicts_with_the_base_are_in_the_answer_and_the_pull_request(
    place: Place, publisher: Publisher, gh: StubGh, mode: Publish
) -> None:
    bare = place.remote()
    place.begin(BRANCH, README_md="ours\n", fine_txt="fine\n")
    git(place.folder, "checkout", "--quiet", "main")
    # The base has moved on at the remote only: what is here is old.
    pushed_by_others(place, bare, "main", README_md="theirs\n")
    made = await publisher.publish(wish(place, mode))
    assert made.pushed
    assert made.conflicts == ("README.md",)
    assert made.note.endswith("It conflicts with main in README.md.")
    if mode is Publish.PULL_REQUEST:
        assert gh.pulls[0].body == (
            "What was done.\n\n## Conflicts with `main`\n\n- `` README.md ``\n"
        )


async def test_without_a_remote_conflicts_with_the_local_base_are_told(
    place: Place, publisher: Publisher
) -> None:
    place.begin(BRANCH, **{f"f{n}_txt": "ours\n" for n in range(5)})
    git(place.folder, "checkout", "--quiet", "main")
    place.commit("Theirs", **{f"f{n}_txt": "theirs\n" for n in range(5)})
    made = await publisher.publish(wish(place, Publish.BRANCH))
    assert made.conflicts == tuple(f"f{n}.txt" for n in range(5))
    assert "conflicts with main in f0.txt, f1.txt, f2.txt and 2 more." in made.note


async def test_a_base_that_is_ahead_is_fine(place: Place, publisher: Publisher) -> None:
    bare = place.remote()
    place.begin(BRANCH)
    git(place.folder, "checkout", "--quiet", "main")
    pushed_by_others(place, bare, "main", else_txt="x\n")
    made = await publisher.publish(wish(place, Publish.BRANCH))
    assert (made.conflicts, made.note) == ((), f"{BRANCH} is pushed to origin.")


async def test_what_cannot_be_tried_is_said_and_published_all_the_same(
    place: Place, publisher: Publisher
) -> None:
    place.remote()
    git(place.folder, "checkout", "--quiet", "--orphan", BRANCH)
    place.commit("Alone")
    made = await publisher.publish(wish(place, Publish.BRANCH))
    assert made.pushed
    assert "could not be tried: refusing to merge unrelated histories." in made.note
    other = await publisher.publish(wish(place, Publish.BRANCH, "gone"))
    assert other.note.endswith("Whether it merges is not known: there is no gone here or there.")


# forks -----------------------------------------------------------------------------------


async def test_from_a_fork_the_pull_request_goes_to_where_the_base_lives(
    place: Place, publisher: Publisher, gh: StubGh, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream, fork = place.remote("acme"), place.remote("me")
    hosted(place, monkeypatch)
    for owner in ("acme", "me"):
        git(place.folder, "remote", "set-url", owner, f"git@github.com:{owner}/thing.git")
    git(place.folder, "config", "branch.main.remote", "acme")
    git(place.folder, "config", "remote.pushDefault", "me")
    place.begin(BRANCH)
    wanted = wish(place, Publish.PULL_REQUEST)
    made = await publisher.publish(wanted)
    assert BRANCH in fork.branches()
    assert set(upstream.branches()) == {"main"}
    (pull,) = gh.pulls
    assert (pull.owner, pull.repo, pull.head) == ("me", "acme/thing", BRANCH)
    assert gh.calls[1][:8] == (
        *("pr", "create", "--repo", "github.com/acme/thing"),
        *("--base", "main", "--head", f"me:{BRANCH}"),
    )
    again = await publisher.publish(wanted)
    assert (made.url, again.url) == (pull.url, pull.url)
    assert gh.pulls == (pull,)


def hosted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ssh lead to the bare repositories: `OWNER/thing.git` is `OWNER.git`."""
    ssh = place.beside / "ssh"
    ssh.write_text(
        "#!/bin/sh\nfor last; do :; done\n"
        f'cd {place.beside} && eval "$(echo "$last" | sed \'s,/thing.git,.git,\')"\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh))
    monkeypatch.setenv("GIT_SSH_VARIANT", "simple")

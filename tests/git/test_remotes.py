"""Where branches go, what is there, and what a push says when it is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hurlicane_mcp.errors import GitFailed
from hurlicane_mcp.git import remotes
from hurlicane_mcp.git.remotes import Remote, Route, There
from tests.git.places import Place, git, new_place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return new_place(tmp_path)


@pytest.mark.parametrize(
    ("address", "slug"),
    [
        ("https://github.com/acme/thing.git", "github.com/acme/thing"),
        ("https://someone:secret@github.com/acme/thing", "github.com/acme/thing"),
        ("git@github.com:acme/thing.git", "github.com/acme/thing"),
        ("ssh://git@ssh.github.com:443/acme/thing.git/", "github.com/acme/thing"),
        ("ssh://git@git.example.org:2222/acme/thing.git", "git.example.org/acme/thing"),
        ("git@work:acme/thing.git", None),
        ("https://github.com/acme", None),
        ("https://gitlab.com/a/b/c.git", None),
        ("https://[::1/acme/thing", None),
        ("/srv/git/thing.git", None),
        ("../thing.git", None),
        ("file:///srv/acme/thing.git", None),
        ("", None),
    ],
)
def test_an_address_is_read_as_a_repository_only_if_it_names_one(
    address: str, slug: str | None
) -> None:
    assert remotes.slug_of(address) == slug


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to 'https://me:secret@host/x'", "to 'https://host/x'"),
        ("https://secret@host/x", "https://host/x"),
        ("https://me:p@ss@host/x y@z", "https://host/x y@z"),
        ("http://a:b@c/ and ssh://d:e@f/", "http://c/ and ssh://f/"),
        ("https://host/x?private_token=secret&y=1", "https://host/x?private_token=…&y=1"),
        ("mail me@host", "mail me@host"),
        ("https://host/@scope/x", "https://host/@scope/x"),
    ],
)
def test_credentials_are_taken_out_of_addresses(text: str, shown: str) -> None:
    assert remotes.without_credentials(text) == shown


@given(st.text(alphabet="abc:@%!s3cret", min_size=1, max_size=20), st.text(max_size=20))
def test_no_password_is_left_whatever_it_looks_like(password: str, around: str) -> None:
    told = remotes.without_credentials(f"{around} https://user:{password}@host/path")
    assert told.endswith("https://host/path")


def test_without_a_remote_there_is_no_route(place: Place) -> None:
    why = "The repository has no remote; `git remote add origin ADDRESS` makes one."
    assert remotes.route(place.folder, "main") == why


def names(route: Route | str) -> tuple[str, str]:
    assert isinstance(route, Route)
    return route.push.name, route.home.name


def test_the_only_remote_is_taken_whatever_its_name(place: Place) -> None:
    place.remote("upstream")
    assert names(remotes.route(place.folder, "main")) == ("upstream", "upstream")
    assert names(remotes.route(place.folder, None)) == ("upstream", "upstream")


def test_the_more_particular_wish_wins(place: Place) -> None:
    for name in ("one", "two"):
        place.remote(name)
    open_ = remotes.route(place.folder, "main")
    assert isinstance(open_, str)
    assert "one, two" in open_
    assert "remote.pushDefault" in open_
    place.remote("origin")
    assert names(remotes.route(place.folder, "main")) == ("origin", "origin")
    git(place.folder, "config", "branch.main.remote", "one")
    assert names(remotes.route(place.folder, "main")) == ("one", "one")
    git(place.folder, "config", "remote.pushDefault", "two")
    assert names(remotes.route(place.folder, "main")) == ("two", "one")
    git(place.folder, "config", "branch.main.pushRemote", "origin")
    assert names(remotes.route(place.folder, "main")) == ("origin", "one")


@pytest.mark.parametrize("value", [".", "https://github.com/acme/thing", "gone", "-x"])
def test_a_wish_that_names_no_remote_is_passed_over(place: Place, value: str) -> None:
    place.remote()
    git(place.folder, "config", "branch.main.remote", value)
    assert names(remotes.route(place.folder, "main")) == ("origin", "origin")


def test_what_gh_was_told_is_where_pull_requests_go(place: Place) -> None:
    git(place.folder, "remote", "add", "origin", "git@github.com:me/thing.git")
    git(place.folder, "config", "remote.origin.gh-resolved", "acme/thing")
    assert remotes.route(place.folder, "main") == Route(
        Remote("origin", "github.com/me/thing"), Remote("origin", "github.com/acme/thing"), True
    )
    git(place.folder, "config", "remote.origin.gh-resolved", "base")
    own = Remote("origin", "github.com/me/thing")
    assert remotes.route(place.folder, "main") == Route(own, own, True)


def test_a_look_tells_both_branches_and_the_default_one(place: Place) -> None:
    place.remote()
    origin = Remote("origin", None)
    main = place.sha("main")
    assert remotes.look(place.folder, origin, "work", "main") == There(None, main, "main")
    sha = place.begin("work")
    git(place.folder, "push", "--quiet", "origin", "work", "work:x/refs/heads/work")
    assert remotes.look(place.folder, origin, "work", None) == There(sha, None, "main")


@pytest.mark.parametrize(
    "branch", ["hurlicane/grün-🌀", "a'b\"c", "$(touch${IFS}stolen)", "+x", "a=b"]
)
def test_branches_with_odd_names_arrive(place: Place, branch: str) -> None:
    bare = place.remote()
    git(place.folder, "branch", branch)
    remotes.push(place.folder, Remote("origin", None), branch)
    assert branch in bare.branches()
    there = remotes.look(place.folder, Remote("origin", None), branch, None)
    assert there.branch == place.sha()
    assert not list(place.beside.rglob("stolen"))


def test_only_the_one_branch_is_pushed_whatever_the_user_has_set(place: Place) -> None:
    bare = place.remote()
    git(place.folder, "config", "push.followTags", "true")
    git(place.folder, "config", "remote.origin.push", "refs/heads/*:refs/heads/*")
    git(place.folder, "branch", "private")
    place.begin("work")
    git(place.folder, "tag", "--annotate", "--message", "v1", "v1")
    remotes.push(place.folder, Remote("origin", None), "work")
    assert set(bare.branches()) == {"main", "work"}


def test_a_remote_that_is_gone_is_an_error_without_its_password(place: Place) -> None:
    git(place.folder, "remote", "add", "origin", "http://me:secret@127.0.0.1:9/x.git")
    with pytest.raises(GitFailed) as caught:
        remotes.look(place.folder, Remote("origin", None), "work", None)
    assert "127.0.0.1" in str(caught.value)
    assert "secret" not in str(caught.value)
    place.begin("work")
    with pytest.raises(GitFailed) as caught:
        remotes.push(place.folder, Remote("origin", None), "work")
    assert "secret" not in str(caught.value)


def test_a_remote_folder_that_is_gone_is_named(place: Place) -> None:
    git(place.folder, "remote", "add", "origin", "/nowhere/x.git")
    with pytest.raises(GitFailed, match=r"/nowhere/x\.git"):
        remotes.look(place.folder, Remote("origin", None), "work", None)


def test_commits_are_brought_without_changing_a_ref(place: Place) -> None:
    bare = place.remote()
    other = place.clone("other", bare)
    sha = other.commit("Theirs", theirs_txt="x\n")
    git(other.folder, "push", "--quiet")
    before = place.branches()
    assert remotes.bring(place.folder, Remote("origin", None), "main")
    assert git(place.folder, "cat-file", "-t", sha) == "commit"
    assert place.branches() == before
    assert not (place.folder / ".git" / "FETCH_HEAD").exists()
    assert not remotes.bring(place.folder, Remote("origin", None), "gone")

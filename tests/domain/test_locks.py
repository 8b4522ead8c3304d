"""The rules of file locks: what collides, who is next, whose locks are shared."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hurlicane_mcp.domain.locks import (
    Lock,
    Request,
    Table,
    allies,
    check_lease,
    check_paths,
    collide,
    covers,
    grants,
    may_edit,
)
from hurlicane_mcp.errors import Invalid
from tests.fakes import BEGINNING

PATHS = st.sampled_from(["/r", "/r/a", "/r/a/x", "/r/a/y", "/r/ab", "/r/b", "/r/b/x/z"])
JOBS = st.sampled_from(["one", "two", "three", "four"])


def request(number: int, job: str, *paths: str, **more: object) -> Request:
    values: dict[str, object] = {"allies": frozenset({job}), **more}
    return Request(number, job, paths, **values)  # pyright: ignore[reportArgumentType]


def granted(locks: list[Lock], *requests: Request) -> list[int]:
    return [one.number for one in grants(locks, requests, BEGINNING)[0]]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("/r/a", "/r/a", True),
        ("/r/a", "/r/a/x", True),
        ("/r/a", "/r", True),
        ("/r/a", "/r/ab", False),
        ("/r/a/x", "/r/a/y", False),
    ],
)
def test_paths_collide_if_one_is_the_other_or_above_it(
    one: str, other: str, expected: bool
) -> None:
    assert (collide(one, other), collide(other, one)) == (expected, expected)


def test_a_folder_covers_what_is_below_it_and_not_the_other_way_round() -> None:
    assert covers("/r/a", "/r/a/x/y")
    assert not covers("/r/a/x", "/r/a")


def test_a_request_gets_all_of_its_paths_or_none() -> None:
    held = [Lock("/r/b", "other")]
    assert granted(held, request(1, "one", "/r/a", "/r/b")) == []
    assert granted(held, request(1, "one", "/r/a", "/r/c")) == [1]


def test_who_comes_later_waits_behind_who_came_first_even_for_free_paths() -> None:
    held = [Lock("/r/b", "other")]
    first = request(1, "one", "/r/a", "/r/b")
    assert granted(held, first, request(2, "two", "/r/a/x"), request(3, "three", "/r/c")) == [3]


def test_a_place_that_is_kept_is_granted_to_nobody_and_passed_by_nobody() -> None:
    left = request(1, "one", "/r/a", is_left=True)
    assert granted([], left, request(2, "two", "/r/a"), request(3, "one", "/r/b")) == [3]


def test_what_a_job_holds_is_renewed_however_many_wait_for_it() -> None:
    held = [Lock("/r/a", "one")]
    assert granted(held, request(1, "two", "/r/a"), request(2, "one", "/r/a/x")) == [2]


def test_an_expired_lock_keeps_nobody_out() -> None:
    held = [Lock("/r/a", "other", until=BEGINNING)]
    assert granted(held, request(1, "one", "/r/a")) == [1]


def test_a_descendant_shares_the_locks_of_those_who_wait_for_it() -> None:
    waits = {"parent": frozenset({"child"}), "root": frozenset({"parent"})}
    assert allies("child", ["parent", "root"], waits) == {"child", "parent", "root"}
    # Who does not wait, works: it and what it has started might write at the same time.
    assert allies("child", ["parent", "root"], {"root": frozenset({"parent"})}) == {"child"}
    assert allies("child", ["parent", "root"], {"root": frozenset({"child"})}) == {"child", "root"}


def test_an_ally_does_not_wait_behind_who_waits_for_the_shared_lock() -> None:
    held = [Lock("/r/a", "parent")]
    child = request(2, "child", "/r/a/x", allies=frozenset({"child", "parent"}))
    assert granted(held, request(1, "stranger", "/r/a"), child) == [2]


def test_a_sibling_that_shares_the_same_lock_is_not_passed_by() -> None:
    held = [Lock("/r/a", "parent"), Lock("/r/z", "stranger")]
    one = request(1, "one", "/r/a/x", "/r/z", allies=frozenset({"one", "parent"}))
    two = request(2, "two", "/r/a/x", allies=frozenset({"two", "parent"}))
    assert granted(held, one, two) == []


def test_an_edit_needs_a_lock_on_the_file_or_above_it_that_nobody_contests() -> None:
    child = request(0, "child", allies=frozenset({"child", "parent"}))
    held = [Lock("/r/a", "parent"), Lock("/r/a/y", "sibling")]
    assert may_edit("/r/a/x", child, held, BEGINNING)
    assert not may_edit("/r/a/y", child, held, BEGINNING)
    assert not may_edit("/r/b", child, held, BEGINNING)


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        ([], "1 to 200 files or folders, not 0"),
        (["x"] * 201, "not 201"),
        (["a", " "], "empty path"),
        (["a\0b"], r"U\+0000"),
        (["x" * 4097], "longer than 4,096 bytes"),
    ],
)
def test_paths_that_cannot_be_meant_are_refused(paths: list[str], told: str) -> None:
    with pytest.raises(Invalid, match=told):
        check_paths(paths)


def test_a_lease_has_bounds() -> None:
    for seconds in (59, 3601):
        with pytest.raises(Invalid, match="`ttl_s` must be from 60 to 3600"):
            check_lease(timedelta(seconds=seconds), "")
    with pytest.raises(Invalid, match="reason"):
        check_lease(timedelta(minutes=1), "x" * 1001)


@given(
    st.lists(st.tuples(JOBS, PATHS), max_size=6),
    st.lists(st.tuples(JOBS, st.sets(PATHS, min_size=1, max_size=3)), max_size=6),
)
def test_what_is_granted_is_what_comparing_everything_with_everything_says(
    locks: list[tuple[str, str]], wanted: list[tuple[str, set[str]]]
) -> None:
    held = [Lock(path, job) for job, path in locks]
    requests = [request(number, job, *paths) for number, (job, paths) in enumerate(wanted)]
    claims, expected = [(lock.path, lock.job_id, True) for lock in held], list[int]()
    for one in requests:
        in_the_way = [
            (path, job)
            for path in one.paths
            for claimed, job, is_lock in claims
            if job != one.job_id
            and collide(path, claimed)
            # What it holds already is its own: who waits for that cannot be before it.
            and (
                is_lock
                or not any(
                    is_held and owner == one.job_id and covers(own, path)
                    for own, owner, is_held in claims
                )
            )
        ]
        if not in_the_way:
            expected.append(one.number)
        claims += [(path, one.job_id, not in_the_way) for path in one.paths]
    assert granted(held, *requests) == expected


@given(st.lists(PATHS, max_size=6), PATHS)
def test_a_table_finds_what_collides(locks: list[str], path: str) -> None:
    table = Table((Lock(one, "other") for one in locks), BEGINNING)
    assert table.is_held(path) == any(collide(one, path) for one in locks)

"""How completion checks are written, and how they are not."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hurlicane_mcp.domain.checks import (
    MAX_CHECKS,
    WORDS,
    Check,
    CheckKind,
    check_in_words,
    longest_run_s,
    parse_checks,
)
from hurlicane_mcp.domain.jobs import JobSpec, check_spec
from hurlicane_mcp.errors import Invalid

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
PROGRAMS = TEXTS.filter(str.strip)
ARGUMENTS: st.SearchStrategy[Any] = st.tuples(PROGRAMS, st.lists(TEXTS, max_size=4)).map(
    lambda words: [words[0], *words[1]]
)
COMMAND: dict[str, st.SearchStrategy[Any]] = {"command": PROGRAMS | ARGUMENTS}
LIMIT: dict[str, st.SearchStrategy[Any]] = {"time_limit_s": st.integers(1, 3600)}
WRITTEN: st.SearchStrategy[Any] = st.sampled_from(WORDS) | st.fixed_dictionaries(
    COMMAND, optional=LIMIT
)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats() | TEXTS, st.lists, max_leaves=6
)


#: What nobody may write, and what is said about it.
WRONG: tuple[tuple[Any, str], ...] = (
    ("clean_tree", "must be a list"),
    ({"command": "x"}, "must be a list"),
    (["clean_tree"] * 11, "11 entries, 10 are allowed"),
    (["clean-tree"], "'clean-tree', which is no check"),
    (["command"], "which is no check"),
    ([7], "neither a word nor a command"),
    ([{"commands": "x"}], "unknown field 'commands'"),
    ([{"command": "x", "limit": 5}], "unknown field 'limit'"),
    ([{"time_limit_s": 5}], "has no `command`"),
    ([{"command": ""}], "is empty"),
    ([{"command": []}], "is empty"),
    ([{"command": [" ", "x"]}], "is empty"),
    ([{"command": ["make", 7]}], "must be a text"),
    ([{"command": 7}], "a list of arguments or a string"),
    ([{"command": "x" * 8193}], "longer than 8,192 characters"),
    ([{"command": ["a", "b\0"]}], "U\\+0000"),
    ([{"command": "x", "time_limit_s": 0}], "1 to 3600 whole seconds, not 0"),
    ([{"command": "x", "time_limit_s": 3601}], "not 3601"),
    ([{"command": "x", "time_limit_s": 1.5}], "not 1.5"),
    ([{"command": "x", "time_limit_s": True}], "not True"),
    ([{"command": "x", "time_limit_s": "5"}], "not '5'"),
    (["clean_tree", {"command": "x", "time_limit_s": float("nan")}], "entry 2: .*not nan"),
)


@given(st.lists(WRITTEN, max_size=MAX_CHECKS))
def test_what_is_stored_is_read_back_as_it_was(written: list[Any]) -> None:
    checks = parse_checks(written)
    stored = json.loads(json.dumps([check.stored() for check in checks]))
    assert parse_checks(stored) == checks
    assert parse_checks([*stored, *stored][:MAX_CHECKS]) == checks


@given(ANYTHING)
def test_whatever_is_written_is_read_or_refused_in_words(value: Any) -> None:
    error = ""
    try:
        parse_checks([value])
    except Invalid as refused:
        error = str(refused)
    assert (value in WORDS) == (not error)
    assert value in WORDS or "`checks` entry 1" in error


def test_the_forms_of_a_check() -> None:
    words = ["clean_tree", "diff_not_empty", "no_error_in_output"]
    commands = [{"command": ["make", "test"], "time_limit_s": 300}, {"command": "make | tail"}]
    *kinds, one, other = parse_checks([*words, *commands])
    assert [check.kind for check in kinds] == words
    assert one == Check(CheckKind.COMMAND, ("make", "test"), 300)
    assert other == Check(CheckKind.COMMAND, "make | tail", 600)
    assert (one.name, other.name) == ("`make test`", "`make | tail`")
    assert one.demand == "`make test` exits with 0 within 300 s"
    assert kinds[0].demand.startswith("clean_tree: nothing is uncommitted")
    assert longest_run_s([*kinds, one, other]) == 3 * 60 + 300 + 600


def test_no_checks_are_written_in_two_ways_and_the_same_one_counts_once() -> None:
    assert parse_checks(None) == parse_checks([]) == ()
    assert len(parse_checks(["clean_tree", "clean_tree", {"command": "a"}, {"command": "a"}])) == 2


def test_a_long_command_has_a_short_name() -> None:
    (check,) = parse_checks([{"command": "x\n" * 500}])
    assert len(check.name) == 82
    assert check.name.endswith("…`")
    assert "\n" not in check.name


@pytest.mark.parametrize(("value", "why"), WRONG)
def test_a_wrong_check_is_refused_with_what_is_wrong(value: object, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        parse_checks(value)


def test_a_word_of_a_person_is_a_kind_or_a_command_for_the_shell() -> None:
    typed = [check_in_words(word) for word in ("clean_tree", "make test", "command")]
    assert typed == ["clean_tree", {"command": "make test"}, {"command": "command"}]
    assert len(parse_checks(typed)) == 3


@pytest.mark.parametrize("tries", [0, 11])
def test_the_number_of_tries_has_bounds(tries: int) -> None:
    with pytest.raises(Invalid, match=f"`check_tries` must be from 1 to 10, not {tries}"):
        check_spec(JobSpec("Do it.", check_tries=tries))

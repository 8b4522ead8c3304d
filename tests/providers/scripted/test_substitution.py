"""References in a script's texts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hurlicane_mcp.errors import Invalid
from hurlicane_mcp.providers.scripted_agent.substitution import fill, fill_text

VARIABLES: dict[str, object] = {
    "a": {"job_id": "job_1", "jobs": [{"result": "r", "ok": True}], "n": 7},
    "none": None,
}
ENV = {"HOME": "/home/dev", "HURLICANE_TOKEN": "secret"}
PIECES = ("$", "{", "}", "a", ".job_id", "${a.n}", "$${", "env.HOME", ".", " ", "0")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${a.job_id}", "job_1"),
        ("${a.n}", 7),
        ("n = ${a.n}", "n = 7"),
        ("${a.jobs.0.result}", "r"),
        ("${a.jobs}", [{"result": "r", "ok": True}]),
        ("jobs: ${a.jobs}", 'jobs: [{"result": "r", "ok": true}]'),
        ("${none}", None),
        ("${env.HOME}/${a.job_id}", "/home/dev/job_1"),
        ("$${a.n}", "${a.n}"),
        ("$$${a.n}", "$${a.n}"),
        ("$5 {a} $", "$5 {a} $"),
    ],
)
def test_a_reference_becomes_its_value(text: str, value: object) -> None:
    assert fill(text, VARIABLES, ENV) == value


def test_references_are_found_at_any_depth() -> None:
    filled = fill({"ids": ["${a.job_id}", {"n": "${a.n}"}], "k": 1}, VARIABLES, ENV)

    assert filled == {"ids": ["job_1", {"n": 7}], "k": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${b.x}", r"There is no variable 'b' \(known: a, none\). Write \$\$\{b.x\} for the text"),
        ("${a.x}", r"there is no 'x' in \['job_id', 'jobs', 'n'\]"),
        ("${a.jobs.1}", r"there is no '1' in a list of 1"),
        ("${a.jobs.first}", r"there is no 'first' in a list of 1"),
        ("${a.n.x}", r"which has no parts"),
        ("${env.NOPE}", r"The environment has no 'NOPE'"),
        ("${env.HURLICANE_TOKEN}", r"is a secret"),
        ("${}", r"There is no variable ''"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        fill(text, VARIABLES, ENV)


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_any_text_is_filled_or_refused(text: str) -> None:
    try:
        assert "secret" not in fill_text(text, VARIABLES, ENV)
    except Invalid:
        assert "${" in text


@settings(deadline=None)
@given(st.text())
def test_an_escaped_text_comes_through_unchanged(text: str) -> None:
    assert fill_text(text.replace("${", "$${"), {}, {}) == text

"""What may be asked for when a job is created."""

from dataclasses import replace
from typing import Any

import pytest

from hurlicane_mcp.domain.jobs import MAX_DESCRIPTION_BYTES, JobSpec, check_spec, title_of
from hurlicane_mcp.errors import Invalid

GOOD = JobSpec("Mend the roof.\nAll of it.")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({"description": " \n"}, "`description` is empty", id="empty"),
        pytest.param(
            {"description": "ä" * (MAX_DESCRIPTION_BYTES // 2 + 1)}, "262,146 bytes", id="too long"
        ),
        pytest.param({"title": "x" * 201}, "`title`", id="long title"),
        pytest.param({"priority": 11}, "from -10 to 10, not 11", id="priority"),
        pytest.param({"context": (("a", "b" * 70_000),)}, "`context`", id="context"),
        pytest.param({"depends_on": ("j",) * 201}, "`depends_on`", id="dependencies"),
        pytest.param({"idempotency_key": ""}, "`idempotency_key`", id="key"),
        pytest.param({"description": "a\0b"}, r"`description`.*U\+0000 at position 1", id="NUL"),
        pytest.param({"title": "\ud800"}, r"`title`.*U\+D800", id="surrogate"),
        pytest.param({"context": (("a", "\0"),)}, r"`context.*U\+0000", id="context NUL"),
    ],
)
def test_a_bad_spec_is_refused_with_field_and_limit(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        check_spec(replace(GOOD, **fields))


def test_the_largest_description_is_taken() -> None:
    check_spec(replace(GOOD, description="x" * MAX_DESCRIPTION_BYTES))


def test_a_title_is_made_of_the_first_line() -> None:
    assert title_of(GOOD) == "Mend the roof."
    assert title_of(replace(GOOD, title=" Roof ")) == "Roof"


def test_a_long_first_line_is_cut() -> None:
    assert title_of(JobSpec("x" * 500)) == "x" * 79 + "…"

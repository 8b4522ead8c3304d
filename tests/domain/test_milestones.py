"""Milestones: what counts as one in a plan, and how some are added to it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt  # comes with rich

from hurlicane_mcp.domain.milestones import MAX_TEXT, Milestone, clean, parse, with_milestones

PLAN = """\
# Plan

Some words about - [ ] nothing.

1. [x] **Read** the `__init__` of *all* modules
2) [ ] A group
   - [X] Its first part <!-- done by Ada -->
   * [ ] Its second_part and snake_case
\t+ [ ] Deeper, by a tab
- plain item
- [~] Half done
- [1] is a reference, [ ] in the middle is not a box
> - [ ] quoted

````markdown
- [ ] an example
```
- [ ] still in it
````
~~~~
```
- [ ] also an example
~~~
~~~~
<!-- - [ ] dropped
- [ ] dropped as well
--> - [ ] on the line of its end
- [ ] Support `<!--` in templates
- [ ]
- [x]not a box
"""


def texts(plan: str) -> list[str]:
    return [one.text for one in parse(plan).milestones]


def test_checkboxes_are_milestones_and_nothing_else_is() -> None:
    plan = parse(PLAN)

    assert plan.milestones == (
        Milestone("Read the `__init__` of all modules", done=True),
        Milestone("A group", done=False),
        Milestone("Its first part", done=True, depth=1),
        Milestone("Its second_part and snake_case", done=False, depth=1),
        Milestone("Deeper, by a tab", done=False, depth=2),
        Milestone("Half done", done=False),
        Milestone("Support `<!--` in templates", done=False),
    )
    assert (plan.total, plan.done) == (7, 2)


@pytest.mark.parametrize(
    ("plan", "first"),
    [
        ("- [x] a\n- [ ] b\n- [ ] c", "b"),
        ("- [ ] group\n  - [x] a\n  - [ ] b\n    - [ ] c", "c"),
        ("- [ ] group\n  - [x] a\n  - [x] b\n- [ ] next", "group"),
        ("- [x] group\n  - [ ] forgotten\n- [ ] next", "forgotten"),
        ("- [x] a", None),
        ("no boxes", None),
        ("", None),
    ],
)
def test_the_first_open_milestone_has_nothing_open_below_it(plan: str, first: str | None) -> None:
    found = parse(plan).first_open

    assert (found and found.text) == first


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("**Bold** and __bold__", "Bold and bold"),
        ("*a* _b_ ~~c~~ ***d***", "a b c d"),
        ("**all of it: `x_y_z`**", "all of it: `x_y_z`"),
        ("`**kept**` and ``a ` *b*``", "`**kept**` and ``a ` *b*``"),
        ("2 * 3 * 4, **/*.py, a_b_c, __init__.py", "2 * 3 * 4, **/*.py, a_b_c, __init__.py"),
        ("a <!-- b --> c", "a c"),
        ("<!-- only -->", "<!-- only -->"),
        ("  many \t spaces\nand lines ", "many spaces and lines"),
        ("x" * 1000, "x" * (MAX_TEXT - 1) + "…"),
    ],
)
def test_a_text_is_cleaned_of_emphasis(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param("```\n- [ ] code\n", id="never closed"),
        pytest.param("````md\n```\n- [ ] code\n```\n````", id="longer than what it holds"),
        pytest.param("- item\n\n  ```\n  - [ ] code\n  ```", id="in an item"),
        pytest.param("1. ~~~\n   - [ ] code\n   ~~~", id="right behind a marker"),
        pytest.param("- item\n\ntext\n\n  ```\n- [ ] code\n  ```", id="behind a list"),
        pytest.param("\t```\n\t- [ ] code", id="by a tab"),
        pytest.param("<!--\n- [ ] comment", id="a comment never closed"),
        pytest.param("- <!--\n  - [ ] comment -->", id="a comment in an item"),
        pytest.param("- ```\n  - [ ] code", id="never closed, in an item"),
        pytest.param("- item\n<!-- x -->\n  ```\n- [ ] code", id="behind a comment behind a list"),
        pytest.param("- ```\n> quote\n  ```\n- [ ] code", id="behind a quotation behind a list"),
    ],
)
def test_code_and_comments_hold_no_milestones(plan: str) -> None:
    assert parse(plan).total == 0
    assert texts(with_milestones(plan, ["new"])) == ["new"]


def test_code_in_an_item_ends_with_the_item() -> None:
    assert texts("- [ ] a\n  ```\n  code, never closed\n- [ ] b") == ["a", "b"]


def test_a_comment_in_one_line_hides_that_line_only() -> None:
    assert texts("<!-- - [ ] a -->\n- [ ] b") == ["b"]


def test_inline_code_of_three_backticks_begins_no_block() -> None:
    assert texts("```inline``` code\n- [ ] a") == ["a"]


def test_new_milestones_go_below_a_heading_of_their_own() -> None:
    assert with_milestones("# Plan\n\n- [x] a", ["Fix: b", "Fix:  b\n", "", "Fix: c"]) == (
        "# Plan\n\n- [x] a\n\n## Fixes\n\n- [ ] Fix: b\n- [ ] Fix: c\n"
    )
    assert with_milestones("", ["b"]) == "## Fixes\n\n- [ ] b\n"


def test_the_heading_is_used_again_and_what_follows_it_stays() -> None:
    plan = "- [x] a\n\n## Fixes\n\n- [x] Fix: b\n  ```\n  how\n  ```\n\n## Notes\n- [ ] later\n"

    assert with_milestones(plan, ["Fix: c"]) == (
        "- [x] a\n\n## Fixes\n\n- [x] Fix: b\n  ```\n  how\n  ```\n- [ ] Fix: c\n\n"
        "## Notes\n- [ ] later\n"
    )


def test_one_that_is_open_is_not_added_again_but_one_that_was_checked_is() -> None:
    plan = "- [ ] Fix: *a*\n- [x] Fix: b\n"

    assert with_milestones(plan, ["Fix: a"]) == plan
    assert texts(with_milestones(plan, ["Fix: **a**", "Fix: b"])) == ["Fix: a", "Fix: b", "Fix: b"]


@dataclass
class Rendered:
    """A plan in Markdown, and the milestones that it was made of."""

    markdown: str
    milestones: Sequence[Milestone]


WORDS = st.lists(
    st.text("abcXYZ019.,:;()", min_size=1, max_size=8).filter(lambda word: word.strip()),
    min_size=1,
    max_size=5,
).map(" ".join)
NOISE = (
    "Words.",
    "## A heading",
    "```\n- [ ] code\n```",
    "~~~~md\n- [x] code\n~~~\n~~~~",
    "<!-- - [ ] comment\n- [x] comment\n-->",
    "- plain item",
    "> - [ ] quoted",
    "text - [ ] text",
    "",
)


@st.composite
def plans(draw: st.DrawFn) -> Rendered:
    """Any list of milestones, each at most one deeper than the one before, with noise between."""
    lines: list[str] = []
    found: list[Milestone] = []
    step = draw(st.sampled_from(("  ", "    ", "\t")))
    depth = -1
    for _ in range(draw(st.integers(0, 12))):
        if draw(st.booleans()):
            lines.append(draw(st.sampled_from(NOISE)))
            depth = -1
        depth = draw(st.integers(0, depth + 1))
        marker = draw(st.sampled_from(("-", "*", "+", "1.", "23)")))
        box = draw(st.sampled_from((" ", "x", "X")))
        words = draw(WORDS)
        around = draw(st.sampled_from(("", "**", "*", "_", "~~")))
        lines.append(f"{step * depth}{marker} [{box}] {around}{words}{around}")
        found.append(Milestone(words, box != " ", depth))
    ending = draw(st.sampled_from(("\n", "\r\n")))
    return Rendered("\n".join(lines).replace("\n", ending), found)


@given(plans())
def test_the_milestones_of_a_rendered_plan_come_back(plan: Rendered) -> None:
    parsed = parse(plan.markdown)

    assert parsed.milestones == tuple(plan.milestones)
    assert parsed.total == len(plan.milestones)
    assert parsed.done == sum(one.done for one in plan.milestones)


LINES = st.sampled_from(
    (
        "- [ ] a", "- [x] a", "* [ ] a", "  - [ ] a", "- item", "text", "", "# H", "```", "~~~",
        "  ```", "<!--", "-->", "<!-- x -->", "  text", "  <!--", "- ```", "> quote",
    )
)  # fmt: skip


@given(st.lists(LINES, max_size=8).map("\n".join))
def test_where_indentation_is_as_it_should_be_a_markdown_parser_finds_the_same(text: str) -> None:
    tokens = MarkdownIt().parse(text)
    items = [n for n, token in enumerate(tokens) if token.type == "list_item_open"]
    firsts = [tokens[n + 2].content for n in items if tokens[n + 2].type == "inline"]

    assert parse(text).total == sum(re.match(r"\[[ x]\] a", one) is not None for one in firsts)


MARKDOWN = st.lists(
    st.sampled_from(
        (
            "\n", "\n\n", "\r", " ", "  ", "\t", "- ", "* ", "+ ", "1. ", "[ ] ", "[x] ", "- [ ] ",
            "```", "````", "~~~", "`", "<!--", "-->", "# ", "## Fixes", "## Fixes\n", "**", "_",
            "a", "Fix: a", "> ", "\u2028", "\x00", "- [x] Fix: a\n", "- [ ] Fix: a\n",
        )
    ),
    max_size=30,
).map("".join)  # fmt: skip
NEW = st.lists(st.one_of(MARKDOWN, st.sampled_from(("Fix: a", "b", "**b**"))), max_size=4)


@given(st.one_of(st.text(), MARKDOWN))
def test_every_text_is_a_plan(text: str) -> None:
    plan = parse(text)

    assert 0 <= plan.done <= plan.total
    assert (plan.first_open is None) == (plan.done == plan.total)
    assert all(one.text and len(one.text) <= MAX_TEXT for one in plan.milestones)


@given(st.one_of(st.text(), MARKDOWN), NEW)
def test_exactly_what_is_missing_is_added_and_nothing_else_changes(
    plan: str, wanted: list[str]
) -> None:
    before = parse(plan).milestones
    after = with_milestones(plan, wanted)
    named = {clean(text) for text in wanted if text.strip()}
    missing = named - {one.text for one in before if not one.done}

    added = list(parse(after).milestones)
    for one in before:
        added.remove(one)
    assert {one.text for one in added} == missing
    assert len(added) == len(missing)
    assert all(not one.done and one.depth == 0 for one in added)
    assert with_milestones(after, wanted) == after
    assert _is_inserted(plan, after)


def _is_inserted(plan: str, after: str) -> bool:
    """Whether *after* is *plan* with something put in at one place."""
    more = len(after) - len(plan)
    places = range(len(plan) + 1)
    return any(after[:place] + after[place + more :] == plan for place in places)


def test_a_long_line_of_marks_is_read_at_once() -> None:
    """Cleaning is not linear in a text's length, which therefore is bounded."""
    for marks in ("*a ", "- ", "` `` ", "_a", "[ ] - ", "<!-- "):
        parse(f"- [ ] {marks * 80_000}\n{marks * 80_000}")
    line = "- [ ] " + re.escape("*a*_`") * 60 + "\n"
    parse(line * 500)

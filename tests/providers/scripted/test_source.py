"""How a script is found in a prompt, and how its notations are read."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hurlicane_mcp.errors import Invalid
from hurlicane_mcp.providers.scripted_agent.source import find, load, polite

HERE = Path()
NESTED = """
Lead:

  ````yaml script
  - call:
      name: create_job
      args:
        description: |
          ```script
          - say: child
          ```
  ````

```script
- say: the second block
```
"""


@pytest.mark.parametrize("info", ["script", "yaml script", "json script", "script  "])
@pytest.mark.parametrize("fence", ["```", "~~~~"])
def test_a_fenced_block_is_a_script(info: str, fence: str) -> None:
    prompt = f"Do this:\n{fence}{info}\n- say: hi\n{fence}\n! say no\n"

    assert find(prompt, HERE) == "- say: hi\n"
    assert find(prompt.replace("\n", "\r\n"), HERE) == "- say: hi\n"


def test_other_blocks_and_marks_are_no_script() -> None:
    prompt = (
        "```yaml\n- say: hi\n```\n![image](x.png)\n!important\n  ! say indented\nmy script: x\n"
    )

    assert find(prompt, HERE) is None


def test_a_script_may_hold_the_fenced_script_of_a_child() -> None:
    found = find(NESTED, HERE)

    assert found is not None
    assert load(found) == [
        {"call": {"name": "create_job",
                  "args": {"description": "```script\n- say: child\n```\n"}}}
    ]  # fmt: skip


def test_marked_lines_are_a_script() -> None:
    assert find("Job:\n! say one\ntext\n!  finish two\n", HERE) == "! say one\n!  finish two"


def test_a_file_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "my script.yaml").write_text("- hang\n")

    assert find("Follow it.\nscript: my script.yaml \n", tmp_path) == "- hang\n"
    with pytest.raises(Invalid, match=r"gone\.yaml cannot be read"):
        find("script: gone.yaml", tmp_path)


@pytest.mark.parametrize(
    ("prompt", "result"),
    [
        pytest.param("Rules.\n\n## Your job:\n\n  Mend it. \nNow.", "Mend it.", id="heading"),
        pytest.param("# Jobs\nMany.\n# Job job_1: Mend\nMend it.", "Mend it.", id="with a title"),
        pytest.param("\n\nMend ${x}.\nNow.", "Mend $${x}.", id="first line, taken literally"),
        pytest.param("  \n", "There was nothing to do.", id="empty"),
    ],
)
def test_the_polite_agent_knows_its_job(prompt: str, result: str) -> None:
    assert json.loads(polite(prompt))[1] == {"finish": result}


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("! call list_jobs", {"call": {"name": "list_jobs"}}),
        (
            '! call create_job {"description": "! say x\\n! hang"} as a on_error continue',
            {"call": {"name": "create_job", "args": {"description": "! say x\n! hang"},
                      "as": "a", "on_error": "continue"}},
        ),
        (
            '! call get_job {"job_id": "x"} expect_error not_found',
            {"call": {"name": "get_job", "args": {"job_id": "x"}, "expect_error": "not_found"}},
        ),
        ("! say it's done: yes", {"say": "it's done: yes"}),
        ('! say "two\\nlines"', {"say": "two\nlines"}),
        ("! finish", {"finish": ""}),
        ('! finish {"result": "x"}', {"finish": {"result": "x"}}),
        ("! run make 'two words'", {"run": ["make", "two words"]}),
        ('! run ["make"]', {"run": ["make"]}),
        ('! run {"argv": ["make"]}', {"run": {"argv": ["make"]}}),
        ('! edit a.txt "b c"', {"edit": {"path": "a.txt", "append": "b c\n"}}),
        ("! commit a.txt b c", {"commit": {"path": "a.txt", "append": "b\n", "message": "c"}}),
        ("! sleep 0.5", {"sleep": 0.5}),
        ("! crash SIGTERM", {"crash": "SIGTERM"}),
        ("! hang", {"hang": None}),
        ('! usage {"input": 1}', {"usage": {"input": 1}}),
    ],
)  # fmt: skip
def test_a_line_is_a_step(line: str, step: dict[str, object]) -> None:
    assert load(line) == {"steps": [step]}


def test_lines_can_set_what_a_mapping_would() -> None:
    assert load("! mode legacy\n! say a\n\n! on_resume\n! say b\n") == {
        "mode": "legacy",
        "steps": [{"say": "a"}],
        "on_resume": [{"say": "b"}],
    }


def test_yaml_dates_stay_the_texts_that_they_are() -> None:
    assert load("- say: 2026-01-01\n- {sleep: 1.5}") == [{"say": "2026-01-01"}, {"sleep": 1.5}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("- say: [", r"line 1: This is not YAML", id="yaml"),
        pytest.param("- say: hi\n- say: a: b", r"line 2: This is not YAML", id="second line"),
        pytest.param('[{"say": }\n', r"line \d: This is not YAML", id="json"),
        pytest.param("&a [*a", r"This is not YAML", id="itself"),
        pytest.param("- \x00", r"This is not YAML", id="control characters"),
        pytest.param("! say x\nhello", r"line 2: Every line", id="unmarked line"),
        pytest.param('! call x {"a": ', r"line 1: call: ", id="broken arguments"),
        pytest.param("! call x as", r"line 1: call: after the tool", id="half a pair"),
        pytest.param("! call x to y", r"line 1: call: after the tool", id="unknown word"),
        pytest.param("! edit a.txt", r"line 1: edit: it takes a path", id="edit without text"),
        pytest.param("! run 'a", r"line 1: run: No closing quotation", id="open quote"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        load(text)


@settings(deadline=None)
@given(st.text())
def test_every_prompt_has_a_script_or_none(prompt: str) -> None:
    found = find(prompt, HERE / "no-such-folder") if "script:" not in prompt else None
    assert found is None or isinstance(found, str)
    assert len(json.loads(polite(prompt))) == 2

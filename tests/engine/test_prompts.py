"""A user's folder replaces single templates; what cannot work there is refused at the start."""

from pathlib import Path

import pytest

from hurlicane_mcp.domain.workflows import Phase
from hurlicane_mcp.engine.prompts import Prompts
from hurlicane_mcp.engine.workflow_prompts import PhaseFacts, WorkflowPrompts
from hurlicane_mcp.errors import Invalid
from hurlicane_mcp.store.tables import JobRow

FACTS = PhaseFacts("wf_1", "Add x", "Add `x`.", Phase.VERIFY, 2, 10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "workflow").mkdir()
    return tmp_path


def of(folder: Path, phase: Phase) -> str:
    facts = PhaseFacts("wf_1", "Add x", "Add `x`.", phase, 2, 10, plan="- [ ] Add x")
    return WorkflowPrompts(Prompts.load(folder)).of(facts)


def test_a_template_of_the_folder_is_used_and_the_others_stay(folder: Path) -> None:
    (folder / "workflow/verify.md.j2").write_text("Try {{ task.text }} {{ plan.text }}\n")

    assert of(folder, Phase.VERIFY) == "Try Add `x`. - [ ] Add x\n"
    assert of(folder, Phase.REVIEW).startswith("Phase: review (cycle 2 of 10)\n")
    job = JobRow(title="Add x", description="Add it.")  # pyright: ignore[reportCallIssue]
    assert "> Add x\n" in Prompts.load(folder).for_classification(job)


def test_a_part_of_templates_can_be_replaced_for_all_of_them(folder: Path) -> None:
    (folder / "workflow/head.md.j2").write_text("Phase: {{ phase }}. Use tabs.\n")
    (folder / "workflow/repair.md.j2").write_text(
        '{% include "workflow/head.md.j2" %}\n{% include "own.md.j2" %}'
    )
    (folder / "own.md.j2").write_text("Mine.\n")

    assert of(folder, Phase.IMPLEMENT).startswith("Phase: implement. Use tabs.\n")
    assert of(folder, Phase.REPAIR) == "Phase: repair. Use tabs.\nMine.\n"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        pytest.param("wrong.md.j2", "x", r"no template of a name that is used", id="name"),
        pytest.param("job.txt", "x", r"no template of a name that is used", id="ending"),
        pytest.param("workflow/verify.md.j2", "a\n{% if %}", r"verify\.md\.j2, line 2", id="form"),
        pytest.param(
            "workflow/verify.md.j2",
            "{% if branch %}{{ plam }}{% endif %}",
            r"verify\.md\.j2 names plam; there is: base_branch, branch, checks",
            id="variable",
        ),
        pytest.param("classify.md.j2", "{{ plan }}", r"classify\.md\.j2 names plan", id="foreign"),
    ],
)
def test_a_template_that_can_never_work_is_refused_at_the_start(
    folder: Path, name: str, text: str, words: str
) -> None:
    (folder / name).write_text(text)

    with pytest.raises(Invalid, match=words):
        Prompts.load(folder)


def test_a_template_that_is_no_text_is_refused_at_the_start(folder: Path) -> None:
    (folder / "job.md.j2").write_bytes(b"\xff\xfe")

    with pytest.raises(Invalid, match=r"job\.md\.j2 cannot be read"):
        Prompts.load(folder)


def test_a_folder_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(Invalid, match="no template of a name that is used"):
        Prompts.load(folder / "gone")


@pytest.mark.parametrize("text", ["{{ plan.txt }}", "{{ cycle + phase }}", "{{ 1 / 0 }}"])
def test_a_template_that_fails_when_it_is_used_is_named(folder: Path, text: str) -> None:
    (folder / "workflow/verify.md.j2").write_text(text)
    prompts = WorkflowPrompts(Prompts.load(folder))

    with pytest.raises(Invalid, match=r"The prompt template workflow/verify\.md\.j2 fails: "):
        prompts.of(FACTS)

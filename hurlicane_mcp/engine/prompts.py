"""The words that agents get, from the templates in `prompts/`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hurlicane_mcp.engine.background import Background
from hurlicane_mcp.errors import Invalid
from hurlicane_mcp.store.tables import AttemptRow, JobRow

_PACKAGE = Path(__file__).parent.parent
#: Bytes of a description that a cheap model is shown to tell how hard the job is.
MAX_JUDGED = 8 * 1024


@dataclass(frozen=True, slots=True)
class Prompts:
    """Renders prompts. A template that names something unknown fails loudly."""

    environment: Environment

    @staticmethod
    def load(folder: Path | None = None) -> "Prompts":
        """The templates in *folder*, or those that came with the package.

        Raises:
            Invalid: the folder has no templates.
        """
        shipped = (_PACKAGE / "prompts", _PACKAGE.parent / "prompts")
        candidates = (folder,) if folder is not None else shipped
        found = next((one for one in candidates if (one / "job.md.j2").is_file()), None)
        if found is None:
            raise Invalid(f"There is no prompt template job.md.j2 in {candidates[0]}.")
        # Prompts are plain text for a model: HTML escaping would only distort them.
        environment = Environment(
            loader=FileSystemLoader(found),
            undefined=StrictUndefined,
            autoescape=False,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        return Prompts(environment)

    def for_attempt(
        self, job: JobRow, previous: AttemptRow | None, resumed: bool, background: Background
    ) -> str:
        """What the next attempt of *job* is told: the task, or why its session goes on."""
        facts: dict[str, Any] = {
            "job": job,
            "previous": previous,
            "children": background.children,
            "awaited": background.awaited,
            "diagnosis": background.diagnosis,
            "handover": background.handover,
            "messages": background.messages,
            "questions": background.questions,
        }
        name = "job"
        if resumed and previous is not None:
            name = f"resume_{previous.outcome}"
        return self.environment.get_template(f"{name}.md.j2").render(facts)

    def for_classification(self, job: JobRow) -> str:
        """The question how hard *job* is, with at most `MAX_JUDGED` bytes of its description."""
        description = job.description.encode()[:MAX_JUDGED].decode(errors="ignore")
        facts = {"title": job.title, "description": description}
        return self.environment.get_template("classify.md.j2").render(facts)

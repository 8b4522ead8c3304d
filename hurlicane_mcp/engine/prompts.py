"""The words that agents get, from the templates in `prompts/`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    TemplateSyntaxError,
    meta,
)

from hurlicane_mcp.domain.checks import parse_checks
from hurlicane_mcp.engine.background import Background
from hurlicane_mcp.errors import Invalid
from hurlicane_mcp.store.tables import AttemptRow, JobRow

_PACKAGE = Path(__file__).parent.parent
_SUFFIX = ".md.j2"
#: Bytes of a description that a cheap model is shown to tell how hard the job is.
MAX_JUDGED = 8 * 1024


@dataclass(frozen=True, slots=True)
class Prompts:
    """Renders prompts. A template that names something unknown fails loudly."""

    environment: Environment

    @staticmethod
    def load(folder: Path | None = None) -> "Prompts":
        """The templates that came with the package; those in *folder* instead, where it has some.

        Raises:
            Invalid: the folder has none of these templates, or one that can never be rendered.
        """
        candidates = (_PACKAGE / "prompts", _PACKAGE.parent / "prompts")
        shipped = next((one for one in candidates if (one / f"job{_SUFFIX}").is_file()), None)
        if shipped is None:
            raise Invalid(f"There is no prompt template job{_SUFFIX} in {candidates[0]}.")
        folders = (shipped,) if folder is None else (folder, shipped)
        # Prompts are plain text for a model: HTML escaping would only distort them.
        environment = Environment(
            loader=FileSystemLoader(folders),
            undefined=StrictUndefined,
            autoescape=False,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        if folder is not None:
            _check(environment, folder, shipped)
        return Prompts(environment)

    def render(self, name: str, names: Mapping[str, Any]) -> str:
        """The template *name* (without its ending) with *names* filled in.

        Raises:
            Invalid: it cannot be rendered; the message names the template and the reason.
        """
        try:
            return self.environment.get_template(f"{name}{_SUFFIX}").render(names)
        except Exception as error:  # whatever an expression in a template of the user's raises
            raise Invalid(f"The prompt template {name}{_SUFFIX} fails: {error}") from error

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
            "locks": background.locks,
            "checks": [check.demand for check in parse_checks(job.checks)],
        }
        name = "job"
        if resumed and previous is not None:
            name = f"resume_{previous.outcome}"
        return self.render(name, facts)

    def for_classification(self, job: JobRow) -> str:
        """The question how hard *job* is, with at most `MAX_JUDGED` bytes of its description."""
        description = job.description.encode()[:MAX_JUDGED].decode(errors="ignore")
        facts = {"title": job.title, "description": description}
        return self.render("classify", facts)


def _check(environment: Environment, folder: Path, shipped: Path) -> None:
    """Refuse now what would fail once a job is due."""
    names = [path.relative_to(folder) for path in sorted(folder.rglob(f"*{_SUFFIX}"))]
    if not any((shipped / name).is_file() for name in names):
        example = f"job{_SUFFIX} or workflow/implement{_SUFFIX}"
        raise Invalid(f"{folder} has no template of a name that is used, such as {example}.")
    for name in names:
        known: set[str] = set()
        for other in (shipped / name).parent.glob(f"*{_SUFFIX}"):
            known |= _named(environment, other)
        unknown = _named(environment, folder / name) - known
        if unknown and known:
            raise Invalid(
                f"The prompt template {folder / name} names {', '.join(sorted(unknown))}; there "
                f"is: {', '.join(sorted(known))}."
            )


def _named(environment: Environment, template: Path) -> set[str]:
    """The variables that a template takes from outside."""
    try:
        return meta.find_undeclared_variables(environment.parse(template.read_text("utf-8")))
    except TemplateSyntaxError as error:
        message = f"The prompt template {template}, line {error.lineno}: {error}"
        raise Invalid(message) from error
    except (OSError, ValueError) as error:
        raise Invalid(f"The prompt template {template} cannot be read: {error}") from error

"""Following jobs: what their agents print, and how the jobs below them go."""

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from hurlicane_mcp.cli.connection import Connection, Event
from hurlicane_mcp.cli.render import STYLES, asked, brief, why
from hurlicane_mcp.cli.words import in_words, stopped

FINAL: Final = frozenset({"done", "failed", "cancelled"})
_MARKS: Final = (("warning", "warning: "), ("error", "error: "))


@dataclass(frozen=True, slots=True)
class Output:
    """Some entries of an attempt's transcript."""

    attempt: int
    entries: list[Mapping[str, Any]]


async def output_of(server: Connection, job_id: str, first: int = 1) -> AsyncGenerator[Output]:
    """What the job's agents print, from attempt *first* on, until the job is final."""
    kinds = ("attempt.started", "job.*")
    async with aclosing(server.stream("/events", job=job_id, kind=kinds, after=0)) as events:
        async for event in events:
            happened = event.data
            if happened["kind"] == "attempt.started" and happened["attempt"] >= first:
                async with aclosing(attempt_output(server, job_id, happened["attempt"])) as pages:
                    async for page in pages:
                        yield page
            elif happened["kind"].removeprefix("job.") in FINAL:
                return


async def attempt_output(
    server: Connection, job_id: str, attempt: int | None
) -> AsyncGenerator[Output]:
    """What one attempt (None: the last) prints, until its process has ended."""
    path = f"/api/jobs/{job_id}/transcript"
    async with aclosing(server.stream(path, attempt=attempt)) as pages:
        async for page in pages:
            if page.data["entries"]:
                yield Output(page.data["attempt"], page.data["entries"])
            if page.data["ended"]:
                return


def entry_lines(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """The entries as lines for people; a tool call is one line, when it begins or fails."""
    lines: list[str] = []
    for entry in entries:
        if entry["kind"] == "tool":
            if not entry.get("finished"):
                lines.append(f"→ {entry['tool']} {brief(entry['text'], 100)}".rstrip())
            elif entry.get("is_error"):
                lines.append(f"✗ {entry['tool']} {brief(entry['text'], 100)}".rstrip())
        elif entry["kind"] in ("session", "model"):
            lines.append(f"{entry['kind']} {entry['text']}")
        else:
            mark = dict(_MARKS).get(entry["kind"], "")
            lines += [f"{mark}{line}" for line in entry["text"].splitlines() if line.strip()]
    return lines


@dataclass(slots=True)
class JobTree:
    """A job and those below it, as the events tell of them."""

    root: str
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    def take(self, event: Event) -> str | None:
        """Note what happened; returns it in words if it is worth a line, else None."""
        happened = event.data
        job_id, kind, data = happened.get("job_id"), happened["kind"], happened["data"]
        if kind == "job.created" and (job_id == self.root or data.get("parent_id") in self.jobs):
            self.jobs[job_id] = _line(job_id, data)
            return None if job_id == self.root else f"created: {brief(data['title'])}"
        job = self.jobs.get(job_id)
        if job is None:
            return None
        if kind.removeprefix("job.") in dict(STYLES):
            return self._moved(job, happened)
        if kind == "job.warned":
            return f"warning: {brief(data['text'], 200)}"
        if kind == "attempt.progress":
            job["progress"] = data["text"]
            return brief(data["text"], 200)
        if kind == "attempt.model":
            job["model"] = data["model"]
        if kind.startswith("question."):
            return _question(job, kind, data)
        if kind == "job.parked":
            job |= {"not_before": data.get("not_before"), "limited_by": data["by"]}
        return in_words(happened)

    @property
    def is_over(self) -> bool:
        """Whether the root is final."""
        return self.root in self.jobs and self.jobs[self.root]["status"] in FINAL

    def _moved(self, job: dict[str, Any], happened: Mapping[str, Any]) -> str | None:
        status, data = happened["kind"].removeprefix("job."), happened["data"]
        job |= {"status": status, "not_before": data.get("not_before"), "limited_by": None}
        if status == "running":
            job["attempt"] = happened["attempt"]
            job["started_at"] = job["started_at"] or happened["at"]
            return "running" if job["attempt"] == 1 else f"running, attempt {job['attempt']}"
        if status in FINAL:
            job["finished_at"] = happened["at"]
            if kind := data.get("failure_kind"):
                job["failure"] = {"kind": kind, "reason": data.get("reason") or ""}
                return f"{status}: {brief(why(job['failure']), 200)}"
            if by := data.get("stopped_by"):
                return f"{status}, {stopped(by)}"
        return status


def _question(job: dict[str, Any], kind: str, data: Mapping[str, Any]) -> str | None:
    if kind != "question.asked":
        job["question"] = None
        return None
    job["question"] = data
    return f'asks: {brief(asked(data), 200)} (hurlicane answer {data["question"]} "…")'


def _line(job_id: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """A job that was just created, as `job_table` shows it."""
    return {
        "job_id": job_id,
        "title": data["title"],
        "status": data["status"],
        "attempt": 0,
        "provider": data.get("provider") or "",
        "model": None,
        "progress": None,
        "started_at": None,
        "finished_at": None,
    }

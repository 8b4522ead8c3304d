"""The life of an attempt: prepared, started, followed, judged. Adopted ones join half-way."""

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.attempts import (
    AttemptState,
    EndFacts,
    Outcome,
    OutcomeKind,
    judge,
)
from hurlicane_mcp.domain.failures import Failure, FailureKind
from hurlicane_mcp.domain.jobs import Completion
from hurlicane_mcp.domain.stops import StopMode
from hurlicane_mcp.domain.texts import storable
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.background import Background, background_of
from hurlicane_mcp.engine.booking import Booking
from hurlicane_mcp.engine.dispatcher import Launch
from hurlicane_mcp.engine.environment import environment_of
from hurlicane_mcp.engine.exits import ExitChecks, note_failed_exit
from hurlicane_mcp.engine.finishing import call_limit
from hurlicane_mcp.engine.folders import Folders, top_of
from hurlicane_mcp.engine.handover import handover_of
from hurlicane_mcp.engine.persistence import persist
from hurlicane_mcp.engine.presence import Presences
from hurlicane_mcp.engine.prompts import Prompts
from hurlicane_mcp.engine.reading import Reader
from hurlicane_mcp.engine.side_channel import SideReader
from hurlicane_mcp.engine.stops import Rest
from hurlicane_mcp.errors import GitBusy, HurlicaneError, NotWritable, ShimDied, StoreUnavailable
from hurlicane_mcp.git import repository
from hurlicane_mcp.logs import about
from hurlicane_mcp.providers.base import EditGate, LaunchRequest, Provider, SessionSeen
from hurlicane_mcp.providers.registry import Providers
from hurlicane_mcp.store import attempts, events, jobs, messages
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.events import settled_topic
from hurlicane_mcp.store.tables import AttemptRow
from hurlicane_mcp.supervision.host import Command, Exit, Handle, Host, ProcessIdentity
from hurlicane_mcp.supervision.space import says_not_writable
from hurlicane_mcp.supervision.transcript import Watcher, tail

log = logging.getLogger(__name__)

#: Between two tries to start an agent while the disk is full or the database is away.
LATER = timedelta(seconds=5)
#: How often agents are told, at least, that a server looks after them.
ATTEND = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class RunLimits:
    """How long things around an agent's process may take."""

    wait: timedelta  #: one blocking tool call
    leave: timedelta = timedelta(seconds=10)  #: from finish_job to the first signal
    kill: timedelta = timedelta(seconds=2)  #: from the first signal to SIGKILL
    unattended: timedelta | None = None  #: an agent's life while no server runs
    output: int | None = None  #: bytes that an agent may print


class Runs:
    """Runs agents. `run` and `follow` belong into a task group; each returns at the end."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        host: Host,
        providers: Providers,
        prompts: Prompts,
        watcher: Watcher,
        presences: Presences,
        booking: Booking,
        mcp_url: str,
        limits: RunLimits,
        hooks_url: str | None = None,
        edit_gate: EditGate | None = None,
        exits: ExitChecks | None = None,
        folders: Folders | None = None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._host = host
        self._providers = providers
        self._prompts = prompts
        self._side = SideReader(db, clock, watcher, booking)
        self._reader = Reader(db, clock, watcher, presences, booking, self._side)
        self._booking = booking
        self._presences = presences
        self._mcp_url = mcp_url
        self._limits = limits
        self._hooks_url = hooks_url
        self._edit_gate = edit_gate
        self._exits = exits
        self._folders = folders
        self._attend_at = -math.inf  #: by the monotonic clock

    async def run(self, launch: Launch) -> None:
        """Start the agent of a claimed job and stay with it until its process tree is gone."""
        with about(launch.attempt_id):
            try:
                handle = await self._start_when_possible(launch)
            except ShimDied as error:
                await self._not_started(launch.attempt_id, OutcomeKind.CRASHED, str(error))
            except HurlicaneError as error:
                await self._not_started(launch.attempt_id, OutcomeKind.FAILED, str(error))
            except Exception as error:  # top-level handler: the attempt must end all the same
                log.exception("the agent could not be started")
                reason = f"The server could not start it: {error}"
                await self._not_started(launch.attempt_id, OutcomeKind.CRASHED, reason)
            else:
                if handle is not None:
                    await self.follow(launch.attempt_id, launch.run_dir, handle)

    async def follow(self, attempt_id: str, run_dir: Path, handle: Handle) -> None:
        """Read the agent's output, stop it once it is settled, and conclude when it is gone.

        A fault is logged, and following begins anew: it must neither end the server nor leave an
        agent without one. All steps may be repeated.
        """
        with about(attempt_id):
            await persist(
                self._clock, "following", lambda: self._follow(attempt_id, run_dir, handle)
            )

    async def _follow(self, attempt_id: str, run_dir: Path, handle: Handle) -> None:
        await self._note_start(attempt_id, handle.identity)
        provider = await self._provider_of(attempt_id)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._reader.read_on, attempt_id, run_dir, provider)
            tasks.start_soon(self._side.follow, attempt_id, provider)
            tasks.start_soon(self._stop_when_settled, attempt_id, handle)
            await handle.ended()
            tasks.cancel_scope.cancel()
        await self.conclude(attempt_id, run_dir, await handle.ended())
        if self._folders is not None:
            await self._folders.left(attempt_id)

    async def _note_start(self, attempt_id: str, identity: ProcessIdentity) -> None:
        """Note who runs, unless that was done before, maybe by a server that is dead now."""
        attempt = await self._db.read(lambda session: attempts.get(session, attempt_id))
        if attempt.started_at is not None:
            return
        job = await self._db.read(lambda session: jobs.get(session, attempt.job_id))
        branch = await anyio.to_thread.run_sync(repository.branch, Path(job.work_dir))
        now = self._clock.now()

        def change(session: Session) -> None:
            attempts.start(
                session,
                attempt_id,
                now,
                pid=identity.pid,
                start_time=identity.start_time,
                boot_id=identity.boot_id,
            )
            jobs.set_values(session, job.id, branch=branch)

        await self._db.write(change)

    async def attend(self) -> None:
        """Tell all agents that a server looks after them, if the last time is long enough ago."""
        now, limit = self._clock.monotonic(), self._limits.unattended or ATTEND
        if now < self._attend_at:
            return
        self._attend_at = now + min(ATTEND, limit / 4).total_seconds()
        rows = await self._db.read(attempts.not_ended)
        await self._host.attend([Path(row.run_dir) for row in rows])

    async def conclude(
        self, attempt_id: str, run_dir: Path, exit_: Exit, *, rebooted: bool = False
    ) -> None:
        """Read what is left of the output, judge the end unless it is decided, and note it."""
        provider = await self._provider_of(attempt_id)
        is_flood = exit_.limit == "output"
        await self._reader.read_rest(attempt_id, run_dir, provider, is_flood=is_flood)
        last_lines = await anyio.to_thread.run_sync(_last_lines, run_dir)
        failed: str | None = None
        if self._exits is not None and not rebooted:
            failed = await self._exits.failed(attempt_id, exit_)
        now = self._clock.now()

        def change(session: Session) -> None:
            facts = _end_facts(session, attempt_id, exit_, last_lines, rebooted=rebooted)
            if failed is not None:
                facts = replace(facts, failed_checks=failed)
                note_failed_exit(session, attempts.get(session, attempt_id), failed, now)
            settlement.settle(session, attempt_id, judge(facts), now)
            settlement.mark_ended(session, attempt_id, exit_, now)

        await self._db.write(change)
        self._presences.forget(attempt_id)

    async def _start_when_possible(self, launch: Launch) -> Handle | None:
        """As `_start`, but a full disk and a database that is away are waited for.

        None if the attempt was settled meanwhile, by a cancellation say; then it was ended here.
        """
        told = False
        while True:
            try:
                if await self._is_settled(launch.attempt_id):
                    await self._not_started(launch.attempt_id, OutcomeKind.CANCELLED, "")
                    return None
                return await self._start(launch)
            except (StoreUnavailable, NotWritable, GitBusy, OSError) as error:
                if isinstance(error, OSError) and not says_not_writable(error):
                    raise
                log.warning("the agent cannot be started yet: %s", error)
                if not told:
                    self._warn(launch, f"It cannot be started yet: {error}")
            told = True
            await self._clock.sleep(LATER)

    def _warn(self, launch: Launch, text: str) -> None:
        now, job = self._clock.now(), launch.job
        self._db.post(
            lambda session: events.record(
                session, now, "attempt.warning", job.id, job.attempt, text=text
            )
        )

    async def _is_settled(self, attempt_id: str) -> bool:
        attempt = await self._db.read(lambda session: attempts.get(session, attempt_id))
        return attempt.state == AttemptState.SETTLED

    async def _start(self, launch: Launch) -> Handle:
        """The handle of the new agent. A fault means that nothing was started."""
        if self._folders is not None:
            launch = await self._folders.ready(launch)
        provider = self._providers.get(launch.step.provider)
        background, rest = await self._background(launch)
        # It looks for programs and folders, which may lie on a disk that hangs.
        spec = await anyio.to_thread.run_sync(
            lambda: provider.launch(self._request(launch, background, rest))
        )
        await anyio.to_thread.run_sync(_write_files, launch.run_dir, spec.files)
        command = Command(
            argv=spec.argv,
            cwd=Path(launch.job.work_dir),
            env=environment_of(spec),
            stdin=spec.stdin.encode(),
            marker=launch.attempt_id,
            terminal=launch.job.interactive,
            time_limit=rest.time,
            unattended_limit=self._limits.unattended,
            output_limit=self._limits.output,
        )
        # The last step: whatever fails after it finds an agent at work, which has to be followed.
        handle = await self._host.start(launch.run_dir, command)
        self._note_told(launch.attempt_id, background)
        self._note_session(launch.attempt_id, spec.session_id)
        return handle

    async def _background(self, launch: Launch) -> tuple[Background, Rest]:
        """What the new attempt has to know, and what it may use."""
        job, previous, resumed = launch.job, launch.previous, launch.resume is not None
        now = self._clock.now()
        background, rest = await self._db.read(
            lambda session: (
                background_of(session, job, previous, resumed=resumed),
                self._booking.stops.rest(session, job, now),
            )
        )
        worked = launch.worked
        outcome = previous.outcome if previous is not None else None
        # Another CLI, or another family of models, cannot go on with the session.
        is_moved = outcome is not None and OutcomeKind(outcome).goes_on
        if worked is None or resumed or not is_moved:
            return background, rest
        parse = self._providers.get(worked.provider).parse_line
        handover = await anyio.to_thread.run_sync(handover_of, Path(worked.run_dir), parse)
        return replace(background, handover=handover), rest

    def _note_told(self, attempt_id: str, background: Background) -> None:
        """The messages in the prompt are on their way to the agent."""
        seqs, now = [message.seq for message in background.messages], self._clock.now()
        if seqs:
            self._db.post(lambda session: messages.deliver(session, attempt_id, seqs, now))

    def _note_session(self, attempt_id: str, session_id: str | None) -> None:
        """The CLI was told its session, and without a stream it will not name it."""
        if session_id is not None:
            seen, now = SessionSeen(session_id), self._clock.now()
            self._db.post(lambda session: self._booking.book(session, attempt_id, [seen], 0, now))

    def _request(self, launch: Launch, background: Background, rest: Rest) -> LaunchRequest:
        job = launch.job
        resumed = launch.resume is not None
        prompt = self._prompts.for_attempt(job, launch.previous, resumed, background)
        return LaunchRequest(
            prompt=prompt,
            work_dir=Path(job.work_dir),
            run_dir=launch.run_dir,
            model=launch.step.model,
            mcp_url=self._mcp_url,
            token=launch.token,
            resume=launch.resume,
            wait_limit=call_limit(job, self._limits.wait),
            hooks_url=self._hooks_url,
            edit_gate=self._edit_gate if job.enforce_locks else None,
            interactive=job.interactive,
            top=top_of(job),
            max_turns=rest.turns,
            max_budget_usd=rest.usd,
        )

    async def _not_started(self, attempt_id: str, kind: OutcomeKind, reason: str) -> None:
        """Settle an attempt without a process: failed for good, or crashed and tried again."""
        now = self._clock.now()
        outcome = Outcome(kind, failure=Failure(FailureKind.LAUNCH, reason))

        def change(session: Session) -> None:
            settlement.settle(session, attempt_id, outcome, now)
            settlement.mark_ended(session, attempt_id, Exit(launch_error=reason), now)

        await persist(self._clock, "ending", lambda: self._db.write(change))

    async def _provider_of(self, attempt_id: str) -> Provider:
        attempt = await self._db.read(lambda session: attempts.get(session, attempt_id))
        return self._providers.get(attempt.provider)

    async def _stop_when_settled(self, attempt_id: str, handle: Handle) -> None:
        with self._db.bell.listen([settled_topic(attempt_id)]) as ear:
            while True:
                attempt = await self._db.read(lambda session: attempts.get(session, attempt_id))
                if attempt.state == AttemptState.SETTLED:
                    break
                await ear.heard()
                if self._db.bell.closed:
                    return  # the server is stopping; the agent lives on
        # Who has used what it may does not get a grace to use more.
        if attempt.outcome in (OutcomeKind.DONE, OutcomeKind.FAILED) and not attempt.stopped:
            await self._clock.sleep(self._limits.leave)
        await handle.stop(self._limits.kill)


def _end_facts(
    session: Session, attempt_id: str, exit_: Exit, last_lines: str, *, rebooted: bool
) -> EndFacts:
    attempt = attempts.get(session, attempt_id)
    job = jobs.many(session, [attempt.job_id])[attempt.job_id]
    return EndFacts(
        completion=Completion(job.completion),
        exit_code=exit_.code,
        exit_signal=exit_.signal,
        last_message=attempt.last_message,
        last_lines=storable(last_lines.strip()[-1000:]),
        provider_error=attempt.provider_error,
        provider_kind=_kind_of(attempt),
        launch_error=exit_.launch_error,
        lost=attempt.lost_why or None,
        rebooted=rebooted,
        limit=exit_.limit,
        stopped=StopMode(attempt.stopped) if attempt.stopped else None,
        oom=exit_.oom,
    )


def _kind_of(attempt: AttemptRow) -> FailureKind:
    """What kind of error its CLI has ended with."""
    refusal: Mapping[str, Any] = attempt.refusal or {}
    return FailureKind(refusal.get("kind", FailureKind.PROVIDER))


def _last_lines(run_dir: Path) -> str:
    """What the agent complained of last; on a terminal, what that showed last."""
    return tail(run_dir / "stderr", 2000) or tail(run_dir / "scrollback.txt", 2000)


def _write_files(run_dir: Path, files: Mapping[Path, str]) -> None:
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path, content in files.items():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)

"""The whole error tree. Each class is one kind of answer with a stable `code`.

A message is one or two sentences that the reader, a person or a model, can act on. The edges
translate these once: into tool errors, HTTP problems and exit codes.
"""


class HurlicaneError(Exception):
    """Base of every error that a caller may see."""

    code = "error"


class NotFound(HurlicaneError):
    """There is nothing with this id that the caller may see."""

    code = "not_found"

    def __init__(self, what: str, *ids: str, hint: str = "") -> None:
        names = ", ".join(repr(one) for one in ids)
        noun = what if len(ids) == 1 else f"{what}s"
        super().__init__(
            f"There is no {noun} {names} that you may see.{' ' + hint if hint else ''}"
        )


class Invalid(HurlicaneError):
    """The input breaks a rule; the message says which and what is allowed."""

    code = "invalid"


class LimitReached(HurlicaneError):
    """A configured limit refuses this; the message names the setting."""

    code = "limit_reached"


class Conflict(HurlicaneError):
    """The request contradicts what is already there."""

    code = "conflict"


class OpenChildren(Conflict):
    """A job cannot finish while jobs that it created are still open."""

    code = "open_children"


class ChecksFailed(Conflict):
    """What has to hold before a job may be done does not; the message says what, and why."""

    code = "checks_failed"


class WaitCycle(Conflict):
    """Waiting for this would close a circle of jobs that wait for each other."""

    code = "wait_cycle"


class Unauthorized(HurlicaneError):
    """No token, or one that this server never issued."""

    code = "unauthorized"


class Forbidden(HurlicaneError):
    """The caller's role does not allow this."""

    code = "forbidden"


class StaleAttempt(HurlicaneError):
    """The caller's attempt is no longer the current one of its job."""

    code = "stale_attempt"

    def __init__(self) -> None:
        super().__init__(
            "Another attempt has taken over this job. Nothing was written. "
            "Stop now: do not call any more tools and do not change any files."
        )


class JobFinished(HurlicaneError):
    """The caller's job is final, so it can no longer write."""

    code = "job_finished"

    def __init__(self, job_id: str, status: str) -> None:
        super().__init__(
            f"Job {job_id} is already {status}. Nothing was written. You are done: end your turn."
        )


class IllegalTransition(HurlicaneError):
    """A state machine has no such step. Nothing changed."""

    code = "illegal_transition"

    def __init__(self, machine: str, state: str, event: str) -> None:
        super().__init__(f"A {machine} that is {state} cannot {event}.")


class LaunchFailed(HurlicaneError):
    """An agent could not be started; the message says how to mend it."""

    code = "launch"


class ShimDied(LaunchFailed):
    """The process that keeps an agent ended before the agent ran: trying again may help."""


class NotWritable(LaunchFailed):
    """The disk is full or read-only, so nothing was started: it can be once that is mended."""


class GitFailed(HurlicaneError):
    """A call of git ended badly; the message names the call, the folder and git's own words."""

    code = "git"

    def __init__(self, tried: str, folder: object, said: str) -> None:
        self.said = said  #: git's last line
        shown = tried if len(tried) <= 200 else f"{tried[:199]}…"
        super().__init__(f"`{shown}` failed in {folder}: {said}")


class GitBusy(GitFailed):
    """A lock of git's is held by somebody: the same call may work later."""


class GitDiskFull(GitFailed, NotWritable):
    """Git could not write: the disk is full or read-only."""


class AlreadyServing(HurlicaneError):
    """Another server holds this database or data directory."""

    code = "already_serving"


class OwnershipLost(HurlicaneError):
    """This server no longer holds its database, so it must not write any more."""

    code = "ownership_lost"


class StoreClosed(HurlicaneError):
    """The store is shutting down and takes no more work. Call again after the restart."""

    code = "store_closed"


class StoreUnavailable(HurlicaneError):
    """The database cannot be used now; nothing was written. The same call may work later."""

    code = "store_unavailable"


class ServerUnreachable(HurlicaneError):
    """No server answers where one was expected."""

    code = "server_unreachable"


def plain_cause(group: BaseExceptionGroup[BaseException]) -> HurlicaneError | None:
    """The error of ours in *group* that says it all, if there is nothing else in it."""
    ours, others = group.split(HurlicaneError)
    while isinstance(ours, BaseExceptionGroup):
        ours = ours.exceptions[0]
    return ours if others is None else None

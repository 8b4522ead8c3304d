"""The real CLIs when their models refuse: the job goes on with the next one, or waits for it."""

import logging
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.real_clis.model_endpoint import ModelRequest, ScriptedModel
from tests.real_clis.model_script import (
    CallTool,
    Conversation,
    HttpError,
    Limit,
    Move,
    Say,
    Script,
    by_role,
    limited,
)
from tests.real_clis.trial import OPUS, SONNET, Trial, trial
from tests.stories.server import until

pytestmark = [pytest.mark.real_cli, pytest.mark.anyio, pytest.mark.timeout(120)]

log = logging.getLogger(__name__)

LEAD = "[[role:lead]] Find the answer."
CODEX, OTHER_CODEX = "gpt-6-sol", "gpt-6.1-sol"
RATE = "Number of requests has exceeded your rate limit"
CREDIT = (
    "Your credit balance is too low to access the Anthropic API. "
    "Please go to Plans & Billing to upgrade or purchase credits."
)
HOUR = 3600


def work(conversation: Conversation) -> Move:
    """Tells how it stands, finishes, ends: so many calls, whatever the CLI has put in between."""
    return (
        CallTool("report_status", {"text": "I have seen the elephant."}),
        CallTool("finish_job", {"result": "42"}),
        Say("Bye."),
    )[conversation.calls]


def lead(*limits: Limit) -> Script:
    """A model at *work* that refuses as the *limits* say."""
    return by_role({"lead": limited(work, *limits)})


def refused(
    status: int, kind: str, message: str, headers: dict[str, str] | None = None
) -> HttpError:
    """An error as the Anthropic API words it."""
    error = {"type": kind, "message": message}
    return HttpError(status, headers or {}, {"type": "error", "error": error})


def too_many(**headers: str) -> HttpError:
    """A 429 with these headers, written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return refused(429, "rate_limit_error", RATE, named)


def used_up(claim: str, resets_at: float) -> HttpError:
    """What the API answers a subscriber whose limit *claim* is reached."""
    return too_many(
        anthropic_ratelimit_unified_status="rejected",
        anthropic_ratelimit_unified_reset=str(int(resets_at)),
        anthropic_ratelimit_unified_representative_claim=claim,
    )


def refusals(model: ScriptedModel) -> list[ModelRequest]:
    """The requests that *model* refused, oldest first."""
    return [one for one in model.requests if isinstance(one.move, HttpError)]


def asked(model: ScriptedModel, name: str) -> list[ModelRequest]:
    """The requests to the model of this id, oldest first."""
    return [one for one in model.requests if one.conversation.model == name]


def tell_pause(before: ScriptedModel, after: ModelRequest) -> None:
    """Log how long it was from the first refusal until the next model was asked; any hang fails."""
    pause = after.asked_at - refusals(before)[0].answered_at
    log.info("the next model was asked %.2f s after the first refusal", pause)
    assert 0 < pause < 30


def ends(on: Trial, job: str) -> list[tuple[Any, Any]]:
    """The models of the attempts and how these ended."""
    return [(one.get("model"), one.get("outcome")) for one in on.attempts(job)]


CASES = [
    pytest.param(too_many(), False, "rate_limit", "429", id="429"),
    pytest.param(too_many(retry_after="3600"), False, "rate_limit", RATE, id="429-for-an-hour"),
    pytest.param(used_up("seven_day_opus", 0), False, "rate_limit", "429", id="unified-of-a-key"),
    pytest.param(
        used_up("seven_day_opus", time.time() + HOUR),
        True,
        "usage_limit",
        "seven_day_opus",
        id="unified-of-a-plan",
    ),
    pytest.param(
        refused(
            429,
            "rate_limit_error",
            f"Claude AI usage limit reached|{int(time.time()) + HOUR}",
            {"x-should-retry": "false"},
        ),
        False,
        "rate_limit",
        "usage limit reached",
        id="usage-limit-in-words",
    ),
    pytest.param(
        refused(529, "overloaded_error", "Overloaded"), False, "overloaded", "529", id="529"
    ),
]


@pytest.mark.parametrize("calls", [0, 1], ids=["at-once", "at-work"])
@pytest.mark.parametrize(("error", "plan", "kind", "words"), CASES)
async def test_the_session_goes_on_with_the_next_model(
    error: HttpError, plan: bool, kind: str, words: str, calls: int, tmp_path: Path
) -> None:
    with trial(tmp_path, lead(Limit("opus", error, after=calls)), plan=plan) as on:
        job = create(on)
        await check_next_model(on, job, kind, words, calls)


async def test_a_model_that_is_not_there_is_left_for_the_next_one(tmp_path: Path) -> None:
    error = refused(404, "not_found_error", f"model: {OPUS}")
    with trial(tmp_path, lead(Limit("opus", error))) as on:
        job = create(on)
        await check_next_model(on, job, "unknown_model", "may not exist", 0)
        again = create(on)
        assert on.outcome(again)["status"] == "done"
        assert [model for model, _ in ends(on, again)] == [SONNET]


def create(on: Trial) -> str:
    """A job that asks for opus, may go on with sonnet, and has a retry left for failures."""
    return on.create(LEAD, model="opus", fallback=["sonnet"], retry_policy="same", max_retries=1)


async def check_next_model(on: Trial, job: str, kind: str, words: str, calls: int) -> None:
    """The job was done by sonnet, in opus's session, and its events tell it all."""
    answer = on.outcome(job)
    assert (answer["status"], answer["result"]) == ("done", "42"), answer
    assert ends(on, job) == [(OPUS, "limited"), (SONNET, "done")]
    first, second = on.attempts(job)
    assert first["session_id"] == second["session_id"]
    told = on.job(job)
    assert told["model"] == "opus"
    assert told["models_used"] == [f"claude:{OPUS}", f"claude:{SONNET}"]
    assert told["retries"] == "0 of 1"
    (limit,) = on.events(job, "model.limited")
    assert (limit["data"]["model"], limit["data"]["failure_kind"]) == (OPUS, kind)
    assert words in limit["data"]["evidence"]
    settled = [event["data"] for event in on.events(job, "attempt.settled")]
    assert [one["outcome"] for one in settled] == ["limited", "done"]
    assert settled[0]["reason"] == limit["data"]["evidence"]
    resumed = asked(on.claude, SONNET)[0]
    begun = asked(on.claude, OPUS)[0].conversation
    assert resumed.conversation.prompt == begun.prompt
    assert len(resumed.conversation.results("report_status")) == calls
    tell_pause(on.claude, resumed)


async def test_a_short_retry_after_is_left_to_the_cli(tmp_path: Path) -> None:
    def busy(conversation: Conversation) -> Move:
        if conversation.calls == 1 and not conversation.refusals:
            return too_many(retry_after="2")
        return work(conversation)

    with trial(tmp_path, by_role({"lead": busy})) as on:
        job = create(on)
        assert on.outcome(job)["result"] == "42"
        assert ends(on, job) == [(OPUS, "done")]
        assert on.events(job, "model.limited") == []
        (refusal,) = on.events(job, "attempt.refused")
        assert refusal["data"]["final"] is False
        (first,) = refusals(on.claude)
        again = on.claude.requests[on.claude.requests.index(first) + 1]
        assert again.asked_at - first.answered_at >= 2


async def test_a_job_waits_for_an_account_to_be_paid(tmp_path: Path) -> None:
    paid = threading.Event()
    error = refused(400, "invalid_request_error", CREDIT)

    def pay(conversation: Conversation) -> Move:
        return work(conversation) if paid.is_set() else error

    with trial(tmp_path, by_role({"lead": pay})) as on:
        job = create(on)
        await until(lambda: on.job(job).get("limited_by") == "claude/*", 40)
        (link,) = on.get(f"/api/jobs/{job}/why")["chain"]
        assert "Credit balance is too low" in link["because"]
        assert "hurlicane models clear claude`" in link["next"]
        assert (on.job(job)["status"], asked(on.claude, SONNET)) == ("queued", [])
        paid.set()
        on.clear("claude")
        assert on.outcome(job)["result"] == "42"
        assert ends(on, job) == [(OPUS, "limited"), (OPUS, "done")]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        pytest.param(refused(400, "invalid_request_error", CREDIT), "billing", id="billing"),
        pytest.param(used_up("five_hour", time.time() + HOUR), "usage_limit", id="five-hours"),
    ],
)
async def test_what_concerns_the_account_goes_on_with_the_other_cli(
    error: HttpError, kind: str, tmp_path: Path
) -> None:
    script = lead(Limit("claude", error, after=1))
    with trial(tmp_path, script, plan=kind == "usage_limit") as on:
        job = on.create(LEAD, model="opus", fallback=["sonnet", f"codex:{CODEX}"])
        assert on.outcome(job)["result"] == "42"
        assert on.job(job)["models_used"] == [f"claude:{OPUS}", f"codex:{CODEX}"]
        (limit,) = on.events(job, "model.limited")
        assert (limit["data"]["model"], limit["data"]["failure_kind"]) == ("*", kind)
        other = on.codex.requests[0]
        assert "I have seen the elephant." in other.conversation.prompt
        tell_pause(on.claude, other)


USAGE = {
    "type": "usage_limit_reached",
    "message": "The usage limit has been reached",
    "plan_type": "pro",
    "resets_at": int(time.time()) + HOUR,
}
SHELL = CallTool("exec_command", {"cmd": "echo elephants: 7"}, server=None)


async def test_claude_is_told_what_codex_had_done(tmp_path: Path) -> None:
    """Its prompt holds the end of the other one's transcript, as the session stays behind."""
    limit = Limit(CODEX, HttpError(429, body={"error": USAGE}), after=1)
    counting = by_role({"lead": limited(lambda _: SHELL, limit)})
    with trial(tmp_path, lead(), counting) as on:
        job = on.create(LEAD, provider="codex", model=CODEX, fallback=["claude:sonnet"])
        assert on.outcome(job)["result"] == "42"
        assert ends(on, job) == [(CODEX, "limited"), (SONNET, "done")]
        first, second = on.attempts(job)
        assert first["session_id"] != second["session_id"]
        (refusal,) = on.events(job, "model.limited")
        assert "usage limit" in refusal["data"]["evidence"]
        prompt = on.claude.requests[0].conversation.prompt
        assert LEAD in prompt
        assert "It called shell:" in prompt
        assert "answered: elephants: 7" in prompt
        tell_pause(on.codex, on.claude.requests[0])


async def test_codex_begins_afresh_with_a_model_of_another_family(tmp_path: Path) -> None:
    """Resumed, it would have the limited model sum up the thread, and fail at its refusal."""
    error = {"error": {"type": "rate_limit_exceeded", "message": "Slow down."}}
    limit = Limit("gpt-5.5", HttpError(429, body=error), after=1)

    def works(conversation: Conversation) -> Move:
        return work(conversation) if conversation.model == CODEX else SHELL

    with trial(tmp_path, by_role({"lead": limited(works, limit)})) as on:
        job = on.create(LEAD, provider="codex", model="gpt-5.5", fallback=[f"codex:{CODEX}"])
        assert on.outcome(job)["result"] == "42"
        assert ends(on, job) == [("gpt-5.5", "limited"), (CODEX, "done")]
        first, second = on.attempts(job)
        assert first["session_id"] != second["session_id"]
        prompt = asked(on.codex, CODEX)[0].conversation.prompt
        assert LEAD in prompt
        assert "answered: elephants: 7" in prompt
        assert len(refusals(on.codex)) == 1


async def test_codex_does_not_wait_an_hour_in_silence(tmp_path: Path) -> None:
    error = {"error": {"type": "rate_limit_exceeded", "message": "Slow down."}}
    limit = Limit(CODEX, HttpError(429, {"retry-after": "3600"}, error), after=1)
    with trial(tmp_path, lead(limit)) as on:
        job = on.create(LEAD, provider="codex", model=CODEX, fallback=[f"codex:{OTHER_CODEX}"])
        assert on.outcome(job)["result"] == "42"
        assert ends(on, job) == [(CODEX, "limited"), (OTHER_CODEX, "done")]
        # It tells the wait on standard error only, and the ledger knows it.
        (marked,) = on.get("/api/models/rate-limits")["limits"]
        rest = datetime.fromisoformat(marked["until"]) - datetime.now(UTC)
        assert HOUR - 60 < rest.total_seconds() <= HOUR
        first, second = on.attempts(job)
        assert first["session_id"] == second["session_id"]
        resumed = asked(on.codex, OTHER_CODEX)[0]
        assert len(resumed.conversation.results("report_status")) == 1
        tell_pause(on.codex, resumed)


async def test_a_short_retry_after_is_left_to_codex(tmp_path: Path) -> None:
    def busy(conversation: Conversation) -> Move:
        error = {"error": {"type": "rate_limit_exceeded", "message": "Slow down."}}
        if conversation.calls == 1 and not conversation.refusals:
            return HttpError(429, {"retry-after": "2"}, error)
        return work(conversation)

    with trial(tmp_path, by_role({"lead": busy}), cli_patience="3") as on:
        job = on.create(LEAD, provider="codex", model=CODEX, fallback=[f"codex:{OTHER_CODEX}"])
        assert on.outcome(job)["result"] == "42"
        assert ends(on, job) == [(CODEX, "done")]
        assert on.events(job, "model.limited") == []
        (refusal,) = on.events(job, "attempt.refused")
        assert refusal["data"]["final"] is False


class Reset:
    """Limits of opus and of sonnet that end so many seconds after the first refusal."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self.at: float | None = None

    def __call__(self, conversation: Conversation) -> Move:
        claim = next((one for one in ("opus", "sonnet") if one in conversation.model), None)
        with self._lock:
            if self.at is None and claim is not None:
                self.at = float(int(time.time() + self._seconds))
        if claim is None or self.at is None or time.time() >= self.at:
            return work(conversation)
        return used_up(f"seven_day_{claim}", self.at)


async def test_a_parked_job_leaves_its_slot_and_goes_on_by_itself_at_the_reset(
    tmp_path: Path,
) -> None:
    reset = Reset(20)
    with trial(tmp_path, by_role({"lead": reset}), plan=True, slots="1") as on:
        job = create(on)
        await until(lambda: on.job(job).get("limited_by"), 40)
        assert reset.at is not None
        parked = on.job(job)
        assert datetime.fromisoformat(parked["not_before"]) >= datetime.fromtimestamp(reset.at, UTC)
        other = on.create(LEAD, model="haiku", fallback=[])
        assert on.outcome(other)["result"] == "42"
        assert on.outcome(job)["result"] == "42"
        assert ends(on, job) == [(OPUS, "limited"), (SONNET, "limited"), (OPUS, "done")]
        assert len({one["session_id"] for one in on.attempts(job)}) == 1
        last = on.attempts(job)[-1]
        assert on.job(other)["finished_at"] < last["claimed_at"]
        after_reset = asked(on.claude, OPUS)[1]
        waited = datetime.fromisoformat(last["claimed_at"]).timestamp() - reset.at
        log.info("it was claimed %.2f s after the reset", waited)
        assert waited >= 0
        assert after_reset.conversation.prompt == on.claude.requests[0].conversation.prompt

"""What the real CLIs use and when they are stopped, by the endpoints' own figures."""

import logging
import os
import signal
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.real_clis.model_script import (
    CallTool,
    Conversation,
    HttpError,
    Limit,
    Move,
    Say,
    Script,
    Spent,
    by_role,
    limited,
)
from tests.real_clis.test_limits import refused, too_many
from tests.real_clis.trial import OPUS, SONNET, Trial, trial
from tests.stories.server import until

pytestmark = [pytest.mark.real_cli, pytest.mark.anyio, pytest.mark.timeout(120)]

log = logging.getLogger(__name__)

LEAD = "[[role:lead]] Count the elephants."
CODEX, OTHER_CODEX = "gpt-6-sol", "gpt-6.1-sol"
PRICES = {
    "as_of": "2026-11-24",
    "input": "2",
    "output": "10",
    "cache_write": "2",
    "cache_read": "1",
}
PRICED = {"provider": "codex", "id": CODEX, "prices": PRICES}
#: Of opus 4 cents, half of it for what is said; of Codex 2 cents.
DEAR = Spent(input=5000, output=1000, cache_write=0, cache_read=0)
OPUS_CENTS, CODEX_CENTS = Decimal("0.04"), Decimal("0.02")


def counting(until_call: int = 1000, spent: Spent = DEAR) -> Script:
    """A model that counts, and finishes with the call of this number, from 0."""

    def script(conversation: Conversation) -> Move:
        number = conversation.calls
        if number < until_call:
            text = f"I have counted {number + 1}."
            return CallTool("report_status", {"text": text}, spent=spent)
        if number == until_call:
            return CallTool("finish_job", {"result": f"{number} elephants"}, spent=spent)
        return Say("Bye.", spent)

    return script


async def ended(on: Trial, job: str) -> dict[str, Any]:
    """The job's last figures: once it is final and its processes are gone."""
    on.outcome(job)
    await until(lambda: on.has_ended(job), 40)
    return on.job(job)


def cost_of(told: dict[str, Any]) -> Decimal:
    return Decimal(told["cost_usd"])


def tell(on: Trial, told: dict[str, Any], real: Decimal) -> None:
    """Log both figures, for whoever wants to know how close they are."""
    requests = len(on.claude.requests) + len(on.codex.requests)
    log.info("%d requests cost $%s, booked $%s", requests, real, told["cost_usd"])


async def test_claude_is_stopped_at_its_budget_one_request_late_at_most(tmp_path: Path) -> None:
    budget = Decimal("0.07")
    with trial(tmp_path, by_role({"lead": counting()})) as on:
        job = on.create(LEAD, model="opus", fallback=[], stop_mode="budget", stop_value=str(budget))
        told = await ended(on, job)
        assert (told["status"], told["stopped_by"]) == ("done", "budget"), told
        real = on.price_of(on.claude.requests)
        tell(on, told, real)
        assert budget <= real < budget + OPUS_CENTS
        assert cost_of(told) == real
        assert told["budget"]["spent_usd"] == told["cost_usd"]


async def test_codex_is_stopped_at_its_budget_within_its_turn(tmp_path: Path) -> None:
    """Its stream is silent about usage until the turn ends, but it notes it after each answer."""
    warned, stopped = threading.Event(), threading.Event()

    def thinking(conversation: Conversation) -> Move:
        # A real model takes longer than the server to warn its agent, and to end it.
        if conversation.calls == 3:
            assert warned.wait(40)
        if conversation.calls == 4:
            assert stopped.wait(40)
        return counting()(conversation)

    budget = Decimal("0.07")
    with trial(tmp_path, by_role({"lead": thinking}), models=[PRICED]) as on:
        job = on.create(
            LEAD,
            provider="codex",
            model=CODEX,
            fallback=[],
            stop_mode="budget",
            stop_value=str(budget),
        )
        await until(lambda: on.events(job, "job.nearly_stopped"), timeout_s=30)
        warned.set()
        on.outcome(job)
        told = await ended(on, job)
        stopped.set()
        assert (told["status"], told["stopped_by"]) == ("done", "budget"), told
        assert len(on.events(job, "job.nearly_stopped")) == 1
        real = on.price_of(on.codex.requests)
        tell(on, told, real)
        assert cost_of(told) == 4 * CODEX_CENTS
        assert len(on.codex.requests) in (4, 5)  # the last one's answer is heard by nobody
        assert budget <= cost_of(told) < budget + CODEX_CENTS


async def test_what_codexs_own_agents_use_counts_for_its_budget(tmp_path: Path) -> None:
    """Its stream never tells that."""
    stopped = threading.Event()

    def leads(conversation: Conversation) -> Move:
        if conversation.calls == 0:
            task = {"task_name": "count", "message": "[[role:helper]] Count.", "fork_turns": "none"}
            return CallTool("spawn_agent", task, server=None, group="collaboration", spent=DEAR)
        wait = {"timeout_ms": 60_000}
        return CallTool("wait_agent", wait, server=None, group="collaboration", spent=DEAR)

    def helps(conversation: Conversation) -> Move:
        if conversation.calls == 4:
            assert stopped.wait(40)
        return CallTool("exec_command", {"cmd": "echo one more"}, server=None, spent=DEAR)

    budget = Decimal("0.11")
    script = by_role({"lead": leads, "helper": helps})
    with trial(tmp_path, script, models=[PRICED]) as on:
        job = on.create(
            LEAD,
            provider="codex",
            model=CODEX,
            fallback=[],
            stop_mode="budget",
            stop_value=str(budget),
        )
        on.outcome(job)
        told = await ended(on, job)
        stopped.set()
        assert (told["status"], told["stopped_by"]) == ("done", "budget"), told
        tell(on, told, on.price_of(on.codex.requests))
        assert cost_of(told) == 6 * CODEX_CENTS


async def test_a_server_that_dies_within_a_turn_of_codex_books_all_of_it(tmp_path: Path) -> None:
    begun, back = threading.Event(), threading.Event()

    def interrupted(conversation: Conversation) -> Move:
        if conversation.calls == 2:
            begun.set()
            assert back.wait(40)
        return counting(4)(conversation)

    with trial(tmp_path, by_role({"lead": interrupted}), models=[PRICED]) as on:
        job = on.create(LEAD, provider="codex", model=CODEX, fallback=[])
        await until(begun.is_set, 40)
        await until(lambda: cost_of(on.job(job)) == 2 * CODEX_CENTS)
        killed = on.server.worker_pid
        os.kill(killed, signal.SIGKILL)
        await until(lambda: on.server.worker_pid != killed)
        back.set()
        told = await ended(on, job)
        assert (told["status"], told["result"]) == ("done", "4 elephants"), told
        assert cost_of(told) == on.price_of(on.codex.requests)
        assert len(on.attempts(job)) == 1


@pytest.mark.parametrize("cli", ["claude", "codex"])
async def test_both_clis_are_stopped_after_so_many_turns(cli: str, tmp_path: Path) -> None:
    """Claude Code counts by itself. Codex has begun the next request when it is stopped."""
    stopped = threading.Event()

    def thinking(conversation: Conversation) -> Move:
        if conversation.calls == 3:  # a real model takes longer than the end of a stopped agent
            assert stopped.wait(40)
        return counting()(conversation)

    with trial(tmp_path, by_role({"lead": thinking})) as on:
        job = on.create(LEAD, provider=cli, stop_mode="turns", stop_value="3")
        on.outcome(job)
        told = await ended(on, job)
        stopped.set()
        assert (told["status"], told["stopped_by"], told["turns"]) == ("done", "turns", 3), told
        model = on.claude if cli == "claude" else on.codex
        assert len(model.requests) in (3, 4)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(too_many(), id="killed"),
        pytest.param(too_many(retry_after="3600"), id="ended"),
        pytest.param(refused(529, "overloaded_error", "Overloaded"), id="overloaded"),
    ],
)
async def test_a_job_that_changed_its_model_costs_what_both_have_cost(
    error: HttpError, tmp_path: Path
) -> None:
    script = by_role({"lead": limited(counting(3), Limit("opus", error, after=2))})
    with trial(tmp_path, script) as on:
        job = on.create(LEAD, model="opus", fallback=["sonnet"])
        told = await ended(on, job)
        assert told["models_used"] == [f"claude:{OPUS}", f"claude:{SONNET}"]
        real = on.price_of(on.claude.requests)
        tell(on, told, real)
        assert cost_of(told) == real
        first, second = on.attempts(job)
        assert Decimal(first["cost_usd"]) == 2 * OPUS_CENTS
        assert (first["turns"], second["turns"]) == (2, 3)
        by_model = on.get("/api/usage", by="model", job_id=job)
        costs = {line["key"]: Decimal(line["cost_usd"]) for line in by_model["lines"]}
        assert costs == {OPUS: 2 * OPUS_CENTS, SONNET: cost_of(told) - 2 * OPUS_CENTS}


@pytest.mark.parametrize("after", ["codex", "claude"])
@pytest.mark.parametrize(
    "error",
    [
        pytest.param({}, id="failed"),
        pytest.param({"retry-after": "3600"}, id="stopped"),
    ],
)
async def test_a_turn_of_codex_that_a_refusal_cut_off_is_booked(
    error: dict[str, str], after: str, tmp_path: Path
) -> None:
    """Whether its thread goes on or is left behind."""
    slow = {"error": {"type": "rate_limit_exceeded", "message": "Slow down."}}
    limit = Limit(CODEX, HttpError(429, error, slow), after=2)
    script = by_role({"lead": limited(counting(3), limit)})
    models = [PRICED, {**PRICED, "id": OTHER_CODEX}]
    with trial(tmp_path, script, models=models) as on:
        next_one = f"codex:{OTHER_CODEX}" if after == "codex" else "claude:sonnet"
        job = on.create(LEAD, provider="codex", model=CODEX, fallback=[next_one])
        told = await ended(on, job)
        real = on.price_of(on.codex.requests) + on.price_of(on.claude.requests)
        tell(on, told, real)
        assert cost_of(told) == real
        first, _ = on.attempts(job)
        assert Decimal(first["cost_usd"]) == 2 * CODEX_CENTS
        assert len({one["session_id"] for one in on.attempts(job)}) == (after == "claude") + 1


async def test_a_budget_covers_children_of_the_other_cli(tmp_path: Path) -> None:
    """What the child spends stops both it and the lead that waits for it."""

    def leads(conversation: Conversation) -> Move:
        if not conversation.calls:
            child = {"description": "[[role:child]] Count.", "provider": "claude", "model": "opus"}
            return CallTool("create_job", {**child, "fallback": []})
        (created, *_) = conversation.results("create_job")
        return CallTool("wait_for_jobs", {"job_ids": [created.data()["job_id"]]})

    script = by_role({"lead": leads, "child": counting()})
    budget = Decimal("0.10")
    with trial(tmp_path, script, models=[PRICED]) as on:
        job = on.create(
            LEAD,
            provider="codex",
            model=CODEX,
            fallback=[],
            stop_mode="budget",
            stop_value=str(budget),
        )
        told = await ended(on, job)
        assert (told["status"], told["stopped_by"]) == ("done", "budget"), told
        (child,) = on.get("/api/jobs", parent_id=job)["jobs"]
        below = await ended(on, child["job_id"])
        assert (below["status"], below["stopped_by"]) == ("done", "budget"), below
        real = on.price_of(on.claude.requests)
        tell(on, below, real)
        assert cost_of(below) == real
        assert real < budget + OPUS_CENTS

"""The chaos itself: kills, freezes and replays, chosen by a seeded generator."""

import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import anyio
import anyio.to_thread
import psutil
from anyio.abc import TaskGroup

from bench.wire import Refused, Wire, tool_call
from tests.chaos.checker import REPLAYED, Record
from tests.chaos.clients import Operator
from tests.chaos.processes import Site, Supervised

#: How often each kind of process is killed, in proportion.
KILLS = {"agent": 45, "shim": 25, "worker": 20, "parent": 6, "both": 4}
AGAIN = 0.3  #: how likely a kill of a worker is followed by one of its successor
PAUSE_S = 0.8  #: between two kills, at most
FROZEN_S = 4.0  #: for a freeze, at most
REPLAYS = {
    "report_status": {"text": REPLAYED},
    "create_job": {"description": REPLAYED, "title": REPLAYED},
    "finish_job": {"result": REPLAYED, "detach": True},
    "write_note": {"key": REPLAYED, "value": REPLAYED},
}


class Faults:
    """Kills and freezes until it is cancelled."""

    def __init__(self, site: Site, operator: Operator, record: Record, random: Random) -> None:
        self.done: Counter[str] = Counter()
        self.created = 0  #: jobs that the feed has told of
        self._site = site
        self._operator = operator
        self._record = record
        self._random = random
        self._settled: list[tuple[str, int]] = []

    @property
    def kills(self) -> int:
        return sum(self.done[kind] for kind in KILLS)

    @property
    def freezes(self) -> int:
        return self.done["frozen agent"] + self.done["frozen shim"]

    def hear(self, event: Any) -> None:
        """Note from the feed how many jobs there are, and whose tokens are worth nothing now."""
        self.created += event["kind"] == "job.created"
        if event["kind"] == "attempt.settled":
            self._settled.append((event["job_id"], event["attempt"]))

    async def kill_for_ever(self) -> None:
        """One kill after another; a server that is gone is started again."""
        kind = "agent"
        while True:
            if kind == "worker" and self._random.random() < AGAIN:
                await anyio.sleep(self._random.uniform(0, 0.3))  # while the next one recovers
            else:
                await anyio.sleep(self._random.uniform(0.05, PAUSE_S))
                kind = self._random.choices(list(KILLS), list(KILLS.values()))[0]
            victims = await anyio.to_thread.run_sync(self._victims, kind)
            for victim in victims:
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
            if victims:
                self.done[kind] += 1
            await self._site.keep()

    async def freeze_for_ever(self, kills: float, longer: TaskGroup) -> None:
        """One freeze for so many *kills*, of agents and shims; each ends, in *longer*, by a cancel
        of the job or by thawing."""
        while True:
            await anyio.sleep(self._random.uniform(0.2, 0.6) * kills * PAUSE_S)
            found = await anyio.to_thread.run_sync(lambda: list(self._site.supervised()))
            if not found:
                continue
            one = self._random.choice(found)
            frozen = one.agent if one.agent and self._random.random() < 0.5 else one.shim
            with suppress(psutil.NoSuchProcess):
                frozen.suspend()
                self.done["frozen agent" if frozen is one.agent else "frozen shim"] += 1
                longer.start_soon(self._thaw_or_cancel, one, frozen)

    async def replay_for_ever(self) -> None:
        """Use the tokens of attempts that are over, the latest most of all."""
        while True:
            await anyio.sleep(self._random.uniform(0.05, 0.3))
            if not self._settled:
                continue
            job_id, number = self._random.choice(self._settled[-40:])
            token = self._token_of(job_id, number)
            if token is None:  # it never got to its first stamp
                continue
            tool = self._random.choice(list(REPLAYS))
            answer = await anyio.to_thread.run_sync(self._replay, tool, token)
            if answer is not None:
                self.done["replay"] += 1
                self._record.replays.append((f"{tool} of {job_id}.{number}", answer))

    def _victims(self, kind: str) -> list[psutil.Process]:
        if kind in ("worker", "parent", "both"):
            parent = self._site.parent() if kind != "worker" else None
            worker = self._site.worker() if kind != "parent" else None
            return [one for one in (parent, worker) if one is not None]
        found = sorted(self._site.supervised(), key=lambda one: -one.shim.pid)
        if self._random.random() < 0.5:  # else the youngest, which may be about to start
            self._random.shuffle(found)
        pick: Callable[[Supervised], psutil.Process | None] = (
            (lambda one: one.agent) if kind == "agent" else (lambda one: one.shim)
        )
        return [process for one in found if (process := pick(one)) is not None][:1]

    async def _thaw_or_cancel(self, one: Supervised, frozen: psutil.Process) -> None:
        cancels = self._random.random() < 0.5
        await anyio.sleep(self._random.uniform(0.3, FROZEN_S))
        if cancels:
            await self._operator.cancel(one.job_id)
        else:
            with suppress(psutil.NoSuchProcess):
                frozen.resume()

    def _token_of(self, job_id: str, number: int) -> str | None:
        with suppress(FileNotFoundError):
            for line in (self._site.stamps / f"{job_id}.stamps").read_text().splitlines():
                stamp = json.loads(line)
                if stamp["what"] == "start" and stamp["attempt"] == number:
                    return stamp["token"]
        return None

    def _replay(self, tool: str, token: str) -> str | None:
        """What the call was answered; None if nobody was there to answer."""
        request = tool_call(self._site.port, token, tool, json.dumps(REPLAYS[tool]))
        try:
            wire = Wire(self._site.port)
            try:
                return wire.exchange(request).decode()
            finally:
                wire.close()
        except Refused as refusal:
            return None if "store_closed" in str(refusal) else str(refusal)
        except OSError:
            return None

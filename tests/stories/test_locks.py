"""File locks between agents at work: one waits for the other, without a slot."""

import os
import signal
from collections.abc import Callable

import anyio
import pytest

from tests.stories.server import Refused, RunningServer, until

pytestmark = pytest.mark.anyio

UNTIL_GO = "run sh -c 'until [ -e go ]; do sleep 0.05; done'"
LOCK = 'call lock_files {"paths": ["src"], "reason": "to mend it"}'


async def test_an_agent_waits_for_the_files_of_another_and_works_on_what_that_one_left(
    start: Callable[..., RunningServer],
) -> None:
    server = start(slots="2")
    async with server.operator() as operator:
        first = await operator.create(
            LOCK, UNTIL_GO, "edit src/a.txt 'from the first'", "finish one", title="The first"
        )
        with server.rest() as rest:
            await until(lambda: rest.get("/api/locks").json()["locks"])
            second = await operator.create(
                'call lock_files {"paths": ["src/a.txt", "b.txt"]} as mine',
                "edit src/a.txt 'from the second'",
                "finish locked for ${mine.ttl_s} s",
            )
            await until(lambda: "waiting" in rest.get("/api/locks").json()["locks"][0])
            (lock,) = rest.get("/api/locks").json()["locks"]
        assert (lock["job_id"], lock["reason"], lock["waiting"][0]["job_id"]) == (
            first,
            "to mend it",
            second,
        )
        why = (await operator.call("why", job_id=second))["chain"]
        assert [link["job_id"] for link in why] == [second, first]
        assert "waits to lock" in why[0]["because"]
        await operator.outcome(await operator.create("finish in between"))  # it holds no slot
        await anyio.Path(server.work_dir / "go").touch()
        one, two = await operator.outcome(first, second)
        assert (one.get("result"), two.get("result")) == ("one", "locked for 600 s")
        written = await anyio.Path(server.work_dir / "src" / "a.txt").read_text()
        assert written == "from the first\nfrom the second\n"
        with server.rest() as rest:
            # Freed when the process of the last one is gone, within its grace.
            await until(lambda: rest.get("/api/locks").json()["locks"] == [])
            kinds = {one["kind"] for one in rest.get("/api/events?kind=lock.*").json()["events"]}
    assert kinds == {"lock.taken", "lock.released"}


async def test_whoever_asks_again_after_a_crash_of_the_server_has_kept_its_place(
    server: RunningServer,
) -> None:
    async with server.operator() as operator:
        jobs = [await operator.create("hang") for _ in range(3)]
    tokens = [await server.token_of(job) for job in jobs]
    async with server.client(tokens[0]) as one:
        await one.call("lock_files", paths=["a"])
    killed = server.worker_pid
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_broken_off, server, tokens[1])
        with server.rest() as rest:
            await until(lambda: "waiting" in rest.get("/api/locks").json()["locks"][0])
        os.kill(killed, signal.SIGKILL)
        await until(lambda: server.worker_pid != killed)
    async with (
        server.client(tokens[0]) as one,
        server.client(tokens[1]) as two,
        server.client(tokens[2]) as three,
    ):
        await one.call("release_files")
        refused = await three.call("lock_files", paths=["a"], wait_s=0)
        assert refused["locked"] == []
        assert [holder["is_waiting"] for holder in refused["held_by"]] == [True]
        mine = await two.call("lock_files", paths=["a"])
        assert len(mine["locked"]) == 1
        with pytest.raises(Refused, match="ttl_s"):
            await two.call("lock_files", paths=["a"], ttl_s=1)


async def _broken_off(server: RunningServer, token: str) -> None:
    """A call whose server is killed: how its client takes that is not of interest here."""
    try:
        async with server.client(token) as agent:
            await agent.client.call_tool("lock_files", {"paths": ["a"]})
    except Exception:  # whatever it makes of a connection that is gone
        return

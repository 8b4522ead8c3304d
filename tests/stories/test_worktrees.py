"""Jobs in worktrees of their own, through a real server: from creation to what is left of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.git.checkouts import Checkout, git
from tests.stories.server import Agent, Refused, RunningServer, until

pytestmark = pytest.mark.anyio

Start = Callable[..., RunningServer]
DRAFT = 'edit draft "written, but not committed"'


@pytest.fixture
def here(tmp_path: Path) -> Checkout:
    return Checkout.beside(tmp_path)


def is_there(path: str) -> bool:
    return Path(path).exists()


async def tree_of(operator: Agent, job_id: str) -> dict[str, str]:
    return (await operator.call("get_job", job_id=job_id))["worktree"]


async def test_two_jobs_side_by_side_do_not_see_each_other_and_leave_a_branch_each(
    server: RunningServer, here: Checkout
) -> None:
    async with server.operator() as operator:
        wishes = {"work_dir": str(here.top), "use_worktree": True}
        first = await operator.create("commit same.txt first", "finish Done.", **wishes)
        second = await operator.create("commit same.txt second", "finish Done.", **wishes)
        answers = await operator.outcome(first, second)
        trees = [await tree_of(operator, one) for one in (first, second)]
    assert [one["status"] for one in answers] == ["done", "done"]
    assert [one["branch"] for one in answers] == [one["branch"] for one in trees]
    contents = {here.shown(one["branch"], "same.txt") for one in trees}
    assert contents == {"first", "second"}
    assert git(here.top, "status", "--porcelain") == ""
    assert here.files("main") == {"read.me"}


async def test_a_lead_in_a_worktree_shares_it_or_gives_a_child_its_own(
    server: RunningServer, here: Checkout
) -> None:
    description = "\n".join(
        (
            "Lead.",
            '! commit lead.txt "from the lead"',
            '! call create_job {"description": "! commit shared.txt x\\n! finish shared"} as a',
            '! call create_job {"description": "! commit own.txt x\\n! finish own", '
            '"use_worktree": true} as b',
            '! call wait_for_jobs {"job_ids": ["${a.job_id}", "${b.job_id}"]}',
            "! finish ${a.job_id} ${b.job_id}",
        )
    )
    async with server.operator() as operator:
        made = await operator.call(
            "create_job", description=description, work_dir=str(here.top), use_worktree=True
        )
        (answer,) = await operator.outcome(made["job_id"])
        assert answer["status"] == "done", answer
        lead = await tree_of(operator, made["job_id"])
        shared, own = [await tree_of(operator, one) for one in answer["result"].split()]
    assert shared == lead
    assert here.files(lead["branch"]) == {"read.me", "lead.txt", "shared.txt"}
    assert {"read.me", "lead.txt", "own.txt"} <= here.files(own["branch"])
    assert own["base_branch"] == lead["branch"]


async def test_nothing_is_lost_when_its_time_is_over(start: Start, here: Checkout) -> None:
    server = start(worktree_retention="0")
    with server.rest() as rest:
        async with server.operator() as operator:
            job = await operator.create(
                "commit work.txt x",
                DRAFT,
                "finish Done.",
                work_dir=str(here.top),
                use_worktree=True,
            )
            await operator.outcome(job)
            tree = await tree_of(operator, job)
            await until(lambda: not is_there(tree["path"]))

        def removed() -> dict[str, str] | None:
            found = rest.get("/api/worktrees", params={"removed": True}).json()["worktrees"]
            return next((one for one in found if one["state"] == "removed"), None)

        await until(removed)
        told = removed()
        assert told is not None
        (ref,) = told["salvaged"]
        assert here.shown(ref, "draft") == "written, but not committed"
        assert here.shown(told["branch"], "work.txt") == "x"
        assert rest.get("/api/worktrees").json() == {"worktrees": []}
    assert git(here.top, "worktree", "list").count("\n") == 0


async def test_the_diff_of_each_attempt_is_kept(server: RunningServer, here: Checkout) -> None:
    with server.rest() as rest:
        async with server.operator() as operator:
            job = await operator.create(
                *("commit work.txt x", DRAFT, "crash SIGKILL"),
                *("on_resume", "edit more y", "finish Done."),
                work_dir=str(here.top),
            )
            await operator.outcome(job)
        path = f"/api/jobs/{job}/diff"
        await until(lambda: rest.get(path, params={"attempt": 2}).status_code == 200)
        first, last = rest.get(path, params={"attempt": 1}).json(), rest.get(path).json()
        assert rest.get(path, params={"attempt": 3}).status_code == 404
    assert (first["attempt"], first["commits"], last["attempt"]) == (1, 1, 2)
    assert (first["base_sha"], first["head_sha"]) == (here.wanted.base_sha, last["base_sha"])
    assert set(first["stat"].splitlines()) >= {"work.txt | +1 -0", "draft | +1 -0"}
    assert "+written, but not committed" in first["patch"]
    assert "more | +1 -0" in last["stat"].splitlines()
    assert "work.txt" not in last["stat"]


async def test_a_diff_that_a_killed_server_did_not_get_to_is_made_by_the_next_one(
    start: Start, here: Checkout
) -> None:
    server = start()
    async with server.operator() as operator:
        job = await operator.create("commit work.txt x", "hang", work_dir=str(here.top))
        agent = await server.agent_of(job)
        await until(lambda: (here.top / "work.txt").exists())
    server.process.kill()
    server.process.wait()
    agent.kill()
    server = start()
    with server.rest() as rest:
        path = f"/api/jobs/{job}/diff"
        await until(lambda: rest.get(path, params={"attempt": 1}).status_code == 200)
        found = rest.get(path, params={"attempt": 1}).json()
        assert (found["commits"], found["stat"]) == (1, "work.txt | +1 -0")
        rest.post(f"/api/jobs/{job}/cancel", json={})


async def test_who_asks_for_what_cannot_be_is_told_what_to_do(
    server: RunningServer, tmp_path: Path
) -> None:
    async with server.operator() as operator:
        with pytest.raises(Refused, match="needs a git repository"):
            await operator.create("finish Done.", work_dir=str(tmp_path), use_worktree=True)
        with pytest.raises(Refused, match="it needs `use_worktree`"):
            await operator.create("finish Done.", base_branch="main")

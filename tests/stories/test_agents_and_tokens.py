"""What an agent may do: its own subtree, its own attempt, and nothing once it is stale."""

from collections.abc import Callable

import anyio
import httpx2
import pytest

from tests.stories.server import Agent, Refused, RunningServer

pytestmark = pytest.mark.anyio


async def test_an_agent_sees_its_own_tree_only(server: RunningServer, mode: str) -> None:
    async with server.operator(mode) as operator:
        stranger = await operator.create("hang")
        job = await operator.create("hang")
        async with server.client(await server.token_of(job), mode) as agent:
            child = await agent.create("finish child")
            assert (await agent.outcome(child))[0]["result"] == "child"
            assert (await agent.call("get_job", job_id=job))["status"] == "running"
            listed = (await agent.call("list_jobs"))["jobs"]
            assert [one["job_id"] for one in listed] == [child]
            for tool in ("get_job", "cancel_job"):
                with pytest.raises(Refused, match="not_found"):
                    await agent.call(tool, job_id=stranger)
            with pytest.raises(Refused, match="not_found"):
                await agent.call("wait_for_jobs", job_ids=[child, stranger])
            with pytest.raises(Refused, match="ancestor"):
                await agent.create("finish x", depends_on=[job])


async def test_children_inherit_from_their_parents_job(
    server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("elsewhere")
    async with server.operator() as operator:
        job = await operator.create("hang", work_dir=str(folder), model="model-x", project="p")
        async with server.client(await server.token_of(job)) as agent:
            child = await agent.call("get_job", job_id=await agent.create("finish x"))
    assert (child["work_dir"], child["model"], child["project"]) == (str(folder), "model-x", "p")
    assert (child["provider"], child["parent_id"]) == ("scripted", job)


async def test_finishing_with_open_children_is_refused_unless_they_are_detached(
    server: RunningServer,
) -> None:
    async with server.operator() as operator:
        job = await operator.create("hang")
        async with server.client(await server.token_of(job)) as agent:
            child = await agent.create("hang")
            with pytest.raises(Refused, match=child):
                await agent.call("finish_job", result="x")
            done = await agent.call("finish_job", result="free", detach=True)
            assert done["status"] == "done"
        assert (await operator.call("get_job", job_id=child))["status"] in ("queued", "running")
        await operator.call("cancel_job", job_id=child)


async def test_finishing_twice_is_answered_kindly_and_changes_nothing(
    server: RunningServer,
) -> None:
    async with server.operator() as operator:
        job = await operator.create("hang")
        async with server.client(await server.token_of(job)) as agent:
            await agent.call("finish_job", result="the first")
            again = await agent.call("finish_job", result="the second", outcome="failed")
            assert "nothing changed" in again["note"]
            with pytest.raises(Refused, match="job_finished"):
                await agent.call("report_status", text="still here")
            assert (await agent.call("get_job", job_id=job))["result"] == "the first"


async def test_a_replayed_token_of_an_older_attempt_is_told_to_stop(server: RunningServer) -> None:
    async with server.operator() as operator:
        job = await operator.create("sleep 2", "on_resume", "hang")
        old = await server.token_of(job)
        await server.token_of(job, attempt=2)
        async with server.client(old) as zombie:
            calls: list[tuple[str, dict[str, object]]] = [
                ("finish_job", {"result": "I was first"}),
                ("report_status", {"text": "hello"}),
                ("create_job", {"description": "x"}),
                ("write_note", {"key": "k", "value": "v"}),
                ("list_jobs", {}),
                ("list_notes", {}),
            ]
            for tool, arguments in calls:
                with pytest.raises(Refused, match=r"stale_attempt.*Stop now"):
                    await zombie.call(tool, **arguments)
        assert (await operator.call("get_job", job_id=job))["status"] == "running"
        assert (await operator.call("list_notes"))["notes"] == []
        await operator.call("cancel_job", job_id=job)


async def test_a_runaway_tree_is_refused_at_creation(start: Callable[..., RunningServer]) -> None:
    server = start(max_depth="1", max_open_jobs="3")
    async with server.operator() as operator:
        job = await operator.create("hang")
        async with server.client(await server.token_of(job)) as agent:
            child = await agent.create("hang")
            async with server.client(await server.token_of(child)) as deeper:
                with pytest.raises(Refused, match="max_depth"):
                    await deeper.create("finish x")
            await agent.create("hang")
            await agent.create("hang")  # the third below the job itself
            with pytest.raises(Refused, match="max_open_jobs"):
                await agent.create("finish x")
        await operator.call("cancel_job", job_id=job)


async def test_an_agents_tools_fit_into_twenty_kilobytes(server: RunningServer, mode: str) -> None:
    async with server.operator(mode) as operator:
        job = await operator.create("hang")
        async with server.client(await server.token_of(job), mode) as agent:
            listed = await agent.client.list_tools()
        operators = {tool.name for tool in (await operator.client.list_tools()).tools}
        await operator.call("cancel_job", job_id=job)
    assert len(listed.model_dump_json(by_alias=True, exclude_none=True)) <= 20 * 1024
    agents = {tool.name for tool in listed.tools}
    assert agents - operators == {
        *("report_status", "finish_job", "ask_user"),
        *("lock_files", "release_files"),
    }
    assert operators - agents == {
        *("answer_question", "clear_model_limit", "dismiss_warning", "list_agents"),
        *("list_models", "set_model_limit"),
    }


async def test_without_a_known_token_nothing_is_answered(server: RunningServer) -> None:
    for token in ("", "Bearer wrong", f"Basic {server.token}"):
        headers = {"Authorization": token} if token else {}
        for path in ("/mcp", "/api/jobs", "/events", "/healthz"):
            answer = httpx2.get(server.url + path, headers=headers)
            assert answer.status_code == 401, path


async def test_notes_are_shared_within_a_project_and_watched(server: RunningServer) -> None:
    async with server.operator() as operator:
        job = await operator.create("hang")
        other = await operator.create("hang", project="another")
        async with (
            server.client(await server.token_of(job)) as agent,
            server.client(await server.token_of(other)) as stranger,
        ):
            seen: list[dict[str, object]] = []

            async def watch(watcher: Agent) -> None:
                answer = await watcher.call("watch_notes", prefix="plan/", timeout_s=30)
                seen.extend(answer["changed"])

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch, operator)
                await agent.call("write_note", key="plan/a", value="first we take Manhattan")
            assert [(one["key"], one["value"]) for one in seen] == [
                ("plan/a", "first we take Manhattan")
            ]
            assert (await agent.call("read_note", key="plan/a"))["author"] == job
            assert (await stranger.call("list_notes"))["notes"] == []
            known = await operator.call("watch_notes", prefix="", known={"plan/a": 1}, timeout_s=0)
            assert known["changed"] == []
        await operator.call("cancel_job", job_id=job)
        await operator.call("cancel_job", job_id=other)

"""Previews of merges over HTTP, of branches made by git itself."""

from pathlib import Path

import httpx2
import pytest

from tests.factories import add_branch_job, add_job
from tests.git.places import Place, git, new_place
from tests.web.site import Site

pytestmark = pytest.mark.anyio


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "work").mkdir()
    return new_place(tmp_path / "work")


async def job_on(site: Site, place: Place, branch: str, base: str | None = "main") -> str:
    return await site.db.write(lambda session: add_branch_job(session, place, branch, base))


async def test_a_branch_that_merges_has_counts_only(
    site: Site, operator: httpx2.AsyncClient, place: Place
) -> None:
    place.begin("work")
    git(place.folder, "checkout", "--quiet", "main")
    place.commit("Elsewhere", else_txt="x\n")
    job_id = await job_on(site, place, "work")
    answer = await operator.get(f"/api/jobs/{job_id}/merge-preview")
    assert answer.json() == {
        **{"job_id": job_id, "branch": "work", "base": "main", "ahead": 1, "behind": 1}
    }


async def test_conflicts_are_named(site: Site, operator: httpx2.AsyncClient, place: Place) -> None:
    place.begin("work", README_md="ours\n")
    git(place.folder, "checkout", "--quiet", "main")
    place.commit("Theirs", README_md="theirs\n")
    job_id = await job_on(site, place, "work")
    told = (await operator.get(f"/api/jobs/{job_id}/merge-preview")).json()
    assert told["conflicts"] == ["README.md"]


async def test_a_base_on_no_branch_is_a_commit(
    site: Site, operator: httpx2.AsyncClient, place: Place
) -> None:
    place.begin("work")
    job_id = await job_on(site, place, "work", base=None)
    told = (await operator.get(f"/api/jobs/{job_id}/merge-preview")).json()
    assert (told["base"], told["ahead"]) == (place.sha("main"), 1)


async def test_a_base_that_only_a_remote_has_is_named_with_it(
    site: Site, operator: httpx2.AsyncClient, place: Place
) -> None:
    place.remote()
    place.begin("work")
    git(place.folder, "push", "--quiet", "origin", "main:develop")
    git(place.folder, "fetch", "--quiet", "origin")
    told = await operator.get(
        f"/api/jobs/{await job_on(site, place, 'work', base='develop')}/merge-preview"
    )
    assert (told.json()["base"], told.json()["ahead"]) == ("origin/develop", 1)


async def test_without_a_worktree_or_its_branch_the_answer_says_so(
    site: Site, operator: httpx2.AsyncClient, place: Place
) -> None:
    plain = await site.db.write(lambda session: add_job(session).id)
    answer = await operator.get(f"/api/jobs/{plain}/merge-preview")
    assert answer.status_code == 422
    assert "has no worktree of its own" in answer.json()["message"]
    gone = await operator.get(f"/api/jobs/{await job_on(site, place, 'gone')}/merge-preview")
    assert (gone.status_code, gone.json()["error"]) == (409, "git")
    assert "there is no branch or commit 'gone'" in gone.json()["message"]
    unknown = await operator.get("/api/jobs/job_nothing/merge-preview")
    assert unknown.status_code == 404

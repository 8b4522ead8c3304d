"""Fixtures of the web edge's tests."""

from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import pytest

from hurlicane_mcp.store.database import Database
from tests.fakes import FakeClock
from tests.web.site import Site, running_site


@pytest.fixture
async def site(db: Database, clock: FakeClock, tmp_path: Path) -> AsyncGenerator[Site]:
    """The web edge on a socket of its own."""
    async with running_site(db, clock, tmp_path) as site:
        yield site


@pytest.fixture
async def operator(site: Site) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client with the operator's token."""
    async with site.client() as client:
        yield client

"""The web edge put together: one ASGI app, every route of it behind the guard."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp

from hurlicane_mcp.engine.feed import Feed
from hurlicane_mcp.engine.snapshot import Snapshots
from hurlicane_mcp.errors import HurlicaneError
from hurlicane_mcp.web.feed import FeedRoutes
from hurlicane_mcp.web.folders import FolderRoutes
from hurlicane_mcp.web.guard import Guard
from hurlicane_mcp.web.hooks import HookRoutes
from hurlicane_mcp.web.jobs import JobRoutes
from hurlicane_mcp.web.locks import LockRoutes
from hurlicane_mcp.web.merges import MergeRoutes
from hurlicane_mcp.web.messages import MessageRoutes
from hurlicane_mcp.web.models import ModelRoutes
from hurlicane_mcp.web.notes import NoteRoutes
from hurlicane_mcp.web.openapi import DocumentRoutes
from hurlicane_mcp.web.operations import Operations, routes_of
from hurlicane_mcp.web.problems import of_error, of_router
from hurlicane_mcp.web.questions import QuestionRoutes
from hurlicane_mcp.web.services import ServerFacts, Services
from hurlicane_mcp.web.status import StatusRoutes
from hurlicane_mcp.web.transcripts import TranscriptRoutes
from hurlicane_mcp.web.usage import UsageRoutes
from hurlicane_mcp.web.warnings import WarningRoutes
from hurlicane_mcp.web.workflows import WorkflowRoutes

__all__ = ["ServerFacts", "Services", "build_web", "operations_of"]


def build_web(services: Services, endpoint: ASGIApp, allowed_hosts: Sequence[str]) -> ASGIApp:
    """The app with *endpoint*, an object (Starlette takes a function for a handler), at `/mcp`.

    It answers to loopback names, to the host that it is bound to, and to *allowed_hosts*.
    """
    bound = urlsplit(services.facts.url).hostname or ""
    # The endpoint comes first: agents call nothing else.
    routes = [Route("/mcp", endpoint), *routes_of(operations_of(services))]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, services.access, (bound, *allowed_hosts))],
        exception_handlers={
            HTTPException: of_router,
            HurlicaneError: of_error,
            ClientDisconnect: of_error,  # nobody reads the answer, and nothing is at fault
            Exception: of_error,
        },
    )


def operations_of(services: Services) -> Operations:
    """Everything that can be done over HTTP, apart from `/mcp`."""
    feed = FeedRoutes(Feed(services.db), Snapshots(services.db, services.presences, services.slots))
    operations = (
        *JobRoutes(services.intake, services.jobs, services.waiting, services.why).operations,
        *TranscriptRoutes(services.transcripts).operations,
        *WorkflowRoutes(services.workflows).operations,
        *FolderRoutes(services.folders).operations,
        *NoteRoutes(services.notes).operations,
        *ModelRoutes(services.models).operations,
        *UsageRoutes(services.usage).operations,
        *MessageRoutes(services.messages).operations,
        *QuestionRoutes(services.questions).operations,
        *WarningRoutes(services.health).operations,
        *LockRoutes(services.locks).operations,
        *MergeRoutes(services.merges).operations,
        *HookRoutes(services.hooks, services.locks).operations,
        *feed.operations,
        *StatusRoutes(services).operations,
    )
    return (*operations, *DocumentRoutes(operations).operations)

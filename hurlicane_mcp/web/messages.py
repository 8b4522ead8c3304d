"""The routes about messages to agents."""

from pydantic import BaseModel
from starlette.responses import Response

from hurlicane_mcp.engine.messages import Messages
from hurlicane_mcp.engine.views import MessageView
from hurlicane_mcp.web.operations import Call, Input, Nothing, Operation, Operations, reply


class NewMessage(Input):
    """What to tell the agent of a job; at most 16 KiB."""

    text: str


class MessageList(BaseModel):
    """Messages to a job's agents, oldest first."""

    messages: list[MessageView]


class MessageRoutes:
    """Messages over HTTP."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages

    @property
    def operations(self) -> Operations:
        """What these routes can do."""
        path, none = "/api/jobs/{job_id}/messages", Nothing
        return (
            Operation("POST", path, self.send, none, NewMessage, MessageView, status=201),
            Operation("GET", path, self.listing, none, none, MessageList),
        )

    async def send(self, call: Call[Nothing, NewMessage]) -> Response:
        """Tell the agent of a job something; it reads that with its next tool call."""
        sent = await self._messages.send(call.caller, call.path("job_id"), call.body.text)
        return reply(sent, 201)

    async def listing(self, call: Call[Nothing, Nothing]) -> MessageList:
        """The newest 200 messages to the agents of a job, and how far each has got."""
        job_id = call.path("job_id")
        return MessageList(messages=await self._messages.listing(call.caller, job_id))

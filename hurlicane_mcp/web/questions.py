"""The routes about the questions of agents."""

from pydantic import BaseModel

from hurlicane_mcp.engine.questions import Questions
from hurlicane_mcp.engine.views import QuestionView
from hurlicane_mcp.web.operations import Call, Input, Nothing, Operation, Operations


class NewAnswer(Input):
    """The answer to a question: one of its choices, if it has any."""

    answer: str


class QuestionList(BaseModel):
    """Open questions, oldest first."""

    questions: list[QuestionView]


class QuestionRoutes:
    """Questions over HTTP."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions

    @property
    def operations(self) -> Operations:
        """What these routes can do."""
        path, none = "/api/questions", Nothing
        answer = f"{path}/{{question_id}}/answer"
        return (
            Operation("GET", path, self.listing, none, none, QuestionList),
            Operation("POST", answer, self.answer, none, NewAnswer, QuestionView),
        )

    async def listing(self, call: Call[Nothing, Nothing]) -> QuestionList:
        """The questions that agents wait to have answered."""
        return QuestionList(questions=await self._questions.listing(call.caller))

    async def answer(self, call: Call[Nothing, NewAnswer]) -> QuestionView:
        """Answer a question. 409 if it is answered already, or closed."""
        question_id = call.path("question_id")
        return await self._questions.answer(call.caller, question_id, call.body.answer)

"""The baseline: how tutorials serve a graph. FastAPI, `astream_events`, the PostgreSQL checkpointer, the stock client.

python -m bench.tutorial PORT DATABASE_URL MODEL_URL
"""

import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, SecretStr
from starlette.responses import StreamingResponse

from bench.graph import one_call

POOL_SIZE = 10
"""Slipway's default, so that the two have the same."""


class Question(BaseModel):
    question: str


def create_app(database_url: str, model_url: str) -> FastAPI:
    model = ChatOpenAI(model="fake-1", base_url=model_url, api_key=SecretStr("sk-1"), stream_usage=True)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        async with AsyncConnectionPool[AsyncConnection[DictRow]](database_url, max_size=POOL_SIZE, kwargs=options) as pool:
            saver = AsyncPostgresSaver(pool)
            await saver.setup()
            app.state.graph = one_call(model).compile(checkpointer=saver)
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        return {}

    @app.post("/chat/stream")
    async def stream(body: Question) -> StreamingResponse:
        config: RunnableConfig = {"configurable": {"thread_id": uuid.uuid4().hex}}

        async def events() -> AsyncIterator[str]:
            question = {"messages": [HumanMessage(body.question)]}
            async for event in app.state.graph.astream_events(question, config, version="v2"):
                if event["event"] == "on_chat_model_stream" and (text := event["data"]["chunk"].content):
                    yield f"data: {text}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    return app


if __name__ == "__main__":
    port, database_url, model_url = sys.argv[1:]
    uvicorn.run(create_app(database_url, model_url), port=int(port), loop="uvloop", log_level="warning")

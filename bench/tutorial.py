"""The baseline: how tutorials serve a graph. FastAPI, `astream_events`, the PostgreSQL checkpointer, the stock client.

python -m bench.tutorial PORT DATABASE_URL GRAPH      GRAPH: a function of bench/graph.py
"""

import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from bench import graph

POOL_SIZE = 10
"""Slipway's default, so that the two have the same."""


class Question(BaseModel):
    question: str
    session_id: str | None = None


def create_app(database_url: str, name: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        async with AsyncConnectionPool[AsyncConnection[DictRow]](database_url, max_size=POOL_SIZE, kwargs=options) as pool:
            saver = AsyncPostgresSaver(pool)
            await saver.setup()
            app.state.graph = getattr(graph, name)().compile(checkpointer=saver)
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        return {}

    @app.post("/chat/stream")
    async def stream(body: Question) -> StreamingResponse:
        config: RunnableConfig = {"configurable": {"thread_id": body.session_id or uuid.uuid4().hex}}

        async def events() -> AsyncIterator[str]:
            question = {"messages": [HumanMessage(body.question)]}
            async for event in app.state.graph.astream_events(question, config, version="v2"):
                if event["event"] == "on_chat_model_stream" and (text := event["data"]["chunk"].content):
                    yield f"data: {text}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    return app


if __name__ == "__main__":
    port, database_url, name = sys.argv[1:]
    uvicorn.run(create_app(database_url, name), port=int(port), loop="uvloop", log_level="warning")

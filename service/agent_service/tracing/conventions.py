"""Names that spans use: OpenTelemetry's conventions, and ours where it has none.

Those of generative AI (https://github.com/open-telemetry/semantic-conventions-genai) are still in development; when they
change, they change here.
"""

# Generative AI
OPERATION = "gen_ai.operation.name"
INVOKE_AGENT, CHAT, EXECUTE_TOOL = "invoke_agent", "chat", "execute_tool"
"""Operations; a span's name is its operation and the name of the agent, model or tool."""
PROVIDER = "gen_ai.provider.name"
AGENT_NAME = "gen_ai.agent.name"
CONVERSATION_ID = "gen_ai.conversation.id"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
TOOL_NAME = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
TOOL_CALL_ID = "gen_ai.tool.call.id"

# HTTP, databases, errors
HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
DB_SYSTEM = "db.system.name"
DB_BATCH_SIZE = "db.operation.batch.size"
ERROR_TYPE = "error.type"

# Ours
NODE = "langgraph.node"
RUN_ID = "slipway.run.id"
ATTEMPT = "slipway.run.attempt"
OUTCOME = "slipway.run.outcome"
STOPPED = "slipway.run.stopped"
COST_USD = "slipway.run.cost_usd"
BATCH_RUNS = "slipway.batch.runs"

NODE_SPAN, WRITE_SPAN = "node", "event log write"

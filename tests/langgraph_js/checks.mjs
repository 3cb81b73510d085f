// What @langchain/langgraph-sdk does under Node on the server of the first argument. Prints {check: "ok" or what went wrong}.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { argv, env, stdout } from "node:process";

const { Client } = createRequire(`${env.SDK}/`)("@langchain/langgraph-sdk");
const apiUrl = argv[2];
const client = new Client({ apiUrl, apiKey: "any-key", callerOptions: { maxRetries: 0 } });

const ask = (text, more = {}) => ({ input: { messages: [{ type: "human", content: text }] }, ...more });
const texts = (values) => values.messages.map((message) => message.content);
const newThread = async () => (await client.threads.create()).thread_id;

async function all(stream) {
  const parts = [];
  for await (const part of stream) if (part.event !== "end") parts.push(part);
  return parts;
}
const named = (parts, event) => parts.filter((part) => part.event === event).map((part) => part.data);
const status = (promise) => promise.then(() => 200, (error) => error.status ?? Number(/\d{3}/.exec(error.message)?.[0]));

const checks = {
  async assistants() {
    const [assistant] = await client.assistants.search({ graphId: "agent" });
    assert.equal((await client.assistants.get(assistant.assistant_id)).graph_id, "agent");
    assert.ok(await client.assistants.count());
    const schemas = await client.assistants.getSchemas(assistant.assistant_id);
    assert.ok(schemas.input_schema.properties.messages);
    const graph = await client.assistants.getGraph(assistant.assistant_id);
    assert.ok(graph.nodes.some((node) => node.id === "gate"));
    assert.deepEqual(Object.keys(await client.assistants.getSubgraphs(assistant.assistant_id)), ["child"]);
  },
  async threads() {
    const mark = randomUUID();
    const thread = await client.threads.create({ metadata: { mark }, graphId: "agent" });
    assert.equal(thread.status, "idle");
    assert.equal((await client.threads.get(thread.thread_id)).metadata.graph_id, "agent");
    await client.threads.update(thread.thread_id, { metadata: { more: 1 } });
    const [found] = await client.threads.search({ metadata: { mark }, sortBy: "updated_at", sortOrder: "desc" });
    assert.deepEqual(found.metadata, { mark, graph_id: "agent", more: 1 });
    assert.equal(await client.threads.count({ metadata: { mark } }), 1);
    assert.equal(await status(client.threads.create({ threadId: thread.thread_id })), 409);
    const same = await client.threads.create({ threadId: thread.thread_id, ifExists: "do_nothing" });
    assert.equal(same.thread_id, thread.thread_id);
    await client.threads.delete(thread.thread_id);
    assert.equal(await status(client.threads.get(thread.thread_id)), 404);
  },
  async wait() {
    const values = await client.runs.wait(await newThread(), "agent", ask("hello"));
    assert.deepEqual(texts(values), ["hello", "It is so."]);
  },
  async "wait without a thread"() {
    assert.deepEqual(texts(await client.runs.wait(null, "agent", ask("hello"))), ["hello", "It is so."]);
  },
  async "wait raises what failed"() {
    await assert.rejects(client.runs.wait(await newThread(), "agent", ask("fail")));
  },
  async stream() {
    const seen = [];
    const options = { streamMode: ["values", "updates", "messages-tuple", "custom"], onRunCreated: (run) => seen.push(run) };
    const thread = await newThread();
    const parts = await all(client.runs.stream(thread, "agent", ask("hello", options)));
    assert.equal(parts[0].event, "metadata");
    assert.deepEqual(seen, [{ run_id: parts[0].data.run_id, thread_id: thread }]);
    assert.equal(named(parts, "messages").map(([chunk]) => chunk.content).join(""), "It is so.");
    assert.deepEqual(texts(named(parts, "values").at(-1)), ["hello", "It is so."]);
    assert.deepEqual(named(parts, "updates").map((update) => Object.keys(update)[0]), ["gate", "chat"]);
    assert.equal((await client.runs.get(thread, parts[0].data.run_id)).status, "success");
  },
  async "stream of a subgraph"() {
    const options = { streamMode: ["updates"], streamSubgraphs: true };
    const parts = await all(client.runs.stream(await newThread(), "agent", ask("child", options)));
    assert.ok(parts.some((part) => part.event.startsWith("updates|child:")));
  },
  async "a failed stream"() {
    const parts = await all(client.runs.stream(await newThread(), "agent", ask("fail")));
    assert.ok(named(parts, "error")[0].message);
  },
  async "an interrupt and its answer"() {
    const thread = await newThread();
    const asked = await client.runs.wait(thread, "agent", ask("approve"));
    assert.deepEqual(asked.__interrupt__[0].value, { question: "Go on?" });
    assert.equal((await client.threads.get(thread)).status, "interrupted");
    const values = await client.runs.wait(thread, "agent", { command: { resume: "yes" } });
    assert.equal(values.note, "decided: yes");
  },
  async "state and history"() {
    const thread = await newThread();
    assert.deepEqual((await client.threads.getState(thread)).values, {});
    await client.runs.wait(thread, "agent", ask("hello"));
    const history = await client.threads.getHistory(thread);
    assert.equal(history.length, 4);
    const before = await client.threads.getHistory(thread, { before: { configurable: history[1].checkpoint } });
    assert.deepEqual(before.map((state) => state.checkpoint), history.slice(2).map((state) => state.checkpoint));
    await client.threads.updateState(thread, { values: { note: "mine" }, asNode: "gate" });
    const state = await client.threads.getState(thread);
    assert.deepEqual([state.values.note, state.next], ["mine", ["chat"]]);
    assert.equal(state.parent_checkpoint.checkpoint_id, history[0].checkpoint.checkpoint_id);
  },
  async "a fork from a checkpoint"() {
    const thread = await newThread();
    await client.runs.wait(thread, "agent", ask("hello"));
    const [last, before] = await client.threads.getHistory(thread);
    const values = await client.runs.wait(thread, "agent", { input: null, checkpoint: before.checkpoint });
    assert.notEqual(values.messages.at(-1).id, last.values.messages.at(-1).id);
  },
  async "a rejoined stream"() {
    const thread = await newThread();
    const run = await client.runs.create(thread, "agent", ask("slow 20", { streamMode: ["custom"], streamResumable: true }));
    const heard = [];
    for await (const part of client.runs.joinStream(thread, run.run_id, { lastEventId: "-1" })) {
      heard.push(part);
      if (part.data.tick === 5) break;
    }
    heard.push(...(await all(client.runs.joinStream(thread, run.run_id, { lastEventId: heard.at(-1).id }))));
    assert.deepEqual(named(heard, "custom").map(({ tick }) => tick), [...Array(20).keys()]);
    assert.equal(texts(await client.runs.join(thread, run.run_id)).at(-1), "slept");
  },
  async "a cancelled run"() {
    const thread = await newThread();
    const run = await client.runs.create(thread, "agent", ask("slow 200"));
    await client.runs.cancel(thread, run.run_id, true);
    assert.equal((await client.runs.get(thread, run.run_id)).status, "interrupted");
    assert.equal((await client.runs.list(thread)).length, 1);
  },
  async "a busy thread"() {
    const thread = await newThread();
    const run = await client.runs.create(thread, "agent", ask("slow 200"));
    assert.equal(await status(client.runs.create(thread, "agent", ask("second", { multitaskStrategy: "reject" }))), 409);
    await client.runs.cancel(thread, run.run_id, true);
  },
  async "a thread that is made by its run"() {
    const thread = randomUUID();
    assert.equal(await status(client.runs.wait(thread, "agent", ask("hello"))), 404);
    assert.deepEqual(texts(await client.runs.wait(thread, "agent", ask("hello", { ifNotExists: "create" }))).length, 2);
  },
  async "wrong requests"() {
    const thread = await newThread();
    assert.equal(await status(client.threads.get(randomUUID())), 404);
    assert.equal(await status(client.threads.get("no-uuid")), 422);
    assert.ok([404, 422].includes(await status(client.runs.wait(thread, "nobody", ask("hello")))));
    const both = ask("hello", { context: { tone: "a" }, config: { configurable: { tone: "b" } } });
    assert.equal(await status(client.runs.wait(thread, "agent", both)), 400);
  },
};

const results = await Promise.all(
  Object.entries(checks).map(async ([name, check]) => [name, await check().then(() => "ok", (error) => String(error.stack ?? error))]),
);
stdout.write(JSON.stringify(Object.fromEntries(results), null, 1));

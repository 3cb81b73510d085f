// Every public method of the released Client of @langchain/langgraph-sdk, called on the server of the first argument, and what is
// refused of it. Prints {name: "ok" or what went wrong}; a method that stands in neither list is one that nobody decided on.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { argv, env, stdout } from "node:process";

const { Client } = createRequire(`${env.SDK}/`)("@langchain/langgraph-sdk");
const client = new Client({ apiUrl: argv[2], apiKey: "any-key", callerOptions: { maxRetries: 0 } });
const { assistants, threads, runs, crons, store } = client;

const ask = (text, more = {}) => ({ input: { messages: [{ type: "human", content: text }] }, ...more });
const last = (values) => values.messages.at(-1).content;
const newThread = async () => (await threads.create()).thread_id;
const ended = async () => {
  const thread = await newThread();
  await runs.wait(thread, "agent", ask("hello"));
  return thread;
};
const going = async () => {
  const thread = await newThread();
  return [thread, (await runs.create(thread, "agent", ask("slow 200"))).run_id];
};
async function all(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}
const gone = async (promise) => assert.equal((await refusal(promise)).status, 404);
const made = (more = {}) => assistants.create({ graphId: "agent", name: "mine", metadata: { mark: randomUUID() }, ...more });
const yearly = (more = {}) => crons.create("agent", { schedule: "0 0 1 1 *", ...ask("hello"), metadata: { mark: randomUUID() }, ...more });

// What it answered that it refuses: its status and the fields of its JSON.
async function refusal(promise) {
  const error = await promise.then((value) => assert.fail(`expected a refusal, got ${JSON.stringify(value)}`), (caught) => caught);
  if (error instanceof assert.AssertionError) throw error;
  const [, status, text] = /HTTP (\d{3}): ?([^]*)/.exec(error.message) ?? [null, error.status, "{}"];
  let told = {};
  try {
    told = JSON.parse(text);
  } catch {
    assert.fail(`${status} with no JSON: ${text}`);
  }
  return { ...told, status: Number(status) };
}

const SUPPORTED = {
  async "assistants.get"() {
    const { assistant_id: id } = await made();
    assert.equal((await assistants.get(id)).name, "mine");
  },
  async "assistants.getGraph"() {
    assert.ok((await assistants.getGraph("agent", { xray: true })).nodes.length > 1);
  },
  async "assistants.getSchemas"() {
    assert.ok((await assistants.getSchemas("agent")).input_schema.properties.messages);
  },
  async "assistants.getSubgraphs"() {
    assert.deepEqual(Object.keys(await assistants.getSubgraphs("agent", { recurse: true })), ["child"]);
  },
  async "assistants.create"() {
    const id = randomUUID();
    const created = await made({ assistantId: id, context: { tone: "dry" } });
    assert.deepEqual([created.assistant_id, created.version, created.context], [id, 1, { tone: "dry" }]);
    assert.equal((await made({ assistantId: id, ifExists: "do_nothing" })).version, 1);
    assert.equal((await refusal(made({ assistantId: id }))).status, 409);
  },
  async "assistants.update"() {
    const { assistant_id: id } = await made();
    const changed = await assistants.update(id, { name: "other" });
    assert.deepEqual([changed.name, changed.version], ["other", 2]);
  },
  async "assistants.delete"() {
    const { assistant_id: id } = await made();
    await assistants.delete(id);
    await gone(assistants.get(id));
  },
  async "assistants.search"() {
    const { assistant_id: id, metadata } = await made();
    const found = await assistants.search({ metadata, limit: 5, sortBy: "created_at", sortOrder: "asc" });
    assert.deepEqual(found.map((each) => each.assistant_id), [id]);
    const page = await assistants.search({ metadata, limit: 1, includePagination: true });
    assert.equal(page.assistants.length, 1);
  },
  async "assistants.count"() {
    const { metadata } = await made();
    assert.equal(await assistants.count({ metadata }), 1);
  },
  async "assistants.getVersions"() {
    const { assistant_id: id } = await made();
    await assistants.update(id, { name: "other" });
    assert.deepEqual((await assistants.getVersions(id)).map((each) => each.version), [2, 1]);
  },
  async "assistants.setLatest"() {
    const { assistant_id: id } = await made();
    await assistants.update(id, { name: "other" });
    assert.equal((await assistants.setLatest(id, 1)).name, "mine");
  },

  async "threads.get"() {
    const thread = await newThread();
    assert.equal((await threads.get(thread)).thread_id, thread);
  },
  async "threads.create"() {
    const id = randomUUID();
    assert.equal((await threads.create({ threadId: id, metadata: { a: 1 }, graphId: "agent" })).thread_id, id);
    assert.equal((await threads.create({ threadId: id, ifExists: "do_nothing" })).metadata.a, 1);
    const updates = [{ values: { messages: [{ type: "human", content: "from elsewhere" }] }, asNode: "__start__" }];
    const { thread_id: moved } = await threads.create({ graphId: "agent", supersteps: [{ updates }] });
    assert.equal(last((await threads.getState(moved)).values), "from elsewhere");
  },
  async "threads.copy"() {
    const thread = await ended();
    const copy = await threads.copy(thread);
    assert.notEqual(copy.thread_id, thread);
    assert.equal(last((await threads.getState(copy.thread_id)).values), "It is so.");
  },
  async "threads.update"() {
    const thread = await newThread();
    assert.equal((await threads.update(thread, { metadata: { b: 2 } })).metadata.b, 2);
  },
  async "threads.delete"() {
    const thread = await newThread();
    await threads.delete(thread);
    await gone(threads.get(thread));
  },
  async "threads.prune"() {
    const [one, two] = [await newThread(), await newThread()];
    assert.deepEqual(await threads.prune([one, two]), { pruned_count: 2 });
    await gone(threads.get(one));
  },
  async "threads.search"() {
    const mark = randomUUID();
    const { thread_id: id } = await threads.create({ metadata: { mark } });
    const found = await threads.search({ metadata: { mark }, ids: [id], status: "idle", limit: 3, sortBy: "thread_id" });
    assert.deepEqual(found.map((each) => each.thread_id), [id]);
  },
  async "threads.count"() {
    const mark = randomUUID();
    await threads.create({ metadata: { mark } });
    assert.equal(await threads.count({ metadata: { mark }, status: "idle" }), 1);
  },
  async "threads.getState"() {
    const thread = await ended();
    const state = await threads.getState(thread);
    assert.equal(last(state.values), "It is so.");
    assert.deepEqual((await threads.getState(thread, state.checkpoint)).values, state.values);
    assert.deepEqual((await threads.getState(thread, state.checkpoint.checkpoint_id, { subgraphs: true })).values, state.values);
  },
  async "threads.updateState"() {
    const thread = await ended();
    const { checkpoint } = await threads.updateState(thread, { values: { note: "mine" }, asNode: "gate" });
    const state = await threads.getState(thread);
    assert.deepEqual([state.values.note, state.checkpoint.checkpoint_id], ["mine", checkpoint.checkpoint_id]);
  },
  async "threads.getHistory"() {
    const history = await threads.getHistory(await ended(), { limit: 2 });
    assert.deepEqual([history.length, history[0].next], [2, []]);
  },
  async "threads.joinStream"() {
    const [thread, run] = await going();
    for await (const part of threads.joinStream(thread)) {
      assert.equal(part.data.run_id, run);
      break;
    }
    await runs.cancel(thread, run, true);
  },
  async "threads.stream"() {
    const stream = threads.stream({ assistantId: "agent" });
    await stream.run.start(ask("hello"));
    const thread = stream.threadId;
    while ((await threads.get(thread)).status !== "idle" || !(await threads.getState(thread)).values.messages) await new Promise((done) => setTimeout(done, 50));
    assert.equal(last((await threads.getState(thread)).values), "It is so.");
    const first = (await threads.getHistory(thread)).at(-1).checkpoint.checkpoint_id;
    await stream.run.start(ask("instead", { forkFrom: first, multitaskStrategy: "enqueue" }));
    const words = async () => (await threads.getState(thread)).values.messages?.map((message) => message.content) ?? [];
    while ((await words()).length !== 2 || (await words())[0] !== "instead") await new Promise((done) => setTimeout(done, 50));
    await stream.close();
  },

  async "runs.stream"() {
    const parts = await all(runs.stream(await newThread(), "agent", ask("hello", { streamMode: "values" })));
    assert.equal(last(parts.filter((part) => part.event === "values").at(-1).data), "It is so.");
  },
  async "runs.create"() {
    const thread = await newThread();
    const run = await runs.create(thread, "agent", ask("hello", { metadata: { a: "b" }, durability: "sync" }));
    assert.deepEqual([run.thread_id, run.metadata.a], [thread, "b"]);
    await runs.join(thread, run.run_id);
  },
  async "runs.createBatch"() {
    const begun = await runs.createBatch([{ assistantId: "agent", ...ask("one") }, { assistantId: "agent", ...ask("two") }]);
    assert.equal(new Set(begun.map((run) => run.run_id)).size, 2);
    const late = { assistantId: "agent", afterSeconds: 3_600, multitaskStrategy: "reject", streamMode: ["values"], ...ask("later") };
    const [run] = await runs.createBatch([late]);
    assert.equal(run.status, "pending");
    await runs.cancel(run.thread_id, run.run_id, true);
    const { status, field } = await refusal(runs.createBatch([{ ...late, afterSeconds: -1 }]));
    assert.deepEqual([status, field], [422, "0.after_seconds"]);
  },
  async "runs.wait"() {
    assert.equal(last(await runs.wait(await newThread(), "agent", ask("hello"))), "It is so.");
  },
  async "runs.list"() {
    const thread = await ended();
    const [run] = await runs.list(thread, { limit: 1, status: "success" });
    assert.equal(run.thread_id, thread);
    assert.deepEqual(await runs.list(thread, { status: "error" }), []);
  },
  async "runs.get"() {
    const thread = await ended();
    const [run] = await runs.list(thread);
    assert.equal((await runs.get(thread, run.run_id)).status, "success");
  },
  async "runs.cancel"() {
    const [thread, run] = await going();
    await runs.cancel(thread, run, true, "rollback");
    await gone(runs.get(thread, run));
  },
  async "runs.cancelMany"() {
    const [thread, run] = await going();
    await runs.cancelMany({ threadId: thread, runIds: [run], action: "interrupt" });
    await runs.join(thread, run);
    assert.equal((await runs.get(thread, run)).status, "interrupted");
  },
  async "runs.join"() {
    const thread = await newThread();
    const { run_id: run } = await runs.create(thread, "agent", ask("hello"));
    assert.equal(last(await runs.join(thread, run)), "It is so.");
  },
  async "runs.joinStream"() {
    const thread = await newThread();
    const { run_id: run } = await runs.create(thread, "agent", ask("slow 3", { streamMode: ["custom"], streamResumable: true }));
    const parts = await all(runs.joinStream(thread, run, { lastEventId: "-1", streamMode: ["custom"] }));
    assert.deepEqual(parts.filter((part) => part.event === "custom").map((part) => part.data.tick), [0, 1, 2]);
  },
  async "runs.delete"() {
    const thread = await ended();
    const [run] = await runs.list(thread);
    await runs.delete(thread, run.run_id);
    await gone(runs.get(thread, run.run_id));
  },

  async "crons.create"() {
    const cron = await yearly({ timezone: "Europe/Paris", onRunCompleted: "keep" });
    assert.deepEqual([cron.schedule, cron.timezone, cron.enabled], ["0 0 1 1 *", "Europe/Paris", true]);
    await crons.delete(cron.cron_id);
  },
  async "crons.createForThread"() {
    const thread = await newThread();
    const cron = await crons.createForThread(thread, "agent", { schedule: "0 0 1 1 *", ...ask("hello") });
    assert.equal(cron.thread_id, thread);
    await crons.delete(cron.cron_id);
  },
  async "crons.update"() {
    const { cron_id: id } = await yearly();
    assert.equal((await crons.update(id, { enabled: false, schedule: "0 0 2 1 *" })).enabled, false);
    await crons.delete(id);
  },
  async "crons.delete"() {
    const { cron_id: id } = await yearly();
    await crons.delete(id);
    await gone(crons.delete(id));
  },
  async "crons.search"() {
    const { cron_id: id } = await yearly();
    assert.ok((await crons.search({ assistantId: "agent", limit: 100, sortBy: "created_at", sortOrder: "desc" })).some((each) => each.cron_id === id));
    await crons.delete(id);
  },
  async "crons.count"() {
    const { cron_id: id } = await yearly();
    assert.ok((await crons.count({ assistantId: "agent" })) >= 1);
    await crons.delete(id);
  },

  async "store.putItem"() {
    const place = ["put", randomUUID()];
    await store.putItem(place, "k", { a: 1 });
    assert.deepEqual((await store.getItem(place, "k")).value, { a: 1 });
  },
  async "store.getItem"() {
    const place = ["get", randomUUID()];
    assert.equal(await store.getItem(place, "k"), null);
    await store.putItem(place, "k", { a: 1 });
    assert.deepEqual((await store.getItem(place, "k")).namespace, place);
  },
  async "store.deleteItem"() {
    const place = ["delete", randomUUID()];
    await store.putItem(place, "k", { a: 1 });
    await store.deleteItem(place, "k");
    assert.equal(await store.getItem(place, "k"), null);
  },
  async "store.searchItems"() {
    const place = ["search", randomUUID()];
    await store.putItem(place, "k", { a: 1 });
    await store.putItem(place, "l", { a: 2 });
    assert.deepEqual((await store.searchItems(place, { filter: { a: { $gt: 1 } }, limit: 5 })).items.map((item) => item.key), ["l"]);
  },
  async "store.listNamespaces"() {
    const place = ["list", randomUUID(), "deep"];
    await store.putItem(place, "k", { a: 1 });
    assert.deepEqual((await store.listNamespaces({ prefix: place.slice(0, 2), maxDepth: 2, limit: 5 })).namespaces, [place.slice(0, 2)]);
  },
};

// What Slipway does not do: the answer's status, and the field that it names.
const REFUSED = {
  "threads.patchState": [422, "metadata", async () => threads.patchState(await newThread(), { a: 1 })],
  "assistants.search by values it does not know": [422, "sort_by", () => assistants.search({ sortBy: "nope" })],
  "threads.create with ttl": [422, "ttl", () => threads.create({ ttl: 5 })],
  "threads.create with a history and no graph": [422, "supersteps", () => threads.create({ supersteps: [{ updates: [{ values: {}, asNode: "gate" }] }] })],
  "threads.update with ttl": [422, "ttl", async () => threads.update(await newThread(), { metadata: {}, ttl: 5 })],
  "threads.prune of old states": [422, "strategy", async () => threads.prune([await newThread()], { strategy: "keep_latest" })],
  "threads.search by values": [422, "values", () => threads.search({ values: { note: "x" } })],
  "runs.create with a webhook": [422, "webhook", async () => runs.create(await newThread(), "agent", ask("hello", { webhook: "http://nobody.example/" }))],
  "runs.create with two rules": [422, "multitask_strategy", async () => runs.create(await newThread(), "agent", ask("hello", { multitaskStrategy: "nope" }))],
  "crons.create without a time": [422, "schedule", () => crons.create("agent", { schedule: "never", ...ask("hello") })],
  "store.putItem with an index": [422, "index", () => store.putItem(["a"], "k", { a: 1 }, { index: ["a"] })],
  "store.putItem with ttl": [422, "ttl", () => store.putItem(["a"], "k", { a: 1 }, { ttl: 5 })],
  "store.searchItems by meaning": [422, "query", () => store.searchItems(["a"], { query: "meaning" })],
};

// Methods of each part of the client, those left out that all parts inherit: they send what the others ask for.
function methods() {
  const inherited = new Set(Object.getOwnPropertyNames(Object.getPrototypeOf(Object.getPrototypeOf(store))));
  return Object.entries({ assistants, threads, runs, crons, store, ...publicParts() }).flatMap(([part, made]) => {
    const names = Object.getOwnPropertyNames(Object.getPrototypeOf(made)).filter((name) => !inherited.has(name));
    return names.map((name) => `${part}.${name}`);
  });
}
// `~` begins the name of what the SDK keeps to itself.
const publicParts = () => Object.fromEntries(Object.entries(client).filter(([name, part]) => !name.startsWith("~") && typeof part === "object"));

const results = {};
const decided = new Set([...Object.keys(SUPPORTED), ...Object.keys(REFUSED)]);
const known = new Set(methods());
for (const name of known) if (!decided.has(name)) results[name] = "nobody decided on this method: call it in SUPPORTED, or list it in REFUSED";
for (const name of Object.keys(SUPPORTED)) if (!known.has(name)) results[name] = "the SDK has it no more";

const late = () => new Promise((_, reject) => setTimeout(() => reject(new Error("no end after 20 s")), 20_000).unref());
const outcome = (promise) => Promise.race([promise, late()]).then(() => "ok", (error) => String(error.stack ?? error));
await Promise.all([
  ...Object.entries(SUPPORTED).map(async ([name, check]) => (results[name] ??= await outcome(check()))),
  ...Object.entries(REFUSED).map(async ([name, [status, field, call]]) => {
    const check = async () => {
      const told = await refusal(call());
      assert.deepEqual([told.status, told.field], [status, field]);
    };
    results[name] = await outcome(check());
  }),
]);
stdout.write(JSON.stringify({ results, methods: [...known] }), () => process.exit());

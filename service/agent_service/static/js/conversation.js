/* The conversation on the page: which session, which run is followed, what was asked before. */

import { backoff, call, pause, randomKey } from "./api.js";
import { decisionCard } from "./decisions.js";
import { byId, el } from "./dom.js";
import { keepAtEnd, log, problemCard, notify, setStatus, toEnd } from "./log.js";
import { RunView } from "./run.js";
import { listSessions, markCurrent, showSidebar } from "./sessions.js";

const TURNS_AT_ONCE = 20; // of a history: each press of "Show earlier" brings as many

export const page = { session: "", view: null, stream: null, sending: null, visit: 0 };

function setBusy(busy, status = "") {
  const focused = [byId("send"), byId("stop")].includes(document.activeElement);
  byId("stop").hidden = !busy;
  byId("stop").disabled = false;
  byId("send").hidden = busy;
  if (focused) byId("question").focus();
  setStatus(status);
}

const SAMPLES = ["How does a pod drain on SIGTERM?", "What did I spend today, by model?", "Save a note: the staging cluster is upgraded on Friday"];

function emptyHint() {
  const submit = (text) => () => { byId("question").value = text; byId("composer").requestSubmit(); };
  return el("div", { id: "empty" }, el("h2", {}, "Ask a question"), "Steps, sources and cost appear as the agent works.",
    el("div", { class: "row samples" }, ...SAMPLES.map((text) => el("button", { type: "button", onclick: submit(text) }, text))));
}

const turnOf = (question) => el("article", { class: "turn" },
  el("div", { class: "asked" }, el("div", { class: "question" }, el("span", { class: "sr" }, "You asked: "), question)));

function addTurn(question) {
  byId("empty")?.remove();
  const turn = turnOf(question);
  log.append(turn);
  toEnd();
  return turn;
}

/** Repeats a call that is safe to repeat until the server answers; says so meanwhile. */
async function untilAnswered(request, signal) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await request();
    } catch (problem) {
      if (problem.code !== "unreachable") throw problem;
      setStatus("Server unreachable, trying again…", true);
      await pause(backoff(tries), signal);
    }
  }
}

async function startRun(path, body) {
  const headers = { Prefer: "respond-async", "Idempotency-Key": randomKey() };
  const { signal } = page.sending = new AbortController();
  setBusy(true, "Sending…");
  try {
    return await untilAnswered(() => call("POST", path, { body, headers, signal }), signal);
  } finally {
    page.sending = null;
    setBusy(false);
  }
}

export async function ask(question) {
  const { visit } = page;
  const turn = addTurn(question);
  try {
    const run = await startRun("chat", { question, ...(page.session && { session_id: page.session }) });
    if (visit !== page.visit) return;
    enter(run.session_id);
    follow(turn, run.run_id, question);
    listSessions(() => page.session);
  } catch (problem) {
    if (visit === page.visit) refuse(turn, question, problem);
  }
}

function refuse(turn, question, problem) {
  const retry = () => { turn.remove(); ask(question); };
  const again = problem.retryable || problem.code === "unauthenticated";
  if (!again) byId("question").value ||= question; // to be edited, not typed again
  if (problem.name === "AbortError") turn.remove();
  else keepAtEnd(() => turn.append(problemCard(problem, again ? retry : null)));
}

/** Makes the address name the session, without loading it again. */
function enter(session) {
  if (page.session !== session) history.pushState(null, "", `#${session}`);
  page.session = session;
}

function follow(turn, runId, question) {
  const view = page.view = new RunView(runId, { retry: question && (() => ask(question)) });
  keepAtEnd(() => turn.append(view.root));
  setBusy(true, "Working…");
  page.stream = view.watch({
    link: (up) => setStatus(up ? "Working…" : "Reconnecting…", !up),
    done: () => {
      leaveRun();
      if (view.interrupts?.length) waitForDecision(turn, view);
      listSessions(() => page.session);
    },
  });
}

function holdQuestions(hold) {
  byId("question").disabled = byId("send").disabled = hold;
  byId("question").placeholder = hold ? "Decide above before the next question" : "Ask a question";
}

function waitForDecision(turn, view) {
  setStatus("Waiting for your decision", true);
  holdQuestions(true);
  const card = decisionCard(view.interrupts, async (body) => {
    const { visit } = page;
    const run = await startRun(`runs/${view.runId}/resume`, body);
    if (visit !== page.visit) return;
    holdQuestions(false);
    const said = [...card.querySelectorAll(".review [role=status]")].map((status) => status.textContent).join(" ");
    card.replaceWith(el("p", { class: "note" }, said));
    follow(turn, run.run_id);
    byId("question").focus();
  });
  keepAtEnd(() => turn.append(card));
  card.focus();
}

function leaveRun() {
  page.stream?.close();
  Object.assign(page, { stream: null, view: null });
  holdQuestions(false);
  setBusy(false);
}

export async function stop() {
  if (page.sending) return page.sending.abort();
  byId("stop").disabled = true;
  byId("question").focus(); // a button that is gone takes the focus with it
  setStatus("Stopping…");
  return call("POST", `runs/${page.view.runId}/cancel`).catch((problem) => { byId("stop").disabled = false; notify(problem); });
}

export function newSession() {
  history.pushState(null, "", "#");
  openSession("");
  byId("question").focus();
}

export async function openSession(session) {
  const visit = page.visit += 1;
  page.sending?.abort();
  leaveRun();
  page.session = session;
  byId("notices").replaceChildren();
  showSidebar(false);
  markCurrent(session);
  if (!session) return log.replaceChildren(emptyHint());
  setStatus("Loading…");
  try {
    const past = await untilAnswered(() => call("GET", `sessions/${encodeURIComponent(session)}/messages`));
    if (visit === page.visit) { setStatus(""); showHistory(past); }
  } catch (problem) {
    if (visit === page.visit) { setStatus(""); log.replaceChildren(problemCard(problem, () => openSession(session))); }
  }
  return null;
}

/** Turns of a history: a question, and the runs that answered it. */
function turnsOf(messages) {
  const turns = [];
  for (const message of messages) {
    if (message.role === "user" || !turns.length) turns.push({ question: message.role === "user" ? message.content : "", runs: [] });
    if (message.role !== "user") turns.at(-1).runs.push(message);
  }
  return turns;
}

function showHistory({ messages, active_run_id: active, interrupted }) {
  const turns = turnsOf(messages);
  log.replaceChildren();
  const earlier = el("button", { type: "button", class: "earlier" });
  const showEarlier = () => {
    const shown = turns.splice(-TURNS_AT_ONCE).map((turn) => pastTurn(turn));
    const height = log.scrollHeight;
    earlier.after(...shown.map(({ root }) => root));
    log.scrollTop += log.scrollHeight - height;
    earlier.hidden = !turns.length;
    earlier.textContent = `Show earlier turns (${turns.length})`;
    return shown.at(-1);
  };
  earlier.onclick = showEarlier;
  log.append(earlier);
  const last = showEarlier();
  if (active) follow(last?.root ?? addTurn(""), active, last?.question);
  else if (interrupted && last?.view) waitForDecision(last.root, Object.assign(last.view, { interrupts: interrupted.interrupts }));
  requestAnimationFrame(toEnd);
}

function pastTurn({ question, runs }) {
  const root = turnOf(question);
  let view = null;
  for (const message of runs) {
    view = new RunView(message.run_id, { score: message.feedback });
    view.setText(message.content);
    view.finish({ outcome: message.outcome });
    root.append(view.root);
  }
  return { root, view, question };
}

/* The conversation on the page: which session, which run is followed, what is asked next. */

import { backoff, call, pause, randomKey } from "./api.js";
import { decisionCard } from "./decisions.js";
import { byId, el } from "./dom.js";
import { facts, welcome } from "./facts.js";
import { keepFiles, offerFiles, sendable } from "./files.js";
import { showTurns, turnsOf } from "./history.js";
import { keepAtEnd, log, problemCard, notify, setStatus, toEnd } from "./log.js";
import { RunView } from "./run.js";
import { activeAt, graphOf, listSessions, markCurrent, showSidebar } from "./sessions.js";
import { tellTabs } from "./tabs.js";
import { makeTurn } from "./turn.js";

/**
 * @type {{ session: string, graph: string | undefined, turns: Turn[], view: RunView | null,
 *   stream: import("./stream.js").RunStream | null, sending: AbortController | null, visit: number }}
 */
export const page = { session: "", graph: facts.graphs[0]?.name, turns: [], view: null, stream: null, sending: null, visit: 0 };

export const refreshList = () => listSessions(() => page.session).then(showGraph);

const busy = () => page.view || page.sending || byId("question").disabled;

function setBusy(working, status = "") {
  const focused = [byId("send"), byId("stop")].some((button) => button === document.activeElement);
  byId("stop").hidden = !working;
  byId("stop").disabled = false;
  byId("send").hidden = working;
  if (focused) byId("question").focus();
  setStatus(status);
}

/** Which graph answers: chosen for a new session, and its own in one that is there. */
function showGraph() {
  const own = page.session && (graphOf(page.session) || page.graph);
  byId("graph").value = own || page.graph || "";
  byId("graph").disabled = Boolean(page.session);
  offerFiles(byId("graph").value);
}

export function chooseGraph(name) {
  page.graph = name;
  offerFiles(name);
  if (!page.session && !page.turns.length) showWelcome();
}

function showWelcome() {
  log.replaceChildren(welcome(page.graph, (text) => { byId("question").value = text; byId("composer").requestSubmit(); }));
}

function addTurn(question, files = []) {
  byId("empty")?.remove();
  const turn = newTurn(question, files);
  page.turns.push(turn);
  log.append(turn.root);
  toEnd();
  return turn;
}

function newTurn(question, files) {
  /** @type {Turn} */
  const turn = makeTurn(question, { files, edit: (text) => askInstead(turn, text) });
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

/**
 * Asks; with `replaces`, in place of an earlier turn and all behind it.
 * @param {string} question
 * @param {Turn | null} replaces
 * @param {AskedFile[]} files
 */
export async function ask(question, replaces = null, files = []) {
  const { visit } = page;
  const gone = replaces ? page.turns.splice(page.turns.indexOf(replaces)) : [];
  for (const { root } of gone) root.hidden = true;
  const turn = addTurn(question, files);
  byId("composer").dataset.asked = question; // kept, if one has to sign in first
  const where = page.session ? { session_id: page.session } : { graph: page.graph };
  try {
    const given = files.length ? { files: await sendable(files) } : {};
    const run = await startRun("chat", { question, ...given, ...where, ...(replaces && { replaces: replaces.run }) });
    if (visit !== page.visit) return;
    for (const { root } of gone) root.remove();
    enter(run.session_id);
    follow(turn, run.run_id);
    tellTabs(run.session_id);
    refreshList();
  } catch (problem) {
    if (visit !== page.visit) return;
    for (const { root } of gone) root.hidden = false;
    page.turns.splice(page.turns.indexOf(turn), 1, ...gone);
    refuse(turn, question, problem, replaces);
  } finally {
    delete byId("composer").dataset.asked;
  }
}

/**
 * Another question in place of a turn, or the same for another answer.
 * @param {Turn} turn
 * @param {string} question
 */
function askInstead(turn, question) {
  if (busy()) return setStatus("Wait for the answer, or stop it first", true);
  return turn.run ? ask(question, turn, turn.files) : undefined;
}

function refuse(turn, question, problem, replaces) {
  const retry = () => { turn.root.remove(); ask(question, replaces, turn.files); };
  const again = problem.retryable || problem.code === "unauthenticated";
  if (!again) {
    byId("question").value ||= question; // to be edited, not typed again
    if (!replaces) keepFiles(turn.files);
  }
  if (problem.name === "AbortError") turn.root.remove();
  else keepAtEnd(() => turn.root.append(problemCard(problem, again ? retry : null)));
}

/** Makes the address name the session, without loading it again. */
function enter(session) {
  if (page.session !== session) history.pushState(null, "", `#${session}`);
  page.session = session;
}

function follow(turn, runId) {
  turn.began(runId);
  const view = page.view = new RunView(runId, { again: turn.question && (() => askInstead(turn, turn.question)) });
  keepAtEnd(() => turn.root.append(view.root));
  setBusy(true, "Working…");
  page.stream = view.watch({
    link: (up) => setStatus(up ? "Working…" : "Reconnecting…", !up),
    done: () => {
      leaveRun();
      if (view.interrupts.length) waitForDecision(turn, view);
      refreshList();
    },
  });
}

function holdQuestions(hold) {
  byId("question").disabled = byId("send").disabled = hold;
  byId("question").placeholder = hold ? "Decide above before the next question" : "Ask a question";
}

/** @param {Turn} turn @param {{ runId: string, interrupts: Interrupt[] }} waits */
function waitForDecision(turn, { runId, interrupts }) {
  setStatus("Waiting for your decision", true);
  holdQuestions(true);
  const card = decisionCard(interrupts, async (body) => {
    const { visit } = page;
    const run = await startRun(`runs/${runId}/resume`, body);
    if (visit !== page.visit) return;
    holdQuestions(false);
    const said = [...card.querySelectorAll(".review [role=status]")].map((status) => status.textContent).join(" ");
    card.replaceWith(el("p", { class: "note" }, said));
    follow(turn, run.run_id);
    tellTabs(page.session);
    byId("question").focus();
  });
  keepAtEnd(() => turn.root.append(card));
  if (document.hasFocus()) card.focus();
}

function leaveRun() {
  page.stream?.close();
  Object.assign(page, { stream: null, view: null });
  holdQuestions(false);
  setBusy(false);
}

export async function stop() {
  if (page.sending) return page.sending.abort();
  if (!page.view) return undefined;
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

/** Another tab changed a session: shows it anew, unless a run of it is followed here, which shows it already. */
export async function refresh(session) {
  await refreshList();
  if (session === page.session && session && !page.view && !page.sending) await openSession(session);
}

/** The page is looked at again: somebody may have gone on elsewhere. */
export async function lookAgain() {
  const before = activeAt(page.session);
  await refreshList();
  if (before && activeAt(page.session) !== before && !page.view && !page.sending) await openSession(page.session);
}

export async function openSession(session) {
  const visit = page.visit += 1;
  page.sending?.abort();
  leaveRun();
  Object.assign(page, { session, turns: [] });
  byId("notices").replaceChildren();
  showSidebar(false);
  markCurrent(session);
  showGraph();
  log.dispatchEvent(new CustomEvent("opened"));
  if (!session) return showWelcome();
  setStatus("Loading…");
  try {
    const past = await untilAnswered(() => messagesOf(session));
    if (visit === page.visit) { setStatus(""); showHistory(past); }
  } catch (problem) {
    if (visit === page.visit) { setStatus(""); log.replaceChildren(problemCard(problem, () => openSession(session))); }
  }
  return undefined;
}

const messagesOf = (session, before) =>
  call("GET", `sessions/${encodeURIComponent(session)}/messages${before ? `?before=${before}` : ""}`);

const pastTurns = (messages) => turnsOf(messages).map(({ question, files, ...rest }) => ({ turn: newTurn(question, files), ...rest }));

/** What showTurns takes to bring the turns before that run. */
function earlierThan(run) {
  const { session, visit } = page;
  return run && (async () => {
    const { messages, earlier } = await messagesOf(session, run);
    const turns = visit === page.visit ? pastTurns(messages) : [];
    page.turns.unshift(...turns.map(({ turn }) => turn));
    return { turns, fetchEarlier: earlierThan(earlier) };
  });
}

function showHistory({ messages, active_run_id: active, interrupted, earlier }) {
  const past = pastTurns(messages);
  page.turns = past.map(({ turn }) => turn);
  showTurns(past, askInstead, earlierThan(earlier));
  const last = page.turns.at(-1);
  if (active) follow(last ?? addTurn(""), active);
  else if (interrupted && last) waitForDecision(last, { runId: interrupted.run_id, interrupts: interrupted.interrupts });
  requestAnimationFrame(toEnd);
}

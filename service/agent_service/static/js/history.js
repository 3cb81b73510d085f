/* What was said before: the last turns of a session, and earlier ones on request. */

import { decidedInWords } from "./decisions.js";
import { el } from "./dom.js";
import { log, notify } from "./log.js";
import { RunView } from "./run.js";

const TURNS_AT_ONCE = 20; // each press of "Show earlier" brings as many

/**
 * Turns of a history: a question with the run that it began, and the runs that answered it.
 * @param {Message[]} messages
 */
export function turnsOf(messages) {
  /** @type {{ question: string, files: AskedFile[], run: string, runs: Message[] }[]} */
  const turns = [];
  for (const message of messages) {
    if (message.role === "user" || !turns.length) {
      const files = (message.files ?? []).map((file, number) => ({ ...file, run: message.run_id, number }));
      turns.push({ question: message.role === "user" ? message.content : "", files, run: message.run_id, runs: [] });
    }
    if (message.role !== "user") turns[turns.length - 1].runs.push(message);
  }
  return turns;
}

/**
 * Fills the log with the last of these turns. `askInstead(turn, question)` replaces one. `fetchEarlier()` brings those before
 * them; null: there are none.
 * @typedef {() => Promise<{ turns: PastTurn[], fetchEarlier: Fetch | null }>} Fetch
 * @param {PastTurn[]} turns
 * @param {(turn: Turn, question: string) => unknown} askInstead
 * @param {Fetch | null} fetchEarlier
 */
export function showTurns(turns, askInstead, fetchEarlier) {
  const waiting = [...turns];
  const earlier = el("button", { type: "button", class: "earlier" });
  const bring = async () => {
    if (!fetchEarlier) return;
    earlier.disabled = true;
    try {
      const before = await fetchEarlier();
      waiting.push(...before.turns);
      fetchEarlier = before.fetchEarlier;
      showEarlier();
    } catch (problem) {
      notify(problem);
    } finally {
      earlier.disabled = false;
    }
  };
  const showEarlier = () => {
    const shown = waiting.splice(-TURNS_AT_ONCE).map((each) => fill(each, askInstead));
    const height = log.scrollHeight;
    earlier.after(...shown);
    log.scrollTop += log.scrollHeight - height;
    earlier.hidden = !waiting.length && !fetchEarlier;
    earlier.textContent = waiting.length ? `Show earlier turns (${waiting.length}${fetchEarlier ? " and more" : ""})` : "Show earlier turns";
  };
  earlier.onclick = () => (waiting.length ? showEarlier() : bring());
  log.replaceChildren(earlier);
  showEarlier();
}

function fill({ turn, run, runs }, askInstead) {
  turn.began(run);
  for (const message of runs) {
    const view = new RunView(message.run_id, { score: message.feedback, again: turn.question && (() => askInstead(turn, turn.question)) });
    view.setText(message.content);
    for (const source of message.sources ?? []) view.sources.add(source);
    view.finish({ outcome: message.outcome });
    if (message.decided?.length) turn.root.append(el("p", { class: "note" }, message.decided.map(decidedInWords).join(" ")));
    turn.root.append(view.root);
  }
  return turn.root;
}

/* Where the conversation scrolls, and what the page says about itself. */

import { byId, el } from "./dom.js";
import { inWords } from "./words.js";

const NEAR = 80; // pixels from the end within which the log follows what is added

export const log = byId("log");
export const toEnd = () => { log.scrollTop = log.scrollHeight; };
const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < NEAR;

export function keepAtEnd(change) {
  const follow = atEnd();
  change();
  if (follow) toEnd();
  showJump();
}

function showJump() { byId("latest").hidden = atEnd(); }

log.addEventListener("scroll", showJump, { passive: true });
byId("latest").onclick = () => { toEnd(); byId("question").focus(); };

export const notify = (problem) => byId("notices").replaceChildren(problemCard(problem));

export function setStatus(text, warn = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("warn", warn);
}

/**
 * @param {{ code: string, message: string, retryAfter?: number }} problem
 * @param {(() => unknown) | null} [retry] it gets a button for it
 */
export function problemCard(problem, retry) {
  const card = el("div", { class: "card error", role: "alert" }, el("p", {}, inWords(problem)));
  if (!retry) return card;
  const wait = problem.retryAfter ?? 0;
  const button = el("button", { type: "button", disabled: wait > 0, onclick: () => { card.remove(); retry(); } }, wait ? `Retry in ${wait} s` : "Retry");
  if (wait) setTimeout(() => Object.assign(button, { disabled: false, textContent: "Retry" }), wait * 1000);
  card.append(el("div", { class: "row" }, button));
  return card;
}

/* Where the conversation scrolls, and what the page says about itself. */

import { byId, el } from "./dom.js";

export const log = byId("log");
export const toEnd = () => { log.scrollTop = log.scrollHeight; };

export function keepAtEnd(change) {
  const follow = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  change();
  if (follow) toEnd();
}

export const notify = (problem) => byId("notices").replaceChildren(problemCard(problem));

export function setStatus(text, warn = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("warn", warn);
}

export function problemCard(problem, retry) {
  const card = el("div", { class: "card error", role: "alert" }, el("p", {}, el("b", {}, problem.code ?? "error"), ` ${problem.message}`));
  if (!retry) return card;
  const wait = problem.retryAfter ?? 0;
  const button = el("button", { type: "button", disabled: wait > 0, onclick: () => { card.remove(); retry(); } }, wait ? `Retry in ${wait} s` : "Retry");
  if (wait) setTimeout(() => Object.assign(button, { disabled: false, textContent: "Retry" }), wait * 1000);
  card.append(el("div", { class: "row" }, button));
  return card;
}

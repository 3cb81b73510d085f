/* What a run waits for, as forms: approvals of tools, or any value that a graph asks for. */

import { clip, el, openForm, pretty } from "./dom.js";
import { problemCard } from "./log.js";

const MAX_SAID = 500; // characters of an answer that was given

/** Card for what a run waits for; `submit(body)` rejects with a Problem when the server refuses. */
export function decisionCard(interrupts, submit) {
  const card = el("div", { class: "card decision", role: "group", "aria-label": "Decision needed", tabIndex: -1 });
  const enable = (on) => {
    for (const control of /** @type {NodeListOf<HTMLButtonElement | HTMLTextAreaElement>} */ (card.querySelectorAll("button, textarea"))) control.disabled = !on;
  };
  const answers = new Map();
  const answer = (id) => async (value) => {
    answers.set(id, value);
    if (answers.size < interrupts.length) return;
    enable(false);
    card.querySelector(".error")?.remove();
    await submit(resumeBody(interrupts, answers)).catch((problem) => { enable(true); card.append(problemCard(problem)); });
  };
  card.append(...interrupts.flatMap(({ id, value }) => reviews(value, answer(id))));
  return card;
}

/** Forms for one interrupt: LangChain's approvals (several actions, or one), or any JSON value of a graph's own. */
function reviews(value, answer) {
  if (value?.type === "tool_approval") return [actionReview(value, undefined, answer)];
  if (!value?.action_requests) return [valueForm(value, answer)];
  const decisions = value.action_requests.map(() => null);
  return value.action_requests.map((request, at) => {
    const config = value.review_configs?.find(({ action_name: name }) => name === request.name);
    return actionReview(request, config?.allowed_decisions, (decision) => {
      decisions[at] = decision;
      if (decisions.every(Boolean)) answer({ decisions });
    });
  });
}

function resumeBody(interrupts, answers) {
  if (interrupts.length > 1) return { values: Object.fromEntries(answers) };
  const [answer] = answers.values();
  return interrupts[0].value?.action_requests ? answer : { value: answer };
}

const DECIDED = { approve: "Approved.", edit: "Approved with edited arguments.", reject: "Rejected.", respond: "Answered in its place." };

/** What was decided, as the service keeps it: an answer of `reviews`. */
export function decidedInWords(value) {
  if (!Array.isArray(value?.decisions)) return DECIDED[value?.type] ?? `Answer: ${clip(pretty(value), MAX_SAID)}`;
  return value.decisions.map(({ type, message }) => [DECIDED[type] ?? "Decided.", message && `“${clip(pretty(message), MAX_SAID)}”`].filter(Boolean).join(" ")).join(" ");
}

function actionReview({ name, args, description = "" }, allowed = ["approve", "edit", "reject"], decide) {
  const form = el("form", { hidden: true });
  const choice = el("span", { class: "row choice" });
  const chosen = el("span", { class: "muted", role: "status" });
  const show = (asking) => { form.hidden = !asking; choice.hidden = asking; };
  const settle = (decision) => { show(false); chosen.textContent = DECIDED[decision.type]; decide(decision); };
  const ask = (label, verb, cancel, take, text) => ({ currentTarget: button }) => {
    show(true);
    openForm(form, { label, verb, cancel, take, text, close: () => { show(false); button.focus(); } });
  };
  const offers = {
    approve: ["Approve", () => settle({ type: "approve" })],
    edit: ["Edit", ask("Arguments (JSON)", "Approve edited", "Cancel edit", (text) => settle({ type: "edit", edited_action: { name, args: jsonObject(text) } }), pretty(args))],
    reject: ["Reject", ask("Reason, for the agent (optional)", "Reject", "Cancel", (text) => settle({ type: "reject", message: text || undefined }))],
    respond: ["Answer", ask("What the agent gets in place of the tool's output", "Answer", "Cancel", (text) => settle({ type: "respond", message: text }))],
  };
  choice.append(...allowed.filter((type) => offers[type]).map((type) => el("button", {
    type: "button", class: type === "approve" ? "primary" : "", onclick: offers[type][1],
  }, offers[type][0])));
  const says = description.startsWith("Tool execution requires approval") ? null : el("p", {}, description); // which says nothing more
  return el("div", { class: "review" }, el("p", {}, el("b", {}, "Approve "), el("code", {}, name), el("b", {}, "?")), says,
    el("pre", { tabIndex: 0 }, pretty(args)), el("div", { class: "row" }, choice, chosen), form);
}

function jsonObject(text) {
  const value = JSON.parse(text);
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Error("the arguments are a JSON object");
  return value;
}

function valueForm(value, answer) {
  const form = el("form");
  const sent = el("span", { class: "muted", role: "status" });
  const take = (text) => {
    let given = text;
    try { given = JSON.parse(text); } catch { /* plain text, then */ }
    sent.textContent = `Answer: ${text}`;
    answer(given);
  };
  openForm(form, { label: "Your answer (text, or JSON where it is valid JSON)", verb: "Send answer", take });
  return el("div", { class: "review" }, el("p", {}, el("b", {}, "The agent asks")), el("pre", { tabIndex: 0 }, pretty(value)), form, sent);
}

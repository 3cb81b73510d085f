/* One run as it is seen: its steps, its answer with sources, what it cost, and the thumbs. */

import { Answer } from "./answer.js";
import { call } from "./api.js";
import { copyButton } from "./clipboard.js";
import { el, icon, openForm } from "./dom.js";
import { keepAtEnd, log, notify, problemCard } from "./log.js";
import { Problem } from "./problem.js";
import { Progress } from "./progress.js";
import { Sources } from "./sources.js";
import { Steps } from "./steps.js";
import { RunStream } from "./stream.js";
import { outcomeInWords } from "./words.js";

export class RunView {
  /**
   * @param {string} runId
   * @param {{ score?: 0 | 1 | null, again?: (() => unknown) | null }} [options] `score` is the thumb it was given; `again()` asks its question anew
   */
  constructor(runId, { score = null, again = null } = {}) {
    this.runId = runId;
    this.score = score;
    this.again = again;
    this.text = "";
    this.attempt = 1;
    /** @type {Interrupt[]} */
    this.interrupts = [];
    /** @type {RunUsage | undefined} */
    this.usage = undefined;
    /** @type {Problem | undefined} */
    this.problem = undefined;
    this.steps = new Steps();
    this.progress = new Progress();
    this.answer = new Answer();
    this.sources = new Sources(runId);
    this.extra = el("div");
    this.footer = el("div");
    this.root = el("section", { class: "run", "aria-label": "Answer" }, this.steps.root, this.progress.root, this.answer.root, this.sources.root, this.extra, this.footer);
  }

  /** @param {string} kind one of stream.js's KINDS @param {any} data */
  event(kind, data) { /** @type {any} */ (this)[`on_${kind}`](data); }
  on_text(text) { this.setText(this.text + text); }
  on_reset({ text }) { this.progress.forgetSpeakers(); this.setText(text); }
  on_partial({ source, text }) { this.progress.hear(source, text); }
  on_source({ source }) { this.progress.forgetSpeaker(source); }
  on_reasoning({ text }) { this.progress.think(text); }
  on_custom(data) { this.progress.report(data); }
  on_interrupt({ interrupts }) { this.interrupts = interrupts ?? []; }
  on_gap() { this.note("The steps of this turn are no longer kept."); }
  on_usage(usage) { this.usage = usage; }
  on_error({ code, message, retryable }) { this.problem = new Problem({ code, detail: message, retryable }); }

  on_run({ attempt }) {
    if (attempt > this.attempt) {
      this.steps.stop();
      this.note(`The server went away; another one took over (attempt ${attempt}).`);
    }
    this.attempt = attempt;
  }

  on_node(data) { this.steps.node(data); }
  on_tool_start(data) { this.steps.toolStarts(data); }

  on_tool_end(data) {
    this.steps.toolEnds(data);
    for (const source of data.sources ?? []) this.sources.add(source);
  }

  setText(text) {
    this.text = text;
    this.answer.set(text);
  }

  note(text) { this.extra.append(el("p", { class: "note" }, text)); }

  /** Who else looks at runs hears it from the log. */
  tell(kind, data = undefined) { log.dispatchEvent(new CustomEvent("happened", { detail: { runId: this.runId, kind, data } })); }

  /**
   * Streams the run into this view; then `done()`.
   * @param {{ link?: (up: boolean) => void, done?: () => void }} options
   */
  watch({ link = () => {}, done }) {
    return new RunStream(this.runId, {
      link,
      event: (kind, data) => { this.tell(kind, data); keepAtEnd(() => this.event(kind, data)); },
      ended: (problem) => { this.tell("ended"); this.problem ??= problem; keepAtEnd(() => this.finish(this.usage)); done?.(); },
    });
  }

  /** @param {RunUsage} [usage] */
  finish({ outcome, ...usage } = {}) {
    this.steps.stop();
    this.answer.finish(() => this.sources.connect(this.answer.blocks));
    this.progress.finish();
    if (this.problem) this.extra.append(problemCard(this.problem, this.problem.retryable ? this.again : null));
    /** @type {HTMLElement[]} */
    const parts = outcome ? [el("b", { class: outcome }, outcomeInWords(outcome))] : [];
    if (usage.model_calls !== undefined) parts.push(...usageParts(usage).map((text) => el("span", {}, text)));
    else parts.push(el("button", { class: "quiet", type: "button", onclick: () => this.replay() }, "Steps and cost"));
    parts.push(el("code", { title: `Run ${this.runId}` }, this.runId.slice(0, 8)));
    if (outcome !== "interrupted") parts.push(this.actions());
    this.footer.replaceChildren(el("div", { class: "row usage" }, ...parts));
  }

  actions() {
    const again = this.again ? el("button", { class: "quiet", type: "button", title: "Ask again for another answer", "aria-label": "Regenerate", onclick: this.again }, icon("again")) : null;
    return el("div", { class: "actions row" }, this.text ? copyButton("answer", () => this.text) : null, again, ...thumbs(this));
  }

  /** Reads a finished run's events again for what the history does not carry. */
  replay() {
    const view = new RunView(this.runId, this);
    this.root.replaceWith(view.root);
    view.watch({});
  }
}

/** @param {RunUsage} usage */
function usageParts({ model_calls: calls = 0, input_tokens: read = 0, cached_tokens: cached = 0, output_tokens: written = 0, cost_usd: cost = null }) {
  const count = (number) => number.toLocaleString("en-US");
  return [
    `${count(calls)} model ${calls === 1 ? "call" : "calls"}`,
    `${count(read)} in${cached ? ` (${count(cached)} cached)` : ""}`,
    `${count(written)} out`,
    cost === null ? "no price known" : `$${cost.toFixed(cost && cost < 0.01 ? 6 : 2)}`,
  ];
}

function thumbs(view) {
  const kinds = /** @type {const} */ ([["up", 1, "Good answer"], ["down", 0, "Bad answer"]]);
  const buttons = kinds.map(([name, score, label]) => el("button", {
    class: "quiet", type: "button", title: label, "aria-label": label, ariaPressed: String(score === view.score), onclick: () => rate(score),
  }, icon(name)));
  const send = (score, comment) => call("POST", "feedback", { body: { run_id: view.runId, score, comment } });
  async function rate(score) {
    try { await send(score); } catch (problem) { return notify(problem); }
    view.score = score;
    for (const [at, button] of buttons.entries()) button.ariaPressed = String(score === 1 - at);
    view.footer.querySelector("form")?.remove();
    const form = el("form");
    view.footer.append(form);
    return openForm(form, {
      label: "Anything to add? (optional)", verb: "Send comment", close: () => { form.hidden = true; buttons[1 - score].focus(); },
      take: async (text) => { await send(score, text); form.replaceWith(el("p", { class: "note", role: "status" }, "Comment sent.")); },
    });
  }
  return buttons;
}

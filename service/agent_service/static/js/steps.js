/* What a run did on its way: nodes as a trail, tools with their arguments and what came back. */

import { clip, el, icon, pretty, visible } from "./dom.js";

const MAX_SHOWN = 100_000; // characters of a tool's arguments, of its output, of an SQL statement
const MAX_BRIEF = 300; // characters of the arguments in a tool's one line
const HOOK = /Middleware\.|\.(before|after)_(agent|model)$/; // as LangChain names the nodes of a middleware
const APPROVAL = /^HumanInTheLoopMiddleware\./;

export class Steps {
  constructor() {
    /** @type {Map<string, any>} */
    this.tools = new Map();
    /** @type {any[]} */
    this.chips = [];
    this.trail = el("ol", { class: "trail row", "aria-label": "Steps" });
    this.root = el("div", { class: "steps", hidden: true }, this.trail);
  }

  node({ node, state, path, seconds }) {
    if (HOOK.test(node) && !APPROVAL.test(node)) return;
    const chip = state === "start" ? this.chipAt(node, path) : this.chips.findLast((known) => known.node === node && known.running > 0);
    if (!chip) return; // it began before another process took over
    chip.running += state === "start" ? 1 : -1;
    chip.runs += state === "start";
    chip.seconds += seconds ?? 0;
    setMark(chip, chip.running ? "running" : "ok");
    chip.label.textContent = visible([chip.name, chip.runs > 1 && `×${chip.runs}`, chip.seconds && `${chip.seconds.toFixed(2)} s`].filter(Boolean).join(" "));
  }

  chipAt(node, path = [node]) {
    const name = APPROVAL.test(node) ? "approval" : path.slice(-2).join(" › ");
    const known = this.chips.find((chip) => chip.name === name);
    if (known) return known;
    const chip = { node, name, running: 0, runs: 0, seconds: 0, mark: el("span"), label: el("span") };
    this.chips.push(chip);
    this.trail.append(el("li", {}, chip.mark, " ", chip.label));
    this.root.hidden = false;
    return chip;
  }

  /** @param {{ id: string, tool: string, args?: any }} call */
  toolStarts({ id, tool, args }) {
    const { sql, ...others } = args ?? {};
    const brief = clip(Object.entries(others).map(([name, value]) => `${name}: ${clip(pretty(value), MAX_BRIEF)}`).join(", "), MAX_BRIEF);
    const row = { mark: el("span"), word: el("span", { class: "sr" }), time: el("span", { class: "muted" }), output: el("pre", { tabIndex: 0 }) };
    const details = el("details", { class: "tool" },
      el("summary", {}, row.mark, el("b", {}, tool), row.word, el("span", { class: "args cut" }, brief), row.time, el("span", { class: "chevron muted" }, icon("open"))),
      el("div", { class: "note" }, "Arguments"), el("pre", { tabIndex: 0 }, clip(pretty(args), MAX_SHOWN)), el("div", { class: "note" }, "Output"), row.output);
    setMark(row, "running");
    this.tools.set(id, row);
    this.root.append(details);
    if (typeof sql === "string") this.root.append(el("pre", { class: "sql", tabIndex: 0, "aria-label": "SQL" }, clip(sql, MAX_SHOWN)));
    this.root.hidden = false;
  }

  toolEnds({ id, tool, status, output, seconds }) {
    if (!this.tools.has(id)) this.toolStarts({ id, tool }); // it began before another process took over
    const row = this.tools.get(id);
    setMark(row, status);
    row.time.textContent = `${Number(seconds).toFixed(2)} s`;
    row.output.textContent = visible(clip(pretty(output), MAX_SHOWN));
  }

  /** No step goes on: the run ended, or another process took it over. */
  stop() {
    for (const step of [...this.chips, ...this.tools.values()]) {
      step.running = 0;
      if (step.mark.dataset.state === "running") setMark(step, "stopped");
    }
  }
}

function setMark(step, state) {
  step.mark.dataset.state = state;
  step.mark.replaceChildren(...(state === "running" ? [] : [icon(state)]));
  if (step.time) step.word.textContent = step.time.textContent = state; // in words, too
}

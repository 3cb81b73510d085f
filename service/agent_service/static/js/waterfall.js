/* Time and tokens of a run by node, as bars under each other. */

import { el, visible } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDE = 1000; // units of the drawing, whatever its size on the page

/** @typedef {{ node: string, name: string, from: number, to: number | null }} Span */

/**
 * The nodes of a run with start and end in seconds. Events tell how long a node took, and their order: what began before
 * another ended ran beside it; time between nodes, which no event tells of, is left out.
 */
export class Times {
  constructor() {
    this.now = 0;
    /** @type {Span[]} */
    this.open = [];
    /** @type {Span[]} */
    this.spans = [];
    /** @type {NodeEvent[]} */
    this.events = [];
  }

  /** @param {NodeEvent} event */
  hear(event) {
    const { node, state, path, seconds } = event;
    this.events.push(event);
    if (state === "start") {
      const span = { node, name: (path ?? [node]).slice(-2).join(" › "), from: this.now, to: null };
      this.open.push(span);
      this.spans.push(span);
      return;
    }
    const at = this.open.findIndex((span) => span.node === node);
    if (at < 0) return; // it began before another process took over
    const [span] = this.open.splice(at, 1);
    span.to = span.from + (seconds ?? 0);
    this.now = Math.max(this.now, span.to);
  }
}

/**
 * What the model calls of each bar read and wrote. The ledger tells the node of a call and their order, not the visit: where a
 * node has as many calls as visits, each has its own; else all stand at its last visit, as a sum.
 * @param {{ node: string }[]} ended
 * @param {ModelCall[]} calls of the attempt that is shown
 * @returns {string[]} of each bar
 */
export function tokensOf(ended, calls) {
  const told = ended.map(() => "");
  for (const [node, made] of Map.groupBy(calls, (each) => each.node)) {
    const visits = ended.flatMap((span, at) => (span.node === node ? [at] : []));
    if (visits.length === made.length) for (const [at, visit] of visits.entries()) told[visit] = inAndOut([made[at]]);
    else if (visits.length) told[visits[visits.length - 1]] = `${visits.length > 1 ? "Σ " : ""}${inAndOut(made)}`;
  }
  return told;
}

/** @param {ModelCall[]} calls */
function inAndOut(calls) {
  const sum = (/** @type {"input_tokens" | "output_tokens"} */ name) => calls.reduce((all, each) => all + each[name], 0).toLocaleString("en-US");
  return `${sum("input_tokens")} in, ${sum("output_tokens")} out`;
}

/** @param {Times} times @param {ModelCall[]} [calls] */
export function waterfall({ now, spans }, calls = []) {
  const ended = spans.flatMap(({ to, ...span }) => (to === null ? [] : [{ ...span, to }]));
  if (!ended.length) return el("p", { class: "note" }, "Ask a question, or press “Steps and cost” at an answer.");
  const tokens = tokensOf(ended, calls);
  const scale = WIDE / Math.max(now, 0.001);
  return el("table", { class: "waterfall" }, el("thead", {}, el("tr", {}, ...["Node", "When", "Seconds", "Tokens"].map((title) => el("th", { scope: "col" }, title)))),
    el("tbody", {}, ...ended.map(({ name, from, to }, at) => el("tr", {}, el("td", {}, visible(name)), el("td", {}, bar(from * scale, (to - from) * scale)), el("td", {}, (to - from).toFixed(3)), el("td", {}, tokens[at] || "–")))));
}

function bar(x, width) {
  const drawing = document.createElementNS(SVG, "svg");
  const rect = document.createElementNS(SVG, "rect");
  for (const [name, value] of Object.entries({ viewBox: `0 0 ${WIDE} 12`, preserveAspectRatio: "none", "aria-hidden": "true" })) drawing.setAttribute(name, value);
  for (const [name, value] of Object.entries({ x, y: 0, width: Math.max(width, 4), height: 12 })) rect.setAttribute(name, String(value));
  drawing.append(rect);
  return drawing;
}

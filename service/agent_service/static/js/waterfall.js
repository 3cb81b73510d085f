/* Time of a run by node, as bars under each other. */

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

/** @param {Times} times */
export function waterfall({ now, spans }) {
  const ended = spans.flatMap(({ to, ...span }) => (to === null ? [] : [{ ...span, to }]));
  if (!ended.length) return el("p", { class: "note" }, "Ask a question, or press “Steps and cost” at an answer.");
  const scale = WIDE / Math.max(now, 0.001);
  return el("table", { class: "waterfall" }, el("thead", {}, el("tr", {}, ...["Node", "When", "Seconds"].map((title) => el("th", { scope: "col" }, title)))),
    el("tbody", {}, ...ended.map(({ name, from, to }) => el("tr", {}, el("td", {}, visible(name)), el("td", {}, bar(from * scale, (to - from) * scale)), el("td", {}, (to - from).toFixed(3))))));
}

function bar(x, width) {
  const drawing = document.createElementNS(SVG, "svg");
  const rect = document.createElementNS(SVG, "rect");
  for (const [name, value] of Object.entries({ viewBox: `0 0 ${WIDE} 12`, preserveAspectRatio: "none", "aria-hidden": "true" })) drawing.setAttribute(name, value);
  for (const [name, value] of Object.entries({ x, y: 0, width: Math.max(width, 4), height: 12 })) rect.setAttribute(name, String(value));
  drawing.append(rect);
  return drawing;
}

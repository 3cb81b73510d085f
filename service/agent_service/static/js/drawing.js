/* A graph drawn as SVG, node by node, whose running nodes are lit. */

import { clip, el, visible } from "./dom.js";
import { layOut } from "./layout.js";

const SVG = "http://www.w3.org/2000/svg";
const MAX_NAME = 18; // characters that fit into a box; the whole name is its title
const ENDS = { __start__: "start", __end__: "end" };

function draw(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  node.append(...children);
  return node;
}

export class Drawing {
  /** `nodes` and `edges` as `/assistants/{id}/graph` gives them. */
  constructor(name, { nodes, edges }) {
    /** @type {Map<string, number>} */
    this.running = new Map(); // how many runs of each node go on
    /** @type {Map<string, SVGElement>} */
    this.nodes = new Map();
    /** @type {Map<string, string[]>} */
    this.inside = new Map(); // by node that runs, the nodes of the drawing that are lit for it
    const { width, height, boxes, lines } = layOut(nodes.map(({ id }) => id), edges);
    const inWords = lines.map(({ source, target }) => `${ENDS[source] ?? source} to ${ENDS[target] ?? target}`).join(", ");
    const tip = draw("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, draw("path", { class: "tip", d: "M0 0 8 4 0 8z" }));
    const drawing = draw("svg", { class: "drawing", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": visible(`Graph ${name}: ${inWords}`) }, draw("defs", {}, tip),
      ...lines.map(({ d, conditional }) => draw("path", { d, class: conditional ? "edge maybe" : "edge", "marker-end": "url(#tip)" })),
      ...boxes.map((box) => this.node(box)));
    drawing.style.maxWidth = `${width}px`;
    this.now = el("p", { class: "note", role: "status" });
    this.root = el("div", {}, drawing, el("p", { class: "note" }, "A dashed edge is taken when the graph decides so."), this.now);
    this.tell();
  }

  node({ id, x, y, w, h }) {
    const name = ENDS[id] ?? id;
    const group = draw("g", { class: id in ENDS ? "node end" : "node", "data-node": id }, draw("title", {}, visible(name)),
      draw("rect", { x, y, width: w, height: h, rx: id in ENDS ? h / 2 : 8 }),
      draw("text", { x: x + w / 2, y: y + h / 2, "text-anchor": "middle", "dominant-baseline": "central" }, visible(name.length > MAX_NAME ? `${name.slice(0, MAX_NAME - 1)}…` : name)));
    this.nodes.set(id, group);
    return group;
  }

  /** A `node` event. A node in a graph inside lights the one of this drawing that holds its graph. @param {NodeEvent} event */
  hear({ node, state, path = [] }) {
    const at = state === "start" ? this.holder(node, path) : this.inside.get(node)?.pop(); // an end says no path
    if (at === undefined) return;
    if (state === "start") this.inside.set(node, [...(this.inside.get(node) ?? []), at]);
    const count = Math.max(0, (this.running.get(at) ?? 0) + (state === "start" ? 1 : -1));
    this.running.set(at, count);
    this.nodes.get(at)?.classList.toggle("running", count > 0);
    this.nodes.get(at)?.classList.add("seen");
    this.tell();
  }

  holder(node, path) {
    const graph = path.find((each) => this.nodes.has(each));
    return graph ?? (this.nodes.has(node) ? node : undefined);
  }

  /** A run begins: no node has run. */
  begin() {
    this.stop();
    for (const group of this.nodes.values()) group.classList.remove("seen");
  }

  /** Nothing goes on. */
  stop() {
    this.running.clear();
    this.inside.clear();
    for (const group of this.nodes.values()) group.classList.remove("running");
    this.tell();
  }

  tell() {
    const names = [...this.running].filter(([, count]) => count).map(([name]) => name);
    this.now.textContent = visible(names.length ? `Running: ${clip(names.join(", "), 200)}` : "No node runs.");
  }
}

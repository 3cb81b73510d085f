/*
 * Code of an answer, with a button to copy it, and in colours once it is seen. highlight.js (vendored, loaded with the first code) gives
 * its tokens to `Paint`, which makes a node of each: no HTML is made, so none would have to be sanitized.
 */

import { copyButton } from "./clipboard.js";
import { el } from "./dom.js";

// Some grammars take time by the square of a length: 6,000 characters at worst 0.4 s, of real code 2 to 10 ms.
const MAX_CODE = 6_000; // characters of a block; what is longer stays plain
const MAX_LINE = 300; // characters
const MAX_SPENT = 250; // ms for the blocks of a page in all its life that took longer than SLOW each
const SLOW = 40; // ms
const CLASS = /^[a-z_]+$/;

let spent = 0;
/** @type {Promise<typeof import("../vendor/highlight/highlight.min.js")> | null} */
let library = null;
/** @type {WeakMap<Element, { code: HTMLElement, text: string, language: string }>} */
const blocks = new WeakMap();

/** A block. `language` is what stands behind the fence. */
export function codeBlock(text, language) {
  const code = el("code", {}, text);
  const pre = el("pre", { tabIndex: 0 }, code);
  const name = language.trim().split(/\s/, 1)[0].slice(0, 30);
  blocks.set(pre, { code, text, language: name.toLowerCase() });
  return el("div", { class: "code" }, el("header", {}, el("span", { class: "cut" }, name || "text"), copyButton("code", () => text)), pre);
}

const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    const block = blocks.get(target);
    if (block) highlight(block);
  }
});

/** Colours the code in `nodes`, which will not change any more, when it comes into view. */
export function colourWhenSeen(nodes) {
  for (const node of nodes) {
    for (const pre of node.querySelectorAll?.(".code > pre") ?? []) if (blocks.has(pre)) seen.observe(pre);
  }
}

async function highlight({ code, text, language }) {
  if (!language || text.length > MAX_CODE || text.split("\n").some((line) => line.length > MAX_LINE)) return;
  const { default: hljs } = await (library ??= import("../vendor/highlight/highlight.min.js"));
  if (!hljs.getLanguage(language) || spent > MAX_SPENT) return;
  const started = performance.now();
  hljs.configure({ __emitter: Paint });
  const painted = hljs.highlight(text, { language, ignoreIllegals: true })._emitter;
  const took = performance.now() - started;
  if (took > SLOW) spent += took;
  if (painted.root.textContent === text) code.replaceChildren(painted.root);
}

/** What highlight.js tells its tokens to. */
class Paint {
  constructor() {
    this.root = document.createDocumentFragment();
    /** @type {(DocumentFragment | HTMLElement)[]} */
    this.open = [this.root];
  }

  get top() { return this.open[this.open.length - 1]; }
  addText(text) { if (text) this.top.append(text); }

  startScope(scope) {
    const kinds = String(scope).split(".", 1).filter((kind) => CLASS.test(kind));
    const node = el("span", { class: kinds.map((kind) => `hljs-${kind}`).join(" ") });
    this.top.append(node);
    this.open.push(node);
  }

  endScope() { if (this.open.length > 1) this.open.pop(); }
  openNode(scope) { this.startScope(scope); }
  closeNode() { this.endScope(); }
  __addSublanguage(emitter) { this.top.append(emitter.root); }
  finalize() { this.open.length = 1; }
  toHTML() { return ""; }
}

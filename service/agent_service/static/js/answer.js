/* An answer that grows. Work is bounded: per frame, per second of a stream, and by what one answer may put on the page. */

import { colourWhenSeen } from "./code.js";
import { el } from "./dom.js";
import { render } from "./markdown.js";
import { keepAtEnd } from "./log.js";

const MAX_MARKDOWN = 50_000; // characters; about 12,000 tokens. A hostile text of this length costs half a second at most
const PLAIN_PIECE = 100_000; // characters of what comes after it, for each press of its button
const FRAME_MS = 12; // of painting in one frame: then the browser gets its turn
const REST = 4; // an answer that took 50 ms to paint is not painted again for 200 ms: a long stream takes a fifth of the time
const DEFINITION = /^ {0,3}\[[^\]\n]{1,200}\]:/m; // of a link that text above it may name

/** @type {Set<Answer>} */
const waiting = new Set();

function soon(answer) {
  if (!waiting.size) requestAnimationFrame(paintWaiting);
  waiting.add(answer);
}

function paintWaiting() {
  const until = performance.now() + FRAME_MS;
  for (const answer of waiting) {
    waiting.delete(answer);
    answer.paint();
    if (performance.now() > until) break;
  }
  if (waiting.size) requestAnimationFrame(paintWaiting);
}

export class Answer {
  constructor() {
    this.root = el("div", { class: "answer", "aria-live": "polite", ariaBusy: "true" });
    this.blocks = el("div", { class: "blocks" });
    this.rest = el("pre", { class: "rest", tabIndex: 0, hidden: true }, "");
    this.more = el("button", { type: "button", hidden: true, onclick: () => { this.pieces += 1; this.paintRest(); } });
    this.root.append(this.blocks, this.rest, this.more);
    this.text = "";
    /** Of the text, what is painted for good; null: nothing of it. @type {string | null} */
    this.settled = "";
    this.kept = 0; // nodes of `settled`
    this.used = 0; // tokens of it
    this.pieces = 1;
    this.shown = 0;
    this.busy = true;
    this.timer = 0;
    this.restUntil = 0;
    /** @type {(() => void) | undefined} */
    this.painted = undefined;
  }

  set(text) {
    this.text = text;
    const wait = this.restUntil - performance.now();
    if (wait <= 0) soon(this);
    else this.timer ||= setTimeout(() => { this.timer = 0; soon(this); }, wait);
  }

  /** No more text comes. `painted()` is called when all of it is on the page. */
  finish(painted) {
    this.painted = painted;
    this.busy = false;
    clearTimeout(this.timer);
    this.timer = 0;
    if (DEFINITION.test(this.text.slice(0, MAX_MARKDOWN))) this.settled = null; // what was painted before it came knew no such link
    soon(this);
  }

  paint() {
    const started = performance.now();
    keepAtEnd(() => { this.paintBlocks(); this.paintRest(); });
    this.restUntil = performance.now() + REST * (performance.now() - started);
    if (!this.busy) this.painted?.();
    this.root.ariaBusy = String(this.busy);
  }

  /** Parses again only from the last block on: those above it are settled, and keep their selections and scroll positions. */
  paintBlocks() {
    const text = this.text.slice(0, MAX_MARKDOWN).replace(/\r\n?/g, "\n"); // so that lines are counted as the parser does
    if (this.settled === null || !text.startsWith(this.settled)) Object.assign(this, { settled: "", kept: 0, used: 0 });
    const tail = text.slice(this.settled?.length);
    const rendered = render(tail, this.used);
    if (!rendered) { // all of it is plain, as it would be at once
      this.settled = null;
      return this.blocks.replaceChildren(el("pre", { class: "rest", tabIndex: 0 }, text));
    }
    while (this.blocks.childNodes.length > this.kept) this.blocks.lastChild?.remove();
    this.blocks.append(...rendered.nodes);
    const { kept } = this;
    if (this.busy) this.settle(tail, rendered.starts);
    colourWhenSeen([...this.blocks.childNodes].slice(kept, this.busy ? this.kept : undefined));
    return undefined;
  }

  /** The last block may go on, and a last line without its end may turn out to belong to the block above. */
  settle(tail, starts) {
    const lines = tail.split("\n");
    const at = starts.findLastIndex(({ line }) => line < lines.length - 1);
    if (at <= 0) return;
    this.kept += at;
    this.used = starts[at].tokens;
    this.settled += lines.slice(0, starts[at].line).map((line) => `${line}\n`).join("");
  }

  paintRest() {
    const length = Math.max(0, this.text.length - MAX_MARKDOWN);
    const shown = Math.min(length, this.pieces * PLAIN_PIECE);
    if (this.shown !== shown || !this.busy) this.rest.textContent = this.text.slice(MAX_MARKDOWN, MAX_MARKDOWN + shown);
    this.shown = shown;
    this.rest.hidden = !shown;
    this.more.hidden = shown === length;
    this.more.textContent = shown < length ? `Show more (${(length - shown).toLocaleString("en-US")} characters left)` : "";
  }
}

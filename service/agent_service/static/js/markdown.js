/*
 * Markdown as DOM nodes. markdown-it (vendored) says what a text means, in time linear in its length; this module makes a node of each
 * of its tokens, from a closed list. Its HTML renderer is not used, so there is no HTML that would have to be sanitized.
 */

import MarkdownIt from "../vendor/markdown-it/markdown-it.esm.min.mjs";
import { codeBlock } from "./code.js";
import { el, isHttp, link, visible } from "./dom.js";

const MAX_TOKENS = 20_000; // of one answer; a table of 50,000 characters can have 65,536 cells, which no layout takes quickly
const MAX_NESTING = 24; // of lists and quotes; deeper, the text stands as it is

const parser = new MarkdownIt({ html: false, linkify: true, maxNesting: MAX_NESTING });
parser.validateLink = () => true; // decided in `anchor`, which shows the label of a link that leads nowhere
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false }).add("ftp:", null).add("mailto:", null).add("//", null);

const CITATION = /\[(\p{L}[^[\]\n]{2,400})\](?![(:[])/uy;

/** `[Title › Section]`, as the default graph marks what it cites. */
parser.inline.ruler.after("image", "citation", (state, silent) => {
  if (state.src[state.pos] !== "[") return false;
  CITATION.lastIndex = state.pos;
  const [found] = CITATION.exec(state.src) ?? [];
  if (!found || state.pos + found.length > state.posMax) return false;
  if (!silent) state.push("citation", "cite", 0).content = found;
  state.pos += found.length;
  return true;
});

/** @typedef {import("../vendor/markdown-it/markdown-it.esm.min.mjs").Token} Token */

/** @type {(token: Token, name: string) => string} */
const attribute = (token, name) => token.attrGet(name) ?? "";
const alignment = (token) => attribute(token, "style").replace("text-align:", "");

/** Node for the link's target; its label comes as children. A place on this page's own server, or `javascript:`, is none. */
function anchor(href) {
  return isHttp(href) ? { node: el("span"), close: (node) => node.replaceWith(link(href, ...node.childNodes)) } : { node: el("span", { class: "dead", title: href }) };
}

/** @type {(tag: keyof HTMLElementTagNameMap, props?: Record<string, unknown>) => () => Opened} */
const plain = (tag, props) => () => ({ node: el(tag, props) });

/** By the level of a heading in Markdown: the page has those above. @type {("h3" | "h4" | "h5" | "h6")[]} */
const HEADINGS = ["h3", "h4", "h5", "h6"];

/** @type {Record<string, (token: Token) => Opened>} */
const OPEN = {
  paragraph: plain("p"), blockquote: plain("blockquote"), bullet_list: plain("ul"), list_item: plain("li"),
  thead: plain("thead"), tbody: plain("tbody"), tr: plain("tr"), strong: plain("strong"), em: plain("em"), s: plain("s"),
  heading: ({ tag }) => ({ node: el(HEADINGS[Math.min(Number(tag[1]), HEADINGS.length) - 1]) }),
  ordered_list: (token) => ({ node: el("ol", { start: Number(attribute(token, "start") || 1) }) }),
  th: (token) => ({ node: el("th", { class: alignment(token) }) }),
  td: (token) => ({ node: el("td", { class: alignment(token) }) }),
  link: (token) => anchor(attribute(token, "href")),
  table: () => {
    const table = el("table");
    return { node: table, outer: el("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Table" }, table) };
  },
};

/** A picture is never loaded: its address would tell its server what the answer knows. */
function picture(token) {
  const [href, label] = [attribute(token, "src"), token.content || "without a name"];
  return isHttp(href) ? link(href, `Picture: ${visible(label)}`) : el("span", { class: "dead", title: href }, `Picture: ${label}`);
}

const listing = ({ content, info = "" }) => codeBlock(content.replace(/\n$/, ""), info);

/** @type {Record<string, (token: Token) => Node | string>} */
const LEAF = {
  text: ({ content }) => content,
  softbreak: () => "\n",
  hardbreak: () => el("br"),
  hr: () => el("hr"),
  code_inline: ({ content }) => el("code", {}, content),
  citation: ({ content }) => el("cite", {}, content),
  image: picture,
  fence: listing,
  code_block: listing,
};

/**
 * An element that tokens are added to: `outer` holds it, `close` is called when it has all.
 * @typedef {{ node: any, outer?: Node, close?: (node: any) => void, transparent?: boolean }} Opened
 */

/** Grows a tree from tokens without recursion. */
class Builder {
  /** `used`: tokens that the answer has on the page already. */
  constructor(used) {
    this.root = document.createDocumentFragment();
    /** @type {Opened[]} */
    this.open = [{ node: this.root }];
    this.tokens = used;
    /** @type {{ line: number, tokens: number }[]} */
    this.starts = [];
  }

  add(tokens) {
    for (const token of tokens) {
      if (this.open.length === 1 && token.block) this.starts.push({ line: token.map?.[0] ?? 0, tokens: this.tokens });
      this.tokens += 1;
      if (this.tokens > MAX_TOKENS) throw new RangeError("too many tokens");
      if (token.children && token.type === "inline") this.inline(token.children);
      else if (token.nesting > 0) this.enter(token);
      else if (token.nesting < 0) this.leave();
      else this.top.append(this.readable(LEAF[token.type]?.(token) ?? token.content));
    }
    return this.root;
  }

  /** An answer may mix directions: only what forces one against the letters is shown, and all of it in the label of a link. */
  readable(child) {
    if (typeof child !== "string") return child;
    return this.open.some(({ close }) => close) ? visible(child) : child.replace(/[\u202d\u202e]/g, visible);
  }

  get top() { return this.open[this.open.length - 1].node; }

  inline(tokens) {
    const [first] = tokens;
    const [, mark] = this.top.nodeName === "LI" ? /^\[([ xX])\] /.exec(first?.content ?? "") ?? [] : [];
    if (mark) {
      this.top.append(el("input", { type: "checkbox", disabled: true, checked: mark !== " ", "aria-label": mark === " " ? "to do" : "done" }), " ");
      first.content = first.content.slice(4);
    }
    this.add(tokens);
  }

  enter(token) {
    const kind = token.type.replace(/_open$/, "");
    if (token.hidden) this.open.push({ node: this.top, transparent: true }); // the paragraph of a tight list
    else {
      const opened = OPEN[kind]?.(token) ?? { node: el("span") };
      this.top.append(opened.outer ?? opened.node);
      this.open.push(opened);
    }
  }

  leave() {
    const opened = this.open.pop();
    opened?.close?.(opened.node);
  }
}

/** Nodes for a text, and where each of them starts: its line, and the tokens used before it. Null when it would be too much. */
export function render(text, used = 0) {
  try {
    const builder = new Builder(used);
    return { nodes: [...builder.add(parser.parse(text, {})).childNodes], starts: builder.starts };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return null;
  }
}

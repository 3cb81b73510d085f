/* Elements, and text made safe to look at. Nothing here or elsewhere on the page turns a string into markup. */

/** @type {<Id extends keyof PageElements>(id: Id) => PageElements[Id]} */
export const byId = (id) => /** @type {any} */ (document.getElementById(id));

/**
 * Element from a tag, properties or attributes, and children; text children become text nodes, never markup.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, unknown>} [props]
 * @param {...(Node | string | null)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name in node) Object.assign(node, { [name]: value });
    else node.setAttribute(name, String(value));
  }
  for (const child of children) if (child !== null) node.append(typeof child === "string" ? visible(child) : child);
  return node;
}

export function icon(name) {
  const { content } = byId("icons");
  const found = content.querySelector(`[data-icon=${name}]`) ?? content.querySelector("[data-icon=stopped]");
  return /** @type {Node} */ (found).cloneNode(true);
}

/** Characters that make text look like another one (CVE-2021-42574): what is approved or clicked must be what is read. */
const BIDI = /[\u202a-\u202e\u2066-\u2069]/g;
const code = (character) => character.charCodeAt(0).toString(16);
export const visible = (text) => text.replace(BIDI, (character) => `‹U+${code(character).toUpperCase()}›`);

/** A string as it is; all else as JSON, which may spell such a character as an escape and stays the same value. */
export function pretty(value) {
  if (typeof value === "string") return value;
  return (JSON.stringify(value, null, 2) ?? "").replace(BIDI, (character) => `\\u${code(character)}`);
}

/** The beginning of a long text, and how much was left out. */
export function clip(text, limit) {
  return text.length <= limit ? text : `${text.slice(0, limit)}… (${(text.length - limit).toLocaleString("en-US")} more characters)`;
}

export const isHttp = (text) => { try { return ["http:", "https:"].includes(new URL(text).protocol); } catch { return false; } };

const NAMES_A_HOST = /[a-z0-9-]\.[a-z]{2}/i;

/** A link to elsewhere. A text that names a host gets the real one beside it, unless that is what it says. */
export function link(href, ...children) {
  const node = el("a", { href, rel: "noopener noreferrer nofollow", target: "_blank", title: visible(href) }, ...children);
  const { host, username } = node;
  const text = node.textContent;
  const says = text.trim().toLowerCase().replace(/^https?:\/\//, "").split(/[/?#]/, 1)[0];
  return username || (NAMES_A_HOST.test(text) && says !== host) ? el("span", {}, node, el("span", { class: "muted" }, ` (${host})`)) : node;
}

/**
 * Fills `form` with one text field; `take(text)` may throw, its message is shown. Escape and the `cancel` button `close()`.
 * @param {HTMLFormElement} form
 * @param {{ label: string, verb: string, cancel?: string, take: (text: string) => unknown, text?: string, close?: () => void }} field
 */
export function openForm(form, { label, verb, cancel, take, text = "", close }) {
  const field = el("textarea", { rows: Math.min(12, text.split("\n").length), value: text, spellcheck: false });
  const wrong = el("p", { role: "alert" });
  form.className = "small";
  form.replaceChildren(el("label", {}, label, field), wrong, el("div", { class: "row" }, el("button", { class: "primary" }, verb),
    cancel ? el("button", { type: "button", onclick: close }, cancel) : ""));
  form.onsubmit = async (event) => {
    event.preventDefault();
    try { await take(field.value.trim()); } catch (error) { wrong.textContent = `Not sent: ${visible(error.message)}`; }
  };
  form.onkeydown = (event) => { if (event.key === "Escape") close?.(); };
  form.hidden = false;
  form.scrollIntoView({ block: "nearest" });
  field.focus();
}

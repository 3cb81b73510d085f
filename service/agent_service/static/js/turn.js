/* A turn as it stands on the page: the question, and what answered it. */

import { copyButton } from "./clipboard.js";
import { el, icon, openForm } from "./dom.js";
import { filesOf } from "./files.js";

/**
 * `edit(text)` asks another question in place of this one. The turn's `run` is the question's own, once it is known.
 * @param {string} question
 * @param {{ edit: (text: string) => unknown, files?: AskedFile[] }} options
 */
export function makeTurn(question, { edit, files = [] }) {
  const form = el("form", { hidden: true });
  const change = el("button", { class: "quiet", type: "button", hidden: true, title: "Edit and ask again", "aria-label": "Edit and ask again" }, icon("edit"));
  const actions = el("div", { class: "actions row" }, change, copyButton("what you asked", () => question));
  const bubble = el("div", { class: "question" }, el("span", { class: "sr" }, "You asked: "), question);
  const root = el("article", { class: "turn" }, el("div", { class: "asked" }, ...(question ? [filesOf(files), bubble, actions, form] : [])));
  const show = (editing) => { form.hidden = !editing; bubble.hidden = actions.hidden = editing; };
  const close = () => { show(false); change.focus(); };
  change.onclick = () => {
    show(true);
    openForm(form, {
      label: "Other words; this answer and all behind it are replaced", verb: "Ask again", cancel: "Cancel", text: question, close,
      take: (text) => { if (text) { show(false); edit(text); } },
    });
  };
  return {
    root, question, files, run: null,
    /** From here on the question can be replaced. */
    began(run) { this.run ??= run; change.hidden = !edit; },
  };
}

/* What an answer is based on: links where the source has an address, else the passage in a dialog. */

import { call } from "./api.js";
import { byId, el, isHttp, link, visible } from "./dom.js";
import { notify } from "./log.js";
import { render } from "./markdown.js";

/** @param {{ title: string, section?: string }} source */
const nameOf = ({ title, section }) => [title, section].filter(Boolean).join(" › ");

export class Sources {
  constructor(runId) {
    this.runId = runId;
    /** @type {Map<string, Source>} */
    this.known = new Map();
    this.list = el("ol");
    this.root = el("div", { class: "sources", hidden: true }, el("b", {}, "Sources"), this.list);
  }

  add(source) {
    const key = `${nameOf(source)} (${source.source})`;
    if (this.known.has(key)) return;
    this.known.set(key, source);
    this.list.append(el("li", {}, this.opener(source, nameOf(source)), isHttp(source.source) ? "" : el("span", { class: "muted" }, ` — ${source.source}`)));
    this.root.hidden = false;
  }

  /** Makes the marks `[Title › Section]` in an answer lead to their sources. */
  connect(answer) {
    const byName = new Map([...this.known.values()].map((source) => [nameOf(source), source]));
    for (const mark of answer.querySelectorAll("cite")) {
      const source = byName.get(mark.textContent.slice(1, -1));
      if (source && !mark.firstElementChild) mark.replaceChildren(this.opener(source, mark.textContent));
    }
  }

  opener(source, text) {
    if (isHttp(source.source)) return link(source.source, text);
    return el("button", { class: "link", type: "button", onclick: () => this.open(source) }, text);
  }

  async open(source) {
    try {
      const { passages } = await call("GET", `runs/${this.runId}/passages`);
      const cited = passages.filter((passage) => passage.source === source.source && nameOf(passage) === nameOf(source));
      byId("passage-title").textContent = visible(nameOf(source));
      byId("passage-source").textContent = visible(source.source ?? "");
      byId("passage").replaceChildren(...(cited.length ? cited.flatMap(({ text }) => render(text)?.nodes ?? [el("pre", {}, text)]) : ["The documents do not hold this passage any more."]));
      byId("passage-dialog").showModal();
    } catch (problem) {
      notify(problem);
    }
  }
}

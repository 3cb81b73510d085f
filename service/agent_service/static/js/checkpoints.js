/* The states that a session has gone through, and runs that begin at one of them. */

import { call } from "./api.js";
import { clip, el, openForm, pretty, visible } from "./dom.js";
import { problemCard } from "./log.js";

const AT_ONCE = 20; // states of a session; each holds its whole conversation
const MAX_SHOWN = 100_000; // characters of a state

/** A list of the last states. `where()` gives `{session, graph}`; `began()` is told of a run that begins at one. */
export class Checkpoints {
  constructor(where, began) {
    this.where = where;
    this.began = began;
    this.visit = 0;
    this.root = el("div");
  }

  async show() {
    const { session } = this.where();
    const visit = this.visit += 1;
    if (!session) return this.root.replaceChildren(el("p", { class: "note" }, "A session has states once a question was asked."));
    try {
      const states = await this.page(session);
      if (visit === this.visit) this.root.replaceChildren(this.list(session, states));
    } catch (problem) {
      if (visit === this.visit) this.root.replaceChildren(problemCard(problem, () => this.show()));
    }
    return undefined;
  }

  page(session, before = "") {
    return call("GET", `threads/${encodeURIComponent(session)}/history?${new URLSearchParams({ limit: String(AT_ONCE), ...(before && { before }) })}`);
  }

  list(session, states) {
    const items = el("ol", { class: "states" }, ...states.map((state) => this.item(session, state)));
    const root = el("div", {}, items);
    if (states.length === AT_ONCE) {
      const more = el("button", { type: "button", onclick: async () => {
        const older = await this.page(session, states.at(-1).checkpoint_id).catch((problem) => { root.append(problemCard(problem)); return null; });
        if (older) { more.remove(); root.append(this.list(session, older)); }
      } }, "Older states");
      root.append(more);
    }
    return root;
  }

  item(session, state) {
    const { checkpoint_id: id, metadata, next, created_at: at, values } = state;
    const form = el("form", { hidden: true });
    const ask = el("button", { type: "button" }, "Ask from here");
    ask.onclick = () => openForm(form, {
      label: "Question; the agent knows what this state holds, and nothing later", verb: "Ask", cancel: "Cancel",
      close: () => { form.hidden = true; ask.focus(); },
      take: async (text) => { if (text) await this.begin(session, id, { messages: [{ role: "user", content: text }] }); },
    });
    const again = next.length ? el("button", { type: "button", onclick: () => this.begin(session, id, null).catch((problem) => form.before(problemCard(problem))) }, `Run ${visible(clip(next.join(", "), 60))} again`) : null;
    const what = next.length ? `next: ${next.join(", ")}` : "end";
    return el("li", {}, el("details", {}, el("summary", {}, `Step ${metadata?.step ?? "?"} · ${clip(what, 80)} `, el("span", { class: "muted" }, new Date(at).toLocaleTimeString())),
      el("pre", { tabIndex: 0, "aria-label": "State" }, clip(pretty(values), MAX_SHOWN)), el("div", { class: "row" }, ask, again), form));
  }

  async begin(session, checkpoint, input) {
    await call("POST", `threads/${encodeURIComponent(session)}/runs`, { body: { assistant_id: this.where().graph, checkpoint_id: checkpoint, input, multitask_strategy: "reject" } });
    this.began();
  }
}

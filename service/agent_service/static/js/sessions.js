/* The list of sessions at the side: searched, renamed, deleted. */

import { call } from "./api.js";
import { byId, el, icon, visible } from "./dom.js";
import { facts } from "./facts.js";
import { notify } from "./log.js";
import { tellTabs } from "./tabs.js";

const TITLE_CHARS = 80; // as the service takes
const PAUSE_MS = 200; // in typing, before it is searched for

let asked = 0;

/** `current()` names the session on the page. */
export async function listSessions(current) {
  const query = new URLSearchParams({ limit: "50", served: "true", text: byId("find").value.trim() });
  const mine = asked += 1;
  try {
    const { sessions } = await call("GET", `sessions?${query}`);
    if (mine !== asked || byId("sessions").querySelector("input")) return; // a later list is on its way, or a name is being typed
    const focused = items().find((item) => item.contains(document.activeElement))?.dataset.session;
    byId("sessions").replaceChildren(...sessions.map(sessionItem));
    itemOf(focused)?.querySelector("a")?.focus();
    markCurrent(current());
  } catch (problem) {
    if (problem.code !== "unreachable") notify(problem);
  }
}

export function searchSessions(current) {
  let timer = 0;
  byId("find").oninput = () => { clearTimeout(timer); timer = setTimeout(() => listSessions(current), PAUSE_MS); };
}

const items = () => [...byId("sessions").querySelectorAll("li")];
const itemOf = (session) => items().find((item) => item.dataset.session === session);

/** Name of the graph that a listed session belongs to. */
export const graphOf = (session) => itemOf(session)?.dataset.graph;
/** When a listed session was last active. */
export const activeAt = (session) => itemOf(session)?.dataset.active;

function sessionItem({ session_id: id, title, graph, last_active_at: time }) {
  const button = (verb, name, onclick) => el("button", { class: "quiet", type: "button", title: verb, "aria-label": `${verb} session ${visible(title)}`, onclick }, icon(name));
  const when = new Date(time).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  const item = el("li", { "data-session": id, "data-graph": graph ?? "", "data-active": time },
    el("a", { href: `#${id}`, title: visible(title) }, el("span", { class: "cut" }, title), el("small", { class: "muted" }, facts.graphs.length > 1 && graph ? `${graph} · ${when}` : when)),
    button("Rename", "edit", () => renameSession(item, id, title)), button("Delete", "error", () => deleteSession(item, id, title)));
  return item;
}

let titled = null;

export function markCurrent(session) {
  // A search may leave the open session out of the list; it keeps its title.
  let title = session && session === titled ? byId("title").textContent : "New session";
  titled = session;
  for (const item of items()) {
    const current = item.dataset.session === session;
    const link = item.querySelector("a"); // a field stands there while its name is changed
    item.classList.toggle("current", current);
    if (link) link.ariaCurrent = current ? "page" : null;
    if (current && link) title = link.title;
  }
  byId("title").textContent = title;
  document.title = session ? `${title} · ${facts.name}` : facts.name;
}

function changed(session, how) { byId("sessions").dispatchEvent(new CustomEvent("changed", { detail: { session, how } })); tellTabs(session); }

function renameSession(item, id, title) {
  const field = el("input", { value: title, maxLength: TITLE_CHARS, "aria-label": "Name of the session" });
  const shown = [...item.childNodes];
  const back = () => { if (field.isConnected) { item.replaceChildren(...shown); shown[1].focus(); } };
  field.onkeydown = async (event) => {
    if (event.key === "Escape") back();
    if (event.key !== "Enter" || event.isComposing || !field.value.trim()) return;
    try { await call("PATCH", `sessions/${encodeURIComponent(id)}`, { body: { title: field.value.trim() } }); } catch (problem) { notify(problem); }
    back();
    changed(id, "renamed");
  };
  field.onblur = back;
  item.replaceChildren(field);
  field.select();
}

async function deleteSession(item, id, title) {
  if (!confirm(`Delete "${visible(title)}" with its messages?`)) return;
  try { await call("DELETE", `sessions/${encodeURIComponent(id)}`); } catch (problem) { notify(problem); return; }
  const next = item.nextElementSibling ?? item.previousElementSibling;
  (next?.querySelector("a") ?? byId("new")).focus(); // where it was
  item.remove();
  changed(id, "deleted");
}

export function showSidebar(open) {
  byId("sidebar").classList.toggle("open", open);
  byId("backdrop").hidden = !open;
  byId("menu").ariaExpanded = String(open);
  if (open) byId("new").focus();
}

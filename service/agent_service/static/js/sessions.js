/* The list of sessions at the side. */

import { call } from "./api.js";
import { byId, el, icon, visible } from "./dom.js";
import { notify } from "./log.js";

/** `current()` names the session on the page. */
export async function listSessions(current) {
  try {
    const { sessions } = await call("GET", "sessions?limit=50");
    byId("sessions").replaceChildren(...sessions.map(sessionItem));
    markCurrent(current());
  } catch (problem) {
    if (problem.code !== "unreachable") notify(problem);
  }
}

function sessionItem({ session_id: id, title, last_active_at: time }) {
  const remove = el("button", { class: "quiet", type: "button", title: "Delete", "aria-label": `Delete session ${visible(title)}`, onclick: () => deleteSession(id, title) }, icon("error"));
  return el("li", { "data-session": id }, el("a", { href: `#${id}`, title: visible(title) }, el("span", { class: "cut" }, title), el("small", { class: "muted" }, new Date(time).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }))), remove);
}

export function markCurrent(session) {
  let title = "New session";
  for (const item of byId("sessions").children) {
    const current = item.dataset.session === session;
    item.classList.toggle("current", current);
    item.firstChild.ariaCurrent = current ? "page" : null;
    if (current) title = item.firstChild.title;
  }
  byId("title").textContent = title;
  document.title = session ? `${title} · Slipway` : "Slipway";
}

async function deleteSession(id, title) {
  if (!confirm(`Delete "${visible(title)}" with its messages?`)) return;
  try { await call("DELETE", `sessions/${encodeURIComponent(id)}`); } catch (problem) { notify(problem); return; }
  byId("sessions").dispatchEvent(new CustomEvent("deleted", { detail: id }));
}

export function showSidebar(open) {
  byId("sidebar").classList.toggle("open", open);
  byId("backdrop").hidden = !open;
  byId("menu").ariaExpanded = String(open);
  if (open) byId("new").focus();
}

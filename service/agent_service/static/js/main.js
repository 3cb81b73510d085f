/* What the page starts with, and what its controls do. */

import { ask, newSession, openSession, page, stop } from "./conversation.js";
import { byId } from "./dom.js";
import { listSessions, showSidebar } from "./sessions.js";
import { themeSwitch } from "./theme.js";

byId("composer").onsubmit = (event) => {
  event.preventDefault();
  const question = byId("question").value.trim();
  if (!question || page.view || page.sending || byId("question").disabled) return;
  byId("question").value = "";
  byId("notices").replaceChildren();
  ask(question);
};
byId("question").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
};
themeSwitch(byId("theme"));
byId("stop").onclick = stop;
byId("new").onclick = newSession;
byId("menu").onclick = () => showSidebar(true);
byId("backdrop").onclick = () => showSidebar(false);
byId("key-cancel").onclick = () => byId("key-dialog").close();
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && byId("sidebar").classList.contains("open")) { showSidebar(false); byId("menu").focus(); }
});
byId("sessions").addEventListener("deleted", ({ detail: session }) => {
  if (session === page.session) newSession();
  listSessions(() => page.session);
});
window.addEventListener("popstate", () => { if (location.hash.slice(1) !== page.session) openSession(location.hash.slice(1)); });

openSession(location.hash.slice(1));
listSessions(() => page.session);

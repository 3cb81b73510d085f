/* What the page starts with, and what its controls do. */

import { ask, chooseGraph, lookAgain, newSession, openSession, page, refresh, refreshList, stop } from "./conversation.js";
import { developerView } from "./developer.js";
import { byId } from "./dom.js";
import { introduce } from "./facts.js";
import { fileChooser, takeFiles } from "./files.js";
import { notify } from "./log.js";
import { searchSessions, showSidebar } from "./sessions.js";
import { comeBack, signOutButton } from "./sign_in.js";
import { hearTabs } from "./tabs.js";
import { themeSwitch } from "./theme.js";

byId("composer").onsubmit = (event) => {
  event.preventDefault();
  const question = byId("question").value.trim();
  if (!question || page.view || page.sending || byId("question").disabled) return;
  byId("question").value = "";
  byId("notices").replaceChildren();
  ask(question, null, takeFiles());
};
byId("question").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
};
byId("stop").onclick = stop;
byId("new").onclick = newSession;
byId("menu").onclick = () => showSidebar(true);
byId("backdrop").onclick = () => showSidebar(false);
byId("graph").onchange = () => chooseGraph(byId("graph").value);
signOutButton(byId("sign-out"), notify);
fileChooser(() => byId("graph").value);
themeSwitch(byId("theme"));
searchSessions(() => page.session);
developerView(() => ({ session: page.session, graph: byId("graph").value }), () => openSession(page.session));

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && byId("sidebar").classList.contains("open")) { showSidebar(false); byId("menu").focus(); }
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) lookAgain(); });
byId("sessions").addEventListener("changed", (event) => {
  const { session, how } = /** @type {CustomEvent} */ (event).detail;
  if (how === "deleted" && session === page.session) newSession();
  refreshList();
});
hearTabs(refresh);
window.addEventListener("popstate", () => { if (location.hash.slice(1) !== page.session) openSession(location.hash.slice(1)); });

introduce();
byId("question").value = comeBack();
openSession(location.hash.slice(1));
refreshList();

/* The developer's view: the graph with the node that runs, time and tokens of each node, the session's states. Where DEVELOPER_MODE
   is on, and for admins where DEVELOPER_VIEW says so. */

import { call } from "./api.js";
import { Checkpoints } from "./checkpoints.js";
import { byId, el } from "./dom.js";
import { Drawing } from "./drawing.js";
import { facts } from "./facts.js";
import { log, problemCard } from "./log.js";
import { Times, waterfall } from "./waterfall.js";

/** @type {Drawing | null} */
let drawing = null;
let drawn = ""; // name of its graph
let run = ""; // whose events are shown
let times = new Times();
let attempt = 1; // of the run, whose events these are
/** @type {ModelCall[]} */
let calls = []; // of that attempt, as far as they are billed

/** `where()` gives `{session, graph}` of what is open; `reopen()` shows the session anew. */
export function developerView(where, reopen) {
  const graph = () => where().graph;
  const checkpoints = new Checkpoints(where, reopen);
  mayLook().then((may) => { byId("develop").hidden = !may; }, () => {}); // who cannot be asked for is told so by the list of sessions
  byId("times").replaceChildren(waterfall(times));
  byId("states").replaceChildren(checkpoints.root);
  const show = (open) => {
    byId("developer").hidden = !open;
    byId("develop").ariaExpanded = String(open);
    document.body.classList.toggle("developing", open);
    if (open) look();
  };
  const look = () => { refresh(graph()); countTokens(); checkpoints.show(); };
  const lookIfOpen = () => { if (!byId("developer").hidden) look(); };
  byId("develop").onclick = () => show(byId("developer").hidden);
  byId("developer-close").onclick = () => { show(false); byId("develop").focus(); };
  byId("developer").onkeydown = (event) => { if (event.key === "Escape") byId("developer-close").click(); };
  log.addEventListener("happened", (event) => {
    const { detail } = /** @type {CustomEvent} */ (event);
    hear(detail);
    if (detail.kind === "run" || detail.kind === "ended") lookIfOpen();
  });
  byId("graph").addEventListener("change", lookIfOpen);
  log.addEventListener("opened", lookIfOpen);
}

async function mayLook() {
  if (facts.developer !== "admins") return facts.developer === "everyone";
  return (await call("GET", "auth/me")).role !== "user";
}

/** Puts the tokens of the run beside its times. */
async function countTokens() {
  const of = run;
  if (!of) return;
  const found = await call("GET", `runs/${of}/calls`).catch(() => null); // the times stand without them
  if (!found || of !== run) return;
  calls = found.calls.filter((each) => each.attempt === attempt);
  byId("times").replaceChildren(waterfall(times, calls));
}

async function refresh(name) {
  if (!name || name === drawn) return;
  drawn = name;
  try {
    const shape = await call("GET", `assistants/${encodeURIComponent(name)}/graph`);
    if (name !== drawn) return;
    const fresh = drawing = new Drawing(name, shape);
    for (const event of times.events) fresh.hear(event);
    byId("drawn").replaceChildren(el("h3", {}, name), fresh.root);
  } catch (problem) {
    drawn = "";
    byId("drawn").replaceChildren(problemCard(problem, () => refresh(name)));
  }
}

function hear({ runId, kind, data }) {
  if (runId !== run || (kind === "run" && data.attempt > 1)) {
    drawing?.begin();
    run = runId;
    times = new Times();
    calls = [];
    attempt = 1;
  }
  if (kind === "run") attempt = data.attempt;
  if (kind === "node") {
    times.hear(data);
    drawing?.hear(data);
  } else if (kind === "ended") {
    drawing?.stop();
  }
  if (kind !== "node" || data.state === "end") byId("times").replaceChildren(waterfall(times, calls));
}

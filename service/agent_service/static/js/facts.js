/* What the service says of this installation: its name, its graphs, what may be asked. */

import { byId, el } from "./dom.js";

const told = /** @type {HTMLMetaElement} */ (document.querySelector("meta[name=slipway]")).content;

/** @type {Facts} */
export const facts = { name: "Slipway", logo: false, welcome: "", developer: "off", files: { most: 0, bytes: 0, together: 0 }, graphs: [], ...JSON.parse(told) };

const WELCOME = "Steps, sources and cost appear as the agent works.";

/** Puts name and logo in the page's head, and the graphs into the list to choose from, where there are several. */
export function introduce() {
  byId("name").textContent = facts.name;
  if (facts.logo) byId("logo").src = "logo";
  byId("graph").append(...facts.graphs.map(({ name }) => el("option", { value: name }, name)));
  byId("graph").hidden = facts.graphs.length < 2;
}

/** What an empty session shows; a press on an example asks it. */
export function welcome(graphName, ask) {
  const graph = facts.graphs.find(({ name }) => name === graphName);
  return el("div", { id: "empty" }, el("img", { src: byId("logo").src, alt: "" }), el("h2", {}, "Ask a question"),
    el("p", {}, facts.welcome || graph?.description || WELCOME),
    el("div", { class: "row samples" }, ...(graph?.examples ?? []).map((text) => el("button", { type: "button", onclick: () => ask(text) }, text))));
}

/* What a run tells beside its answer: a graph's own progress, its reasoning, and branches that speak while another does. */

import { clip, el, pretty, visible } from "./dom.js";

const MAX_REPORTS = 50; // of a graph's own events that stay on the page
const MAX_REPORT = 20_000; // characters of one
const MAX_STATUS = 300; // characters of a status line
const MAX_SPEAKERS = 12; // branches that are shown while they wait for their turn; the answer gets all of them
const MAX_SPEECH = 2_000; // characters: the end of what such a branch said
const MAX_THOUGHT = 50_000; // characters

export class Progress {
  constructor() {
    /** @type {Map<string, { said: string, text: HTMLElement, root: HTMLElement }>} */
    this.speakers = new Map();
    this.reports = 0;
    this.thought = "";
    this.bar = el("progress", { max: 1, hidden: true, "aria-label": "Progress" });
    this.status = el("span", { class: "status" });
    this.line = el("div", { class: "row progress", hidden: true, role: "status" }, this.bar, this.status);
    this.logTitle = el("summary", {}, "Reports of the graph");
    this.log = folded(this.logTitle);
    this.thoughtText = el("pre", { tabIndex: 0 });
    this.thoughts = folded(el("summary", {}, "Reasoning"), this.thoughtText);
    this.branches = el("div", { class: "branches", hidden: true });
    this.root = el("div", {}, this.line, this.log, this.thoughts, this.branches);
  }

  /** An event `custom`: what a node gave to LangGraph's `get_stream_writer()`, any JSON value. */
  report(payload) {
    if (typeof payload === "string") return this.say(payload);
    const { progress, message, status, ...others } = isObject(payload) ? payload : { value: payload };
    const text = [message, status].find((each) => typeof each === "string");
    if (Number.isFinite(progress)) this.advance(progress);
    if (text !== undefined) this.say(text);
    if (Object.keys(others).length || (!Number.isFinite(progress) && text === undefined)) this.keep(payload);
    return undefined;
  }

  /** 0 to 1; what is more is taken as percent. */
  advance(progress) {
    this.bar.value = Math.min(1, Math.max(0, progress > 1 ? progress / 100 : progress));
    this.bar.title = `${Math.round(this.bar.value * 100)} %`;
    this.bar.hidden = this.line.hidden = false;
  }

  say(text) {
    this.status.textContent = visible(clip(text, MAX_STATUS));
    this.line.hidden = false;
  }

  keep(payload) {
    this.reports += 1;
    this.log.hidden = false;
    this.logTitle.textContent = `Reports of the graph (${this.reports})`;
    if (this.reports > MAX_REPORTS) this.log.children[1].remove(); // the oldest, after the title
    this.log.append(el("pre", { tabIndex: 0 }, clip(pretty(payload), MAX_REPORT)));
  }

  think(text) {
    if (this.thought.length >= MAX_THOUGHT) return;
    this.thought = clip(this.thought + text, MAX_THOUGHT);
    this.thoughtText.textContent = visible(this.thought);
    this.thoughts.hidden = false;
  }

  /** Text of a branch that speaks while another one does. */
  hear(source, text) {
    const speaker = this.speakers.get(source) ?? this.addSpeaker(source);
    if (!speaker) return;
    speaker.said = (speaker.said + text).slice(-MAX_SPEECH);
    speaker.text.textContent = visible(speaker.said);
  }

  addSpeaker(source) {
    if (this.speakers.size >= MAX_SPEAKERS) return null;
    const text = el("p");
    const speaker = { said: "", text, root: el("div", { class: "branch" }, el("b", {}, String(source).split("#")[0]), text) };
    this.speakers.set(source, speaker);
    this.branches.append(speaker.root);
    this.branches.hidden = false;
    return speaker;
  }

  /** It is heard in the answer from here on. */
  forgetSpeaker(source) {
    this.speakers.get(source)?.root.remove();
    this.speakers.delete(source);
    this.branches.hidden = !this.speakers.size;
  }

  forgetSpeakers() { for (const source of [...this.speakers.keys()]) this.forgetSpeaker(source); }

  finish() {
    this.forgetSpeakers();
    this.line.hidden = true; // the answer stands; reports and reasoning stay folded
  }
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

const folded = (...children) => el("details", { class: "folded", hidden: true }, ...children);

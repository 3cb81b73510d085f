/* One run's stream, across drops, restarts and expired tokens. */

import { backoff, call, pause } from "./api.js";

const KINDS = [
  "run", "node", "tool_start", "tool_end", "interrupt", "usage", "reset", "gap", "error", "custom", "partial", "source", "reasoning",
]; // others are left alone: a newer service may send more

export class RunStream {
  /**
   * @param {string} runId
   * @param {{ event: (kind: string, data: any) => void, link: (up: boolean) => void, ended: (problem?: any) => void }} on `ended` is called once
   */
  constructor(runId, on) {
    this.runId = runId;
    this.on = on;
    this.lastId = "";
    this.tries = 0;
    this.closed = false;
    /** @type {EventSource | undefined} */
    this.source = undefined;
    this.open();
  }

  close() {
    this.closed = true;
    this.source?.close();
  }

  async open() {
    const ticket = await call("POST", `auth/stream-token?run_id=${this.runId}`).catch((problem) => this.refused(problem)); // lives a minute, opens this stream
    if (!ticket || this.closed) return;
    const query = new URLSearchParams({ token: ticket.token, ...(this.lastId && { last_event_id: this.lastId }) });
    const source = this.source = new EventSource(`runs/${this.runId}/stream?${query}`);
    source.onopen = () => this.on.link(true);
    source.onmessage = (event) => (event.data === "[DONE]" ? this.end() : this.take("text", event));
    for (const kind of KINDS) source.addEventListener(kind, (event) => (event.data === undefined ? this.dropped() : this.take(kind, event)));
    source.addEventListener("reconnect", (event) => this.reopen(JSON.parse(event.data).retry_ms));
  }

  take(kind, event) {
    Object.assign(this, { lastId: event.lastEventId, tries: 0 });
    try {
      this.on.event(kind, kind === "text" ? event.data : JSON.parse(event.data));
    } catch (error) {
      console.warn(`An event "${kind}" is not as this page knows it:`, error); // and costs no other
    }
  }

  /** EventSource's own `error`. It comes back by itself unless it is CLOSED: an expired token, a proxy's error page, or 204. */
  dropped() {
    this.on.link(false);
    if (this.source?.readyState === EventSource.CLOSED && !this.closed) this.check();
  }

  async check() {
    try {
      const run = await call("GET", `runs/${this.runId}`);
      if (this.closed) return;
      if (run.status === "finished" && this.tries > 0) this.missed(run);
      else this.reopen(backoff(this.tries));
    } catch (problem) {
      this.refused(problem);
    }
  }

  refused(problem) {
    if (this.closed) return;
    if (problem.retryable) this.reopen(Math.max(problem.retryAfter * 1000, backoff(this.tries)));
    else this.end(problem);
  }

  async reopen(ms) {
    this.source?.close();
    this.on.link(false);
    this.tries += 1;
    await pause(ms);
    if (!this.closed) this.open();
  }

  /** Its stream has nothing more to say: what it may have said while nobody listened. */
  missed({ answer, interrupts, error, outcome, usage, cost_usd: cost }) {
    this.on.event("reset", { text: answer });
    this.on.event("interrupt", { interrupts });
    this.on.event("usage", { outcome, ...usage, cost_usd: cost });
    if (error) this.on.event("error", error);
    this.end();
  }

  end(problem = undefined) {
    this.close();
    this.on.ended(problem);
  }
}

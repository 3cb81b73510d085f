/* Calls to the service. */

import { problemOf, send } from "./problem.js";
import { accepted, admit, credentials } from "./sign_in.js";

/** @type {(ms: number, signal?: AbortSignal) => Promise<void>} */
export const pause = (ms, signal) => new Promise((resolve, reject) => {
  setTimeout(resolve, ms);
  signal?.addEventListener("abort", () => reject(signal.reason));
});

/** Milliseconds before the next try. */
export const backoff = (tries) => Math.min(500 * 2 ** tries, 10000) * (0.75 + Math.random() / 2);
/** crypto.randomUUID exists only on https and localhost; a cluster address is often plain http. */
export const randomKey = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

/**
 * One call. Asks who it is on 401. Throws Problem, or AbortError; resolves to the body, or null for 204.
 * @param {string} method
 * @param {string} path
 * @param {{ body?: object, headers?: Record<string, string>, signal?: AbortSignal, as?: "json" | "blob" }} [options]
 * @returns {Promise<any>}
 */
export async function call(method, path, { body, headers = {}, signal, as = "json" } = {}) {
  for (let renewed = false; ; renewed = true) {
    const who = credentials();
    const response = await send(path, {
      method, signal, body: body && JSON.stringify(body),
      headers: { ...headers, ...(body && { "Content-Type": "application/json" }), ...who },
    });
    if (response.ok) {
      accepted(who);
      return response.status === 204 ? null : response[as]();
    }
    const problem = await problemOf(response);
    if (response.status !== 401) throw problem;
    await admit(who, problem, renewed);
  }
}

/* Calls to the service, with the key or token that the tab keeps. */

import { byId, visible } from "./dom.js";

const KEY = "slipway.key"; // in sessionStorage: of this tab, until it is closed

let told = () => {};

/** Calls `tell(known)` now, and whenever it changes, whether this tab has a key. */
export function signedIn(tell) {
  told = tell;
  tell(sessionStorage.getItem(KEY) !== null);
}

/** Forgets the key, and everything on the page with it. */
export function signOut() {
  sessionStorage.removeItem(KEY);
  location.assign(location.pathname);
}

export const pause = (ms, signal) => new Promise((resolve, reject) => {
  setTimeout(resolve, ms);
  signal?.addEventListener("abort", () => reject(signal.reason));
});

export const backoff = (tries) => Math.min(500 * 2 ** tries, 10000) * (0.75 + Math.random() / 2);
/** crypto.randomUUID exists only on https and localhost; a cluster address is often plain http. */
export const randomKey = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

export class Problem extends Error {
  constructor({ code, detail, retryable = false, retryAfter = 0 }) {
    super(detail);
    Object.assign(this, { code, retryable, retryAfter });
  }
}

const unreachable = () => new Problem({ code: "unreachable", detail: "The server cannot be reached.", retryable: true });

/** One call. Asks for the key on 401. Throws Problem, or AbortError; resolves to the JSON body, or null for 204. */
export async function call(method, path, { body, headers = {}, signal } = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const response = await fetch(path, {
      method, signal, cache: "no-store", body: body && JSON.stringify(body),
      headers: { ...headers, ...(body && { "Content-Type": "application/json" }), ...(key && { Authorization: `Bearer ${key}` }) },
    }).catch((error) => { throw error.name === "AbortError" ? error : unreachable(); });
    if (response.ok) return response.status === 204 ? null : response.json();
    const problem = await problemOf(response);
    if (response.status !== 401) throw problem;
    await askKey(key, problem);
  }
}

async function problemOf(response) {
  const body = await response.json().catch(() => null);
  if (!body?.code && [502, 504].includes(response.status)) return unreachable(); // a proxy spoke, not the service
  return new Problem({
    code: body?.code ?? `http_${response.status}`,
    detail: body?.detail ?? `The server answered ${response.status}.`,
    retryable: body?.retryable ?? [429, 503].includes(response.status),
    retryAfter: Number(response.headers.get("Retry-After")) || 0,
  });
}

let keyPrompt = null; // one dialog for all calls that got 401 together

function askKey(refused, problem) {
  if (sessionStorage.getItem(KEY) !== refused) return null; // another call already has a newer one
  keyPrompt ??= new Promise((resolve, reject) => {
    const dialog = byId("key-dialog");
    byId("key-reason").textContent = refused ? `The key was refused: ${visible(problem.message)}` : "This agent answers only to callers it knows.";
    byId("key").value = dialog.returnValue = "";
    dialog.onclose = () => {
      keyPrompt = null;
      if (dialog.returnValue !== "ok") return reject(problem);
      sessionStorage.setItem(KEY, byId("key").value);
      told(true);
      return resolve();
    };
    dialog.showModal();
  });
  return keyPrompt;
}

/* Who the page speaks for: a key that the tab keeps, or whoever has signed in at the provider. Of that the service keeps all in
   a cookie that no script can read, so nothing here has a token. */

import { byId, isHttp } from "./dom.js";
import { facts } from "./facts.js";
import { Problem, problemOf, send } from "./problem.js";
import { signInDialogs } from "./sign_in_dialog.js";
import { inWords, SIGN_IN_FAILURES } from "./words.js";

const KEY = "slipway.key"; // in sessionStorage: of this tab, until it is closed
const BEFORE = "slipway.before"; // what was on the page before the way to the provider
const OF_PAGE = { "X-Slipway-Page": "1" }; // without it the service does not look at the cookie
const channel = new BroadcastChannel("slipway.sign-in");

const dialogs = signInDialogs({ takesKeys: facts.keys });
const keyOf = () => sessionStorage.getItem(KEY);
let signed = false; // the service has answered to this page's cookie
/** @type {(known: boolean) => void} */
let told = () => {};
let failure = "";

/** Headers of a call. */
/** @returns {Record<string, string>} */
export function credentials() {
  const key = keyOf();
  if (key) return { Authorization: `Bearer ${key}` };
  return facts.signIn ? OF_PAGE : {};
}

/** Shows the button while there is anybody to sign out, and makes it do so; `failed(problem)` is told why it could not. */
export function signOutButton(button, failed) {
  told = (known) => { button.hidden = !known; };
  told(keyOf() !== null);
  button.onclick = () => signOut().catch(failed);
}

/** The service answered to these headers. */
export function accepted(headers) {
  if (signed || headers !== OF_PAGE) return;
  signed = true;
  told(true);
}

/** After a 401 to these headers: resolves when the call may be made again, else throws the problem. */
export async function admit(headers, problem, renewed) {
  if (credentials().Authorization !== headers.Authorization) return; // another call already has a newer key
  if (headers === OF_PAGE) {
    if (!renewed && await renew()) return;
    await askToSignIn(problem);
  } else await askKey(keyOf(), problem);
}

const post = (path) => send(path, { method: "POST", headers: OF_PAGE });

/** @type {Promise<boolean> | null} */
let renewal = null; // one for all calls that got 401 together, and by the lock one for all tabs: a refresh token is good once

function renew() {
  renewal ??= Promise.resolve(navigator.locks ? navigator.locks.request("slipway.renew", askAnew) : askAnew()).finally(() => { renewal = null; });
  return renewal;
}

async function askAnew() {
  const response = await post("auth/renew");
  if (response.ok) return true;
  if (response.status === 401) return false;
  throw await problemOf(response);
}

/** Forgets who it was, and everything on the page with it; at the provider too. */
async function signOut() {
  const key = keyOf();
  sessionStorage.removeItem(KEY);
  if (key !== null || !facts.signIn) return location.assign(location.pathname);
  // Under the lock of renewals: the answer of one that is under way would put the session back.
  const end = () => post("auth/sign-out");
  const response = await (navigator.locks ? navigator.locks.request("slipway.renew", end) : end());
  if (!response.ok) throw await problemOf(response);
  channel.postMessage("out");
  return go((await response.json()).location ?? location.href.replace(/[?#].*/, ""));
}

function go(address) {
  if (!isHttp(address)) throw new Problem({ code: "page", detail: "The provider's address is no web address." });
  location.assign(address);
}

/** Keeps what is typed and which session is open, for when the page is loaded again. */
function keep() {
  const question = byId("question")?.value || byId("composer")?.dataset.asked || "";
  sessionStorage.setItem(BEFORE, JSON.stringify({ hash: location.hash, question }));
}

/** Once, as the page is loaded: what was on it before, which is put into the address, and what was typed. */
export function comeBack() {
  const before = JSON.parse(sessionStorage.getItem(BEFORE) ?? "null");
  const failed = new URLSearchParams(location.search).get("sign_in");
  sessionStorage.removeItem(BEFORE);
  if (before || failed) history.replaceState(null, "", `${location.pathname}${before?.hash || location.hash}`);
  if (failed) failure = SIGN_IN_FAILURES[failed] ?? SIGN_IN_FAILURES.refused;
  else if (before) channel.postMessage("in");
  return before?.question ?? "";
}

if (facts.signIn) {
  channel.onmessage = ({ data }) => {
    const waits = dialogs.signIn.root.open;
    if (data === "in" && waits) keep();
    if (data === "out" || waits) location.reload(); // who has signed in may be somebody else
  };
  window.addEventListener("pageshow", ({ persisted }) => { if (persisted) location.reload(); }); // Back, after signing out
}

/** @type {Promise<void> | null} */
let prompt = null; // one dialog for all calls that got 401 together

function askToSignIn(problem) {
  prompt ??= signInOrKey(problem).finally(() => { prompt = null; });
  return prompt;
}

async function signInOrKey(problem) {
  let reason = failure || (signed ? "Your sign-in has ended. Sign in again to go on: what you typed is kept." : `${facts.name} answers only to people it knows.`);
  failure = "";
  for (;;) {
    const chosen = await dialogs.signIn.ask(reason);
    if (chosen === "key") return askKey(null, problem);
    if (chosen !== "ok") throw problem;
    try {
      return await leave();
    } catch (error) {
      reason = inWords(error);
    }
  }
}

/** To the provider. Does not resolve: the page is gone then. */
async function leave() {
  const response = await post(`auth/sign-in?page=${byId("question") ? "chat" : "spend"}`);
  if (!response.ok) throw await problemOf(response);
  keep();
  go((await response.json()).location);
  return new Promise(() => {});
}

/** @type {Promise<void> | null} */
let keyPrompt = null; // likewise

function askKey(refused, problem) {
  keyPrompt ??= (async () => {
    const reason = refused ? `The key was refused: ${problem.message}` : "This agent answers only to callers it knows.";
    if (await dialogs.key.ask(reason) !== "ok") throw problem;
    sessionStorage.setItem(KEY, dialogs.key.key.value);
    told(true);
  })().finally(() => { keyPrompt = null; });
  return keyPrompt;
}

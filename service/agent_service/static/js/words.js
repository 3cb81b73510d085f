/* Problems in plain words: what happened, and what to do. Codes are for programs. */

const WORDS = {
  unreachable: "The server cannot be reached. Check your connection.",
  unauthenticated: "You are not signed in.",
  forbidden: "You may not do that.",
  not_found: "This is not there, or it was deleted.",
  session_busy: "An answer in this session is still being written. Wait for it, or stop it.",
  state_gone: "What was said before this question is no longer kept for it to be asked anew. Ask a new question below.",
  session_interrupted: "This session waits for a decision. Decide above first.",
  other_graph: "This session belongs to an agent that is not served here any more.",
  not_interrupted: "This was decided already.",
  idempotency_conflict: "This was sent before in another form. Send it again.",
  too_many_streams: "You have too many answers open at once. Close another tab, then try again.",
  rate_limited: "You have asked many questions in a short time. Wait a moment.",
  too_many_runs: "You have too many answers being written at once. Wait for one to end.",
  too_many_queued: "Many of your questions are waiting already. Wait for one to end.",
  overloaded: "The server is busy right now. Try again in a moment.",
  server_leaving: "The server is being restarted. Try again in a moment.",
  database_unavailable: "The server cannot reach its database. Try again in a moment.",
  schema_mismatch: "The server is being updated. Try again in a moment.",
  issuer_unavailable: "Your sign-in cannot be checked right now. Try again in a moment.",
  model_unavailable: "The language model does not answer right now. Try again in a moment.",
  model_rejected: "The language model refused this request. Asking in another way may help.",
  graph_failed: "The agent failed while it worked on this. If it happens again, tell whoever runs it.",
  graph_changed: "The agent has changed since this began, and cannot go on with it. Please ask again.",
  graph_not_served: "The agent of this session is not served any more.",
  too_many_attempts: "The answer was tried several times and failed each time.",
  lease_lost: "Another server took over this answer. Reload the page to see it.",
};

/** By the word with which the service sends people back to the page. */
export const SIGN_IN_FAILURES = {
  expired: "That sign-in took too long, or began in another browser. Please sign in again.",
  denied: "The sign-in was declined. You can sign in again, or with another account.",
  refused: "You could not be signed in with this account. If it happens again, tell whoever runs this.",
  unavailable: "The sign-in service does not answer right now. Try again in a moment.",
};

/** Their detail is a sentence for people: what was expected, which rule refused it, how much is left. */
const SPEAK_FOR_THEMSELVES = new Set(["graph_broken", "invalid_request", "guardrail_blocked", "too_large", "budget_spent", "page"]);

const OUTCOMES = {
  completed: "completed", interrupted: "asked for a decision", iteration_limit: "stopped: step limit", timeout: "stopped: time limit",
  budget: "stopped: budget", cancelled: "stopped", failed: "failed",
};

export const outcomeInWords = (outcome) => OUTCOMES[outcome] ?? "ended";

/** A sentence for a Problem, or for any error of the page itself. */
export function inWords({ code, message }) {
  if (SPEAK_FOR_THEMSELVES.has(code) && message) return message;
  return WORDS[code] ?? "Something went wrong on the server. If it happens again, tell whoever runs it.";
}

/* What a call failed with, from the service's problem details (RFC 9457). */

export class Problem extends Error {
  /** @param {{ code: string, detail: string, retryable?: boolean, retryAfter?: number }} told `retryAfter` in seconds */
  constructor({ code, detail, retryable = false, retryAfter = 0 }) {
    super(detail);
    this.code = code;
    this.retryable = retryable;
    this.retryAfter = retryAfter;
  }
}

const unreachable = () => new Problem({ code: "unreachable", detail: "The server cannot be reached.", retryable: true });

/**
 * `fetch` without the cache; throws a Problem where nobody answers, or AbortError.
 * @param {string} path
 * @param {RequestInit} options
 */
export const send = (path, options) => fetch(path, { cache: "no-store", ...options })
  .catch((error) => { throw error.name === "AbortError" ? error : unreachable(); });

/** @param {Response} response */
export async function problemOf(response) {
  const body = await response.json().catch(() => null);
  if (!body?.code && [502, 504].includes(response.status)) return unreachable(); // a proxy spoke, not the service
  return new Problem({
    code: body?.code ?? `http_${response.status}`,
    detail: body?.detail ?? `The server answered ${response.status}.`,
    retryable: body?.retryable ?? [429, 503].includes(response.status),
    retryAfter: Number(response.headers.get("Retry-After")) || 0,
  });
}

const given = new URLSearchParams(location.search);

/** Where the agent is: `?api=…&key=…&assistant=…`. */
export const settings = {
  apiUrl: given.get("api") ?? "http://127.0.0.1:8000",
  apiKey: given.get("key") ?? undefined,
  assistantId: given.get("assistant") ?? "agent",
};

/** The conversation stays in the address, so that a reload finds it. */
export const threadOfAddress = () => new URLSearchParams(location.search).get("thread");

export function putThreadInAddress(thread) {
  const address = new URL(location.href);
  address.searchParams.set("thread", thread);
  history.replaceState(null, "", address);
}

/* Tabs of one browser tell each other what changed, so that they all show it. */

const channel = new BroadcastChannel("slipway.sessions");

/** `session` has changed here: it was asked, decided, renamed or deleted. */
export const tellTabs = (session) => channel.postMessage(session);

/** Calls `take(session)` when another tab says so. */
export const hearTabs = (take) => { channel.onmessage = ({ data }) => take(String(data)); };

/* The dialogs that ask who somebody is: one offers the provider's sign-in, one takes a key. Each page gets them from here. */

import { el, visible } from "./dom.js";

/** A dialog, put into the page. The value of the button that closed it is the answer. */
class Dialog {
  /** @param {string} id @param {string} title @param {...Node} content between the reason and the buttons; the last are the buttons */
  constructor(id, title, ...content) {
    this.reason = el("p", { class: "muted" });
    this.root = el("dialog", { id: `${id}-dialog`, "aria-labelledby": `${id}-title` },
      el("form", { method: "dialog" }, el("h2", { id: `${id}-title` }, title), this.reason, ...content));
    document.body.append(this.root);
  }

  /** Shows it with a reason; resolves to the value of the button, or to nothing for Cancel and Escape. */
  ask(reason) {
    this.reason.textContent = visible(reason);
    return new Promise((/** @type {(chosen: string) => void} */ resolve) => {
      this.root.returnValue = "";
      this.root.onclose = () => resolve(this.root.returnValue);
      this.root.showModal();
    });
  }
}

const cancel = () => el("button", { type: "button", onclick: ({ currentTarget }) => currentTarget.closest("dialog").close() }, "Cancel");
const buttons = (...each) => el("div", { class: "row" }, ...each);

/** Takes the key or token that `key` holds: answers "ok". */
class KeyDialog extends Dialog {
  constructor() {
    const key = el("input", {
      id: "key", type: "password", autocomplete: "off", required: true, pattern: "[!-~]+", title: "Printable characters without spaces",
    });
    super("key", "API key or token needed", el("label", {}, "API key or token ", key),
      el("p", { class: "note" }, "Kept in this tab only, until it is closed."),
      buttons(cancel(), el("button", { class: "primary", value: "ok" }, "Continue")));
    this.key = key;
  }

  ask(reason) {
    this.key.value = "";
    return super.ask(reason);
  }
}

/** Offers the provider's sign-in ("ok") and, where the service takes keys, a key ("key"). */
class SignInDialog extends Dialog {
  constructor(takesKeys) {
    super("sign-in", "Sign in", buttons(el("button", { class: "quiet", value: "key", hidden: !takesKeys }, "Use an API key"), cancel(),
      el("button", { class: "primary", value: "ok", autofocus: true }, "Sign in")));
  }
}

/** Both, made for this page. */
export const signInDialogs = ({ takesKeys }) => ({ key: new KeyDialog(), signIn: new SignInDialog(takesKeys) });

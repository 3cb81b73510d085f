/* Copying, also where the browser has no clipboard for pages: plain http, as inside of a cluster. */

import { el, icon } from "./dom.js";

const SAID_MS = 2_000; // that a button says "Copied"

/** A button that copies what `text()` gives when it is pressed. `of` names it for who does not see where it stands. */
export function copyButton(of, text) {
  const word = el("span", { role: "status" }, "Copy");
  const button = el("button", { class: "quiet", type: "button", "aria-label": `Copy ${of}`, title: `Copy ${of}` }, icon("copy"), " ", word);
  button.onclick = async () => {
    word.textContent = (await copy(text())) ? "Copied" : "Not allowed here";
    setTimeout(() => { word.textContent = "Copy"; }, SAID_MS);
  };
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

function copyBySelection(text) {
  const focused = document.activeElement;
  const field = el("textarea", { class: "sr", value: text, readOnly: true });
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  if (focused instanceof HTMLElement) focused.focus();
  return done;
}

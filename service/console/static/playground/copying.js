// Copy as Python, copy as curl: into the clipboard, and into a dialog where one can see what was copied.

import { el } from "../dom.js";

/** Copy `code` and show it. `what`: "Python" or "curl". */
export async function copyCode(what, code) {
  const copied = el("p", { role: "status" });
  const text = el("pre", { tabindex: 0, "aria-label": `${what} code` }, el("code", {}, code));
  const again = el("button", { type: "button", class: "primary", onclick: () => copy(code, copied, text) }, "Copy");
  const dialog = el("dialog", { class: "code", "aria-labelledby": "code-title", onclose: () => dialog.remove() },
    el("h2", { id: "code-title" }, `The same in ${what}`), copied, text,
    el("div", { class: "row" }, again, el("button", { type: "button", onclick: () => dialog.close() }, "Close")));
  document.body.append(dialog);
  dialog.showModal();
  await copy(code, copied, text);
}

async function copy(code, copied, text) {
  try {
    await navigator.clipboard.writeText(code);
    copied.textContent = "Copied. Paste it and it runs.";
  } catch {
    getSelection().selectAllChildren(text); // no clipboard for pages over http, or it was not allowed
    copied.textContent = "Selected: copy it with Ctrl+C or ⌘C.";
  }
}

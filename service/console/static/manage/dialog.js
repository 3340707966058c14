// Questions before what cannot be undone: a real <dialog>, so Escape, focus and the page behind are the browser's work.

import { el } from "../dom.js";
import { onSubmit } from "../forms.js";

let made = 0;

/**
 * Ask in a dialog; its form runs `action(data)` when it is sent and shows a Problem at its fields, or on top.
 * `fields`: nodes between the text and the buttons. Resolves to what `action` returned, or null where it was closed.
 */
export function ask({ title, text = [], fields = [], submit, danger = false, action }) {
  const id = `dialog-${++made}`;
  return new Promise((resolve) => {
    let outcome = null;
    const close = () => dialog.close();
    const form = el(
      "form",
      {},
      el("h2", { id }, title),
      [text].flat().map((line) => el("p", {}, line)),
      fields,
      el(
        "div",
        { class: "row dialog-buttons" },
        el("button", { type: "submit", class: danger ? "danger" : "primary" }, submit),
        el("button", { type: "button", onclick: close }, "Not now"),
      ),
    );
    onSubmit(form, async (data) => {
      outcome = await action(data);
      close();
    });
    const dialog = el("dialog", { "aria-labelledby": id }, form);
    show(dialog, () => resolve(outcome));
  });
}

/** Something to read, with one button. Resolves when it is closed. */
export function tell({ title, content, close: label = "Done" }) {
  const id = `dialog-${++made}`;
  return new Promise((resolve) => {
    const button = el("button", { type: "button", class: "primary", onclick: () => dialog.close() }, label);
    const buttons = el("div", { class: "row dialog-buttons" }, button);
    const dialog = el("dialog", { "aria-labelledby": id }, el("h2", { id }, title), content, buttons);
    show(dialog, resolve);
  });
}

function show(dialog, onClose) {
  dialog.addEventListener("close", () => {
    dialog.remove();
    onClose();
  });
  document.body.append(dialog);
  dialog.showModal();
}

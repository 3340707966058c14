// Where inputs come from: a pad, files, the clipboard, the webcam, a text field. One collector per class, and one for the
// query; all hand over values as the API takes them.

import { el, fill, notice } from "../dom.js";
import { openCamera } from "./camera.js";
import { Pad } from "./pad.js";
import { picturesIn, readPictures } from "./pictures.js";
import { numbersOf, rowsOf } from "./table.js";

let last = null; // the collector of pictures that was used last takes what is pasted
let made = 0;

document.addEventListener("paste", (event) => {
  const files = picturesIn(event.clipboardData);
  if (!files.length || !last?.element.isConnected) return;
  event.preventDefault();
  last.take(files);
});

/** A collector for pictures. `onPictures(dataUrls)` with pictures that are finished, `onDrawing(dataUrl or null)` while
 * something is drawn, where that is wanted: else a button adds the drawing. `purpose()`: what they are for, in words. */
export class PictureCollector {
  constructor({ kind, purpose, onPictures, onDrawing = null }) {
    Object.assign(this, { purpose, onPictures, onDrawing });
    this.fault = el("div");
    this.pad = kind.id === "drawing" ? new Pad("Pad to draw on. Without a pointer, choose pictures instead.", () => this.#drawn()) : null;
    this.element = el("div", {
      class: "collector",
      onpointerdown: () => (last = this), onfocusin: () => (last = this),
      ondragover: (event) => this.#over(event, true), ondragleave: (event) => this.#over(event, false),
      ondrop: (event) => this.#drop(event),
    }, this.pad && this.#padPart(), this.#otherWays(), this.fault);
    if (!last) last = this;
  }

  /** Read files; what is no picture is said. */
  async take(files) {
    fill(this.fault);
    try {
      this.onPictures(await readPictures(files));
    } catch (error) {
      fill(this.fault, notice("bad", error.message));
    }
  }

  #padPart() {
    const button = (name, does, more = {}) => el("button", { type: "button", class: "small", disabled: true, onclick: does, ...more }, name);
    this.add = this.onDrawing ? null : button("Add", () => this.#finish(), { class: "small primary" });
    this.undo = button("Undo", () => this.pad.undo(), { "aria-label": "Undo the last stroke" });
    this.clear = button("Clear", () => this.pad.clear(), { "aria-label": "Clear the pad" });
    return [this.pad.element, el("div", { class: "row pad-buttons" }, this.add, this.undo, this.clear)];
  }

  #otherWays() {
    const several = this.onDrawing === null;
    const input = el("input", {
      type: "file", accept: "image/*", multiple: several, hidden: true, "aria-label": "Pictures",
      onchange: () => {
        this.take([...input.files]);
        input.value = "";
      },
    });
    const choose = el("button", { type: "button", class: "small", onclick: () => input.click() }, several ? "Pictures …" : "Picture …");
    const camera = el("button", { type: "button", class: "small", onclick: () => openCamera(this.purpose(), (one) => this.onPictures([one])) }, "Webcam");
    return el("div", { class: "other-ways" }, el("div", { class: "row" }, choose, camera, input), el("p", { class: "hint" }, several ? "or drop or paste pictures here" : "or drop or paste one here"));
  }

  #drawn() {
    for (const button of [this.add, this.undo, this.clear]) if (button) button.disabled = this.pad.isEmpty;
    this.onDrawing?.(this.pad.isEmpty ? null : this.pad.picture());
  }

  #finish() {
    this.onPictures([this.pad.picture()]);
    this.pad.clear();
  }

  #over(event, inside) {
    event.preventDefault();
    this.element.classList.toggle("over", inside);
  }

  #drop(event) {
    this.#over(event, false);
    last = this;
    const files = picturesIn(event.dataTransfer);
    if (files.length) this.take(files);
    else fill(this.fault, notice("bad", "That was no file. Save the picture first, then drop it here."));
  }
}

/** A field for examples of texts or numbers: Enter adds each line as one. `onValues(values)`. */
export function lineCollector({ kind, onValues }) {
  const id = `lines-${++made}`;
  const fault = el("div");
  const add = () => {
    try {
      const values = valuesOf(kind, field.value);
      fill(fault);
      if (values.length) onValues(values);
      field.value = "";
    } catch (error) {
      fill(fault, notice("bad", error.message));
    }
    field.focus();
  };
  const onkeydown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    add();
  };
  const hint = kind.id === "text" ? "Enter adds it; several lines are several examples." : "Commas, tabs or spaces between numbers. Enter adds the row; several lines are several rows.";
  const field = el("textarea", { id, rows: 2, onkeydown, class: kind.id === "vector" ? "mono" : "", "aria-describedby": `${id}-hint` });
  return el("div", { class: "collector field" },
    el("label", { for: id }, "New examples"), field,
    el("p", { class: "hint", id: `${id}-hint` }, hint), fault,
    el("button", { type: "button", class: "small primary", onclick: add }, "Add"));
}

/** A field for the query. `onValue(value or null)` as it is typed. */
export function lineQuery({ kind, onValue }) {
  const fault = el("p", { class: "field-error", id: "query-fault" });
  const oninput = () => {
    fault.textContent = "";
    if (!field.value.trim()) return onValue(null);
    try {
      onValue(kind.id === "text" ? field.value.trim() : numbersOf(field.value));
    } catch (error) {
      fault.textContent = error.message;
      onValue(null);
    }
  };
  const field = el("textarea", { id: "query-line", rows: 2, oninput, class: kind.id === "vector" ? "mono" : "", "aria-describedby": "query-fault" });
  const name = kind.id === "text" ? "Type a text it has not seen" : "Type a row of numbers";
  const element = el("div", { class: "field" }, el("label", { for: "query-line" }, name), field, fault);
  const set = (text) => {
    field.value = text;
    oninput();
  };
  return { element, set };
}

function valuesOf(kind, text) {
  if (kind.id === "vector") return rowsOf(text);
  return text.split(/\r?\n/).map((line) => line.trim()).filter(Boolean);
}

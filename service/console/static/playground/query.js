// What the model is tried on: drawn, chosen, typed. It asks while it grows.

import { el, fill } from "../dom.js";
import { lineQuery, PictureCollector } from "./collector.js";
import { isPicture } from "./kinds.js";

/** `onInput(input or null)` as it changes. */
export class QueryPanel {
  constructor(container, kind, onInput) {
    Object.assign(this, { kind, onInput });
    if (isPicture(kind)) this.#pictures(container);
    else this.#lines(container);
  }

  clear() {
    if (this.line) this.line.set("");
    else if (this.collector.pad) this.collector.pad.clear();
    this.#preview(null);
    this.onInput(null);
  }

  /** A query of the built-in example; see `exampleOf`. */
  show({ strokes, text, input }) {
    if (text) this.line.set(text);
    else if (strokes) this.collector.pad.strokes = strokes;
    else this.#chosen(input);
  }

  #lines(container) {
    this.line = lineQuery({ kind: this.kind, onValue: this.onInput });
    container.append(this.line.element);
  }

  #pictures(container) {
    this.preview = el("div", { class: "preview" });
    this.collector = new PictureCollector({
      kind: this.kind,
      purpose: () => "what to try",
      onPictures: (pictures) => this.#chosen(pictures.at(-1)),
      onDrawing: (picture) => {
        this.#preview(null);
        this.onInput(picture);
      },
    });
    container.append(this.collector.element, this.preview);
  }

  #chosen(picture) {
    if (this.collector.pad && !this.collector.pad.isEmpty) this.collector.pad.clear();
    this.#preview(picture);
    this.onInput(picture);
  }

  #preview(picture) {
    if (!this.preview) return;
    fill(this.preview, picture && el("img", { src: picture, alt: "What is tried", width: 160 }));
  }
}

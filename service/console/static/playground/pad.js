// A pad to draw on with mouse, finger or pen. It keeps strokes, not pixels, so a picture of them is centred and as bold
// whatever the size that somebody draws in.

import { el } from "../dom.js";

const SIDE = 280;
const LINE = 0.055; // of the side
const PICTURE = 112;
const FILLED = 0.72; // of the picture's side, by the longer side of what is drawn
const SMALLEST = 0.15; // of the pad: a dot stays a dot

export class Pad {
  #strokes = [];
  #drawing = null;

  /** `onChange()` as something is drawn, undone or cleared. */
  constructor(label, onChange) {
    this.onChange = onChange;
    this.element = el("canvas", {
      class: "pad", width: SIDE, height: SIDE, role: "img", "aria-label": label,
      onpointerdown: (event) => this.#begin(event),
      onpointermove: (event) => this.#go(event),
      onpointerup: () => this.#end(),
      onpointercancel: () => this.#end(),
    });
    this.#paint();
  }

  get isEmpty() {
    return this.#strokes.length === 0;
  }

  clear() {
    this.strokes = [];
  }

  undo() {
    this.strokes = this.#strokes.slice(0, -1);
  }

  /** Strokes as lists of [x, y] from 0 to 1. */
  set strokes(strokes) {
    this.#strokes = strokes;
    this.#paint();
    this.onChange();
  }

  /** The drawing as a PNG, a data URL: dark ink on white paper. */
  picture() {
    return pictureOf(this.#strokes);
  }

  #begin(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.element.setPointerCapture(event.pointerId);
    this.#drawing = event.pointerId;
    this.#strokes.push([this.#place(event)]);
    this.#paint();
    this.onChange();
  }

  #go(event) {
    if (event.pointerId !== this.#drawing) return;
    const events = event.getCoalescedEvents?.() ?? [];
    this.#strokes.at(-1).push(...(events.length ? events : [event]).map((each) => this.#place(each)));
    this.#paint();
    this.onChange();
  }

  #end() {
    this.#drawing = null;
  }

  #place({ clientX, clientY }) {
    const { left, top, width, height } = this.element.getBoundingClientRect();
    return [(clientX - left) / width, (clientY - top) / height];
  }

  #paint() {
    draw(this.element, this.#strokes, (place) => place * SIDE);
    if (this.isEmpty) invite(this.element.getContext("2d"));
  }
}

/** A picture of strokes, centred, the longer side filling most of it. */
export function pictureOf(strokes) {
  const xs = strokes.flat().map(([x]) => x);
  const ys = strokes.flat().map(([, y]) => y);
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = (FILLED * PICTURE) / Math.max(right - left, bottom - top, SMALLEST);
  const canvas = el("canvas", { width: PICTURE, height: PICTURE });
  const [middleX, middleY] = [(left + right) / 2, (top + bottom) / 2];
  draw(canvas, strokes, (x) => PICTURE / 2 + scale * (x - middleX), (y) => PICTURE / 2 + scale * (y - middleY));
  return canvas.toDataURL("image/png");
}

function invite(context) {
  Object.assign(context, { fillStyle: "#6b7280", font: "18px sans-serif", textAlign: "center", textBaseline: "middle" });
  context.fillText("draw here", SIDE / 2, SIDE / 2);
}

function draw(canvas, strokes, placeX, placeY = placeX) {
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // paper is white in dark mode too: what is learned from is dark ink on light paper
  context.fillRect(0, 0, canvas.width, canvas.height);
  Object.assign(context, { strokeStyle: "#000", lineCap: "round", lineJoin: "round", lineWidth: LINE * canvas.width });
  for (const stroke of strokes) {
    context.beginPath();
    stroke.forEach(([x, y], i) => (i ? context.lineTo(placeX(x), placeY(y)) : context.moveTo(placeX(x), placeY(y))));
    if (stroke.length === 1) context.lineTo(placeX(stroke[0][0]), placeY(stroke[0][1]));
    context.stroke();
  }
}

// "Show me": a small lesson of each kind, and a query for it, so that a newcomer sees the whole way at once.

import { el } from "../dom.js";
import { pictureOf } from "./pad.js";
import { encoded } from "./pictures.js";

const TAU = 2 * Math.PI;

const ring = (x, y, a, b, turn = 0) => [Array.from({ length: 33 }, (_, i) => {
  const at = turn + (TAU * i) / 32;
  return [x + a * Math.cos(at), y + b * Math.sin(at)];
})];
const DRAWINGS = [
  ["ring", ring(0.5, 0.5, 0.32, 0.35)],
  ["ring", ring(0.48, 0.52, 0.36, 0.29, 0.7)],
  ["cross", [[[0.2, 0.18], [0.52, 0.5], [0.8, 0.83]], [[0.79, 0.2], [0.5, 0.48], [0.18, 0.8]]]],
  ["cross", [[[0.24, 0.2], [0.76, 0.8]], [[0.8, 0.25], [0.47, 0.52], [0.22, 0.74]]]],
  ["house", [[[0.2, 0.85], [0.21, 0.45], [0.5, 0.15], [0.81, 0.46], [0.8, 0.84], [0.2, 0.85]]]],
  ["house", [[[0.25, 0.45], [0.24, 0.82], [0.76, 0.8], [0.77, 0.44]], [[0.15, 0.5], [0.5, 0.2], [0.86, 0.5]]]],
];
const HOUSE = [[[0.22, 0.83], [0.24, 0.46], [0.77, 0.47], [0.78, 0.85], [0.22, 0.83]], [[0.18, 0.48], [0.5, 0.14], [0.83, 0.49]]];

const TEXTS = [
  ["arrival", "where is my card"], ["arrival", "my card has not come"], ["arrival", "when will my card arrive"],
  ["refund", "I want a refund"], ["refund", "give me my money back"], ["refund", "how do I get a refund"],
  ["PIN", "I forgot my PIN"], ["PIN", "how do I change my PIN"], ["PIN", "my PIN does not work"],
];
const NUMBERS = [ // length and width in cm
  ["banana", [18, 3.4]], ["banana", [19.5, 3.9]], ["banana", [16.8, 3.6]], ["banana", [20.2, 3.3]],
  ["apple", [7.2, 7.9]], ["apple", [6.8, 7.1]], ["apple", [7.9, 8.4]], ["apple", [7.5, 7.4]],
  ["grape", [2.1, 1.7]], ["grape", [2.6, 1.9]], ["grape", [1.8, 1.6]], ["grape", [2.4, 2.1]],
];

/** {rows: [[name, value], ...], and the query: `strokes` for the pad, `text` for the field, or `input`}. */
export function exampleOf(kind) {
  if (kind.id === "text") return { rows: TEXTS, text: "my new card is late" };
  if (kind.id === "vector") return { rows: NUMBERS, text: "17.4, 4.1" };
  if (kind.id === "photo") return { rows: photos(), input: painted("sunset", 7) };
  return { rows: DRAWINGS.map(([name, strokes]) => [name, pictureOf(strokes)]), strokes: HOUSE };
}

const SCENES = { sunset: ["#24115c", "#e4572e", "#ffc857"], sea: ["#9bd3f5", "#d7eefb", "#0b5e8a"], forest: ["#cfe8c9", "#2f6b3a", "#173d1f"] };

function photos() {
  return Object.keys(SCENES).flatMap((name) => [1, 2].map((seed) => [name, painted(name, seed)]));
}

/** A landscape of three colours; no photograph, but enough to see what happens. */
function painted(name, seed) {
  const [side, [top, middle, bottom]] = [160, SCENES[name]];
  const canvas = el("canvas", { width: side, height: side });
  const context = canvas.getContext("2d");
  const sky = context.createLinearGradient(0, 0, 0, side);
  [[0, top], [0.6, middle], [1, bottom]].forEach(([at, colour]) => sky.addColorStop(at, colour));
  context.fillStyle = sky;
  context.fillRect(0, 0, side, side);
  for (let i = 0; i < 14; i += 1) {
    const x = (side * ((i * 0.37 + seed * 0.23) % 1)) | 0;
    context.fillStyle = name === "sunset" ? "#140a33" : bottom;
    context.beginPath();
    if (name === "forest") triangle(context, x, 60 + ((i * 29 + seed * 17) % 50), 16 + (i % 4) * 4);
    else if (name === "sea") context.ellipse(x, 110 + ((i * 13 + seed * 5) % 45), 34, 3, 0, 0, TAU);
    else context.ellipse(x, side, 30, 10 + ((i * 7 + seed * 11) % 22), 0, 0, TAU);
    context.fill();
  }
  if (name === "sunset") disc(context, 60 + seed * 5, 92, 17);
  return encoded(canvas, side, side);
}

function triangle(context, x, top, half) {
  context.moveTo(x, top);
  context.lineTo(x + half, 150);
  context.lineTo(x - half, 150);
}

function disc(context, x, y, radius) {
  context.fillStyle = "#fff1b8";
  context.beginPath();
  context.arc(x, y, radius, 0, TAU);
  context.fill();
}

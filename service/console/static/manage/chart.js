// Line charts as SVG: drawn again from their points whenever there are new ones.

import { el, svg } from "../dom.js";

const WIDTH = 420;
const HEIGHT = 190;
const LEFT = 52;
const RIGHT = 12;
const TOP = 12;
const BOTTOM = 36;
const MOST_POINTS = 320;

/**
 * `chart({title, series: [{name, points: [[x, y], ...], errors: [half widths]}], x: "Step", format})`: a figure with a
 * title, a legend where there are several series, and a sentence for those who do not see it.
 */
export function chart({ title, series, x = "Step", format = short }) {
  const shown = series.filter(({ points }) => points.length);
  if (!shown.length) return el("figure", { class: "chart" }, caption(title), el("p", { class: "muted" }, "No figures yet."));
  const scale = scaleOf(shown);
  const drawing = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": sentence(title, shown, x, format) },
    axes(scale, x, format),
    shown.map((one, i) => line(one, i, scale)),
  );
  return el("figure", { class: "chart" }, caption(title, shown), drawing);
}

/** Many points made few: the mean of each stretch, so that neither the browser nor the eye has too much. */
export function thinned(points, most = MOST_POINTS) {
  if (points.length <= most) return points;
  const stretch = Math.ceil(points.length / most);
  const means = [];
  for (let start = 0; start < points.length; start += stretch) {
    const part = points.slice(start, start + stretch);
    means.push([part.at(-1)[0], part.reduce((sum, [, y]) => sum + y, 0) / part.length]);
  }
  return means;
}

function scaleOf(series) {
  const xs = series.flatMap(({ points }) => points.map(([at]) => at));
  const ys = series.flatMap(({ points, errors = [] }) =>
    points.flatMap(([, y], i) => [y - (errors[i] ?? 0), y + (errors[i] ?? 0)]),
  );
  const [xTicks, yTicks] = [ticks(Math.min(0, ...xs), Math.max(1, ...xs), 6), ticks(Math.min(...ys), Math.max(...ys), 4)];
  const spread = ([first, last], from, to) => (value) => from + ((value - first) / (last - first)) * (to - from);
  return {
    xTicks,
    yTicks,
    at: spread([Math.min(0, ...xs), Math.max(1, ...xs)], LEFT, WIDTH - RIGHT),
    up: spread([yTicks[0], yTicks.at(-1)], HEIGHT - BOTTOM, TOP),
  };
}

/** Round numbers around [low, high]: about so many, the first at or below low, the last at or above high. */
function ticks(low, high, most) {
  if (high - low < 1e-9) [low, high] = [low - Math.abs(low || 1) / 10, high + Math.abs(high || 1) / 10];
  const rough = (high - low) / most;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = size * [1, 2, 5, 10].find((factor) => factor * size >= rough);
  const first = Math.floor(low / step);
  return Array.from({ length: Math.ceil(high / step) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

function axes({ xTicks, yTicks, at, up }, x, format) {
  const [left, right] = [LEFT, WIDTH - RIGHT];
  const rows = yTicks.map((y) => [
    svg("line", { class: "grid-line", x1: left, x2: right, y1: up(y), y2: up(y) }),
    svg("text", { x: left - 8, y: up(y), "text-anchor": "end", "dominant-baseline": "middle" }, format(y)),
  ]);
  const columns = xTicks
    .filter((value) => at(value) >= left && at(value) <= right + 1)
    .map((value) => svg("text", { x: at(value), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, short(value)));
  return [rows, columns, svg("text", { x: right, y: HEIGHT - 4, "text-anchor": "end" }, x)];
}

function line({ points, errors, dots }, i, { at, up }) {
  const d = points.map(([x, y], n) => `${n ? "L" : "M"}${at(x).toFixed(1)} ${up(y).toFixed(1)}`).join("");
  const bars = (errors ?? []).map((half, n) => {
    const [x, y] = points[n];
    return svg("line", { x1: at(x), x2: at(x), y1: up(y - half), y2: up(y + half) });
  });
  const marks = dots || points.length === 1 ? points.map(([x, y]) => svg("circle", { cx: at(x), cy: up(y), r: 3 })) : [];
  return svg("g", { class: `series series-${i + 1}` }, svg("path", { d }), bars, marks);
}

function caption(title, series = []) {
  const names = series.length > 1 ? series.map(({ name }, i) => el("span", { class: `legend series-${i + 1}` }, name)) : [];
  return el("figcaption", {}, el("strong", {}, title), names);
}

function sentence(title, series, x, format) {
  const parts = series.map(({ name, points }) => {
    const [first, last] = [points[0], points.at(-1)];
    return `${name}: ${format(first[1])} at ${x.toLowerCase()} ${first[0]}, ${format(last[1])} at ${last[0]}`;
  });
  return `${title}. ${parts.join("; ")}.`;
}

function short(value) {
  return Math.abs(value) >= 1000 ? Intl.NumberFormat("en").format(value) : String(Number(value.toPrecision(3)));
}

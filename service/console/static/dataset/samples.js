// Some examples of a data set: thumbnails, texts, the first numbers of vectors.

import { call } from "../api.js";
import { el, fill } from "../dom.js";
import { problem, table } from "../manage/parts.js";

/** A card that fills itself, for reading a large file takes longer than the rest of the page. */
export function examples(path) {
  const place = el("div", { "aria-busy": "true" }, el("p", { class: "muted" }, "Looking into the file …"));
  const card = el("section", { class: "card" }, el("h2", {}, "Examples"), place);
  call("GET", `${path}/samples`)
    .then(({ data }) => (data.length ? fill(place, shown(data)) : card.remove()))
    .catch((error) => fill(place, problem(error)))
    .finally(() => place.removeAttribute("aria-busy"));
  return card;
}

function shown(samples) {
  const [first] = samples;
  if (first.image) return el("ul", { class: "samples" }, samples.map(thumbnail));
  if (first.text) {
    return table("Some of its texts", ["Text", "Class", "Part"], samples.map(({ text, label, part }) => [text, label, part ?? "–"]));
  }
  if (first.targets) {
    const names = Object.keys(first.targets);
    const rows = samples.map(({ numbers, targets }) => [listed(numbers), ...names.map((name) => targets[name] || "blank")]);
    return table("Some of its rows", ["Inputs", ...names], rows);
  }
  return table("Some of its vectors", ["Class", "First numbers", "Part"], samples.map(({ label, numbers, part }) => [label, listed(numbers), part ?? "–"]));
}

function thumbnail({ image, label, part }) {
  return el("li", {}, el("img", { src: image, alt: `An example of ${label}`, width: 96, height: 96 }), el("span", { title: label }, label), el("span", { class: "muted" }, part));
}

function listed(numbers) {
  return el("code", {}, numbers.map((value) => Number(value.toPrecision(4))).join("  "));
}

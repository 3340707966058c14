// Two checkpoints side by side, by what was measured when they were made.

import { el, fill } from "../dom.js";
import { estimate, shape, signed } from "../manage/evaluation.js";
import { field, select, table } from "../manage/parts.js";

/** A card with two lists to choose from; `chosen` is the id that the first begins with. */
export function comparing(checkpoints, chosen) {
  if (checkpoints.length < 2) return null;
  const options = checkpoints.map((one) => [one.id, title(one)]);
  const byId = new Map(checkpoints.map((one) => [one.id, one]));
  const first = select("compare-a", options, chosen ?? checkpoints[0].id);
  const second = select("compare-b", options, other(checkpoints, byId.get(first.value)).id);
  const result = el("div", { role: "status" });
  const draw = () => fill(result, beside(byId.get(first.value), byId.get(second.value)));
  for (const list of [first, second]) list.addEventListener("change", draw);
  draw();
  return el(
    "section",
    { class: "card", id: "compare" },
    el("h2", {}, "Compare two"),
    el("div", { class: "fields" }, field("One", first), field("Other", second)),
    result,
  );
}

function title({ name, id, aliases }) {
  const alias = aliases[0]?.split("@")[1];
  return `${name} …${id.slice(-6)}${alias ? ` (${alias})` : ""}`;
}

/** Of the same name where there is one: versions are what one compares. */
function other(checkpoints, one) {
  const others = checkpoints.filter(({ id }) => id !== one.id);
  return others.find(({ name }) => name === one.name) ?? others[0];
}

function beside(one, two) {
  const key = (row) => JSON.stringify([row.data, row.n_way, row.k_shot, row.metric]);
  const right = new Map(two.evaluation.map((row) => [key(row), row]));
  const shared = one.evaluation.filter((row) => right.has(key(row)));
  if (one.id === two.id) return el("p", { class: "muted" }, "These are the same one; choose another.");
  if (!shared.length) {
    const text = "They were not measured on episodes of the same kind and data, so their figures cannot be compared. " +
      "Promoting one over the other measures both on the same episodes.";
    return el("p", { class: "muted" }, text);
  }
  const columns = ["Episodes of", "Data", { name: title(one), number: true }, { name: title(two), number: true },
    { name: "Difference", number: true }];
  const rows = shared.map((row) => {
    const twin = right.get(key(row));
    return [shape(row), row.data, estimate(row, row.metric), estimate(twin, twin.metric), difference(row, twin)];
  });
  return table("Both, by what was measured when they were made", columns, rows, { shown: true });
}

/** Independent estimates: the squares of their intervals add up. */
function difference(one, two) {
  const ahead = { mean: one.mean - two.mean, interval: Math.hypot(one.interval, two.interval) };
  return signed(ahead, one.metric);
}

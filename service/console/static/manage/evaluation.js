// Evaluation tables: a mean over episodes and half the width of its 95% interval.

import { count } from "../format.js";
import { table } from "./parts.js";

/** "5-way 1-shot", or "10-shot" of a regression. */
export function shape(row) {
  return row.n_way ? `${row.n_way}-way ${row.k_shot}-shot` : `${row.k_shot}-shot`;
}

/** {mean, interval} -> "94.7% ± 0.3", or four digits of a mean squared error. */
export function estimate({ mean, interval }, metric = "accuracy") {
  if (metric === "accuracy") return `${(100 * mean).toFixed(1)}% ± ${(100 * interval).toFixed(1)}`;
  return `${mean.toPrecision(3)} ± ${interval.toPrecision(2)}`;
}

/** The figure a checkpoint is known by: the fewest shots of the fewest ways. Null where nothing was measured. */
export function headline(rows) {
  if (!rows.length) return null;
  const [first] = [...rows].sort((a, b) => a.k_shot - b.k_shot || (a.n_way ?? 0) - (b.n_way ?? 0));
  return `${first.metric === "mse" ? "error " : ""}${estimate(first, first.metric)} (${shape(first)})`;
}

/** All rows of one checkpoint. */
export function evaluationTable(rows) {
  const columns = ["Episodes of", "Data", "Measure", { name: "Mean ± 95% interval", number: true },
    { name: "Episodes", number: true }];
  const cells = rows.map((row) => [
    shape(row), row.data, row.metric === "mse" ? "mean squared error" : row.metric, estimate(row, row.metric),
    count(row.episodes) + (row.tasks ? ` of ${count(row.tasks)} tasks` : ""),
  ]);
  return table("Accuracy on held-out episodes", columns, cells);
}

/** How a challenger did beside what is in production, shape by shape (`Promotion.comparison`). */
export function comparisonTable(comparison) {
  const columns = ["Episodes of", "Measure", { name: "This one", number: true }, { name: "In production then", number: true },
    { name: "Ahead by", number: true }, "Meaning"];
  const cells = comparison.rows.map((row) => [
    shape(row), row.metric === "mse" ? "mean squared error" : row.metric, estimate(row.challenger, row.metric),
    estimate(row.incumbent, row.metric), signed(row.ahead, row.metric), meaning(row.ahead),
  ]);
  return table("Both on the same held-out episodes", columns, cells, { shown: true });
}

/** An estimate of a difference, with its sign; points of accuracy. */
export function signed({ mean, interval }, metric) {
  const sign = mean > 0 ? "+" : mean < 0 ? "−" : "";
  const size = Math.abs(mean);
  if (metric === "accuracy") return `${sign}${(100 * size).toFixed(1)} ± ${(100 * interval).toFixed(1)}`;
  return `${sign}${size.toPrecision(3)} ± ${interval.toPrecision(2)}`;
}

function meaning({ mean, interval }) {
  if (mean - interval > 0) return "better";
  return mean + interval < 0 ? "worse" : "no clear difference";
}

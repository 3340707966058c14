// Loss and validation of a job as they come, drawn at most a few times a second.

import { el } from "../dom.js";
import { chart, thinned } from "../manage/chart.js";
import { estimate, shape } from "../manage/evaluation.js";
import { redraw, table } from "../manage/parts.js";

const PAUSE_MS = 400;
const MOST_ROWS = 50;

/** `take(event)` for each event; `node` is to be put into the page. */
export class Curves {
  node = el("section", { class: "card stack", "aria-labelledby": "curves-heading" });
  #losses = [];
  #validations = [];
  #timer = null;

  constructor() {
    this.#draw();
  }

  take({ kind, data }) {
    if (kind === "step" && Number.isFinite(data.loss)) this.#losses.push([data.step, data.loss]);
    else if (kind === "validation") this.#validations.push(data);
    else if (kind === "resumed") this.#forgetFrom(data.step); // those steps are done again
    else return;
    this.#timer ??= setTimeout(() => this.#draw(), PAUSE_MS);
  }

  #forgetFrom(step) {
    this.#losses = this.#losses.filter(([at]) => at <= step);
    this.#validations = this.#validations.filter((one) => one.step <= step);
  }

  #draw() {
    this.#timer = null;
    const heading = el("h2", { id: "curves-heading" }, "Curves");
    const loss = chart({ title: "Loss", series: [{ name: "Loss", points: thinned(this.#losses) }] });
    redraw(this.node, heading, el("div", { class: "two" }, loss, this.#validation()), this.#figures());
    this.node.dataset.points = this.#losses.length;
  }

  #validation() {
    const [first] = this.#validations;
    if (!first) return chart({ title: "Validation", series: [] });
    const accuracy = first.metric === "accuracy";
    const title = `Validation: ${accuracy ? "accuracy" : "mean squared error"}, ${shape(first)}`;
    const series = {
      name: accuracy ? "Accuracy" : "Error",
      points: this.#validations.map(({ step, mean }) => [step, mean]),
      errors: this.#validations.map(({ interval }) => interval),
      dots: true,
    };
    return chart({ title, series: [series], format: accuracy ? (y) => `${Number((100 * y).toFixed(2))}%` : undefined });
  }

  #figures() {
    if (!this.#losses.length) return null;
    const losses = thinned(this.#losses, MOST_ROWS).map(([step, loss]) => [String(step), loss.toPrecision(4)]);
    const validations = this.#validations.map((one) => [String(one.step), estimate(one, one.metric)]);
    return el(
      "details",
      { "data-key": "figures" },
      el("summary", { "data-key": "figures-summary" }, "Figures as tables"),
      el(
        "div",
        { class: "two" },
        table("Loss by step", ["Step", { name: "Loss", number: true }], losses, { shown: true }),
        validations.length
          ? table("Validation by step", ["Step", { name: "Mean ± 95% interval", number: true }], validations, { shown: true })
          : null,
      ),
    );
  }
}

// What came of it: the verdict, a bar per class, why, how good the model is, how long it took.

import { el, fill, notice } from "../dom.js";
import { duration, percent } from "../format.js";
import { shown } from "./classes.js";

/** Draws into the answer's parts, which the template has. */
export class AnswerView {
  constructor() {
    for (const part of ["verdict", "bars", "nearest", "quality", "timings", "choice", "result-fault"]) {
      this[part] = document.getElementById(part);
    }
  }

  /** Nothing to show but what to do next. */
  wait(message) {
    this.#say(message, "waiting");
    fill(this.bars);
    fill(this.nearest);
  }

  clearModel() {
    for (const part of [this.quality, this.timings, this.choice]) fill(part);
  }

  /** The model that answers from now on. */
  showModel(model, kind) {
    fill(this["result-fault"]);
    fill(this.quality, qualityInWords(model.quality));
    const { compute_ms: ms, batch_size: size } = model.timings;
    this.adapted = `Adapted in ${duration(ms / 1000)}, batch of ${size}`;
    fill(this.timings, `${this.adapted}.`);
    fill(this.choice, model.selection ? [el("strong", {}, `Chosen: ${model.checkpoint.name}. `), `${sentence(model.selection.reason)}`] : null);
    if (!this.bars.children.length) this.wait(`Ready. Now try it with a ${kind.one} it has not seen.`);
  }

  showAnswer(prediction, { model, examples }, timings, kind, rejectBelow) {
    fill(this["result-fault"]);
    this.#say(verdict(prediction, rejectBelow), prediction.label === null ? "unknown" : "known");
    this.#showBars(model.classes, prediction);
    fill(this.nearest, nearestOf(prediction.nearest, examples, kind));
    fill(this.timings, `${this.adapted}; this answer in ${duration(timings.compute_ms / 1000)}.`);
  }

  showProblem(message) {
    fill(this["result-fault"], notice("bad", message));
  }

  #say(message, state) {
    this.verdict.className = `verdict ${state}`;
    if (this.verdict.textContent !== message) this.verdict.textContent = message; // read out where it changes alone
  }

  /** Bars stay in the order of the classes, so that the eye finds them again. */
  #showBars(classes, { probabilities, label }) {
    const names = classes.map(String);
    const same = [...this.bars.children].map((row) => row.dataset.name).join("\n") === names.join("\n");
    if (!same) fill(this.bars, names.map(bar));
    for (const row of this.bars.children) {
      const p = probabilities[row.dataset.name];
      row.classList.toggle("best", label !== null && row.dataset.name === String(label));
      row.querySelector(".bar").setAttribute("aria-label", `${row.dataset.name}: ${percent(p, 0)}`);
      row.querySelector(".bar > span").style.width = percent(p);
      row.querySelector(".share").textContent = percent(p, 0);
    }
  }
}

function bar(name) {
  return el("li", { dataset: { name } },
    el("span", { class: "name", "aria-hidden": "true" }, name),
    el("div", { class: "bar", role: "img" }, el("span")),
    el("span", { class: "share numbers", "aria-hidden": "true" }));
}

function verdict({ label, probabilities }, rejectBelow) {
  if (label !== null) return `It is “${label}”.`;
  return `Unknown: no class reaches ${percent(rejectBelow, 0)}. The best has ${percent(Math.max(...Object.values(probabilities)), 0)}.`;
}

function nearestOf(nearest, examples, kind) {
  const items = nearest.map(({ index, label, similarity }) =>
    el("li", {}, shown(kind, examples[index].value, `Your example of ${label}`),
      el("span", {}, el("strong", {}, label), el("span", { class: "muted numbers" }, ` ${similarity.toFixed(2)}`))));
  return [
    el("h3", {}, "Most like these of your examples"),
    el("ul", { class: `nearest ${kind.id}` }, items),
    el("p", { class: "hint" }, "1 is the same, 0.5 as far apart as two of your examples usually are."),
  ];
}

/** Leave-one-out as a sentence that needs no statistics. */
export function qualityInWords(quality) {
  if (!quality || quality.n === 0) return "How good is it? Give a second example of each class, then it can be measured.";
  const right = Math.round(quality.accuracy * quality.n);
  const how = quality.method === "leave_one_out" ? "when left out" : `when each of ${quality.folds} parts is left out`;
  const doubt = quality.reliable ? "" : "; too few to be sure";
  return `${right} of ${quality.n} of your own examples are recognised ${how}${doubt}.`;
}

const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

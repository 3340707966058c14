// A recipe in a few words.

import { el } from "../dom.js";
import { count, duration } from "../format.js";
import { shape } from "../manage/evaluation.js";
import { facts } from "../manage/parts.js";

/** "What will run", of a plan or a job: both have `recipe` and `time_budget`. */
export function planned(plan) {
  return el("div", { class: "notice" }, el("p", {}, el("strong", {}, "What will run")), recipe(plan));
}

/** The main entries of a recipe, with all of it to be unfolded. */
export function recipe({ recipe, time_budget: budget }) {
  const { training, encoder, learner, evaluation, data, start } = recipe;
  const measured = evaluation.map(shape).join(", ");
  return facts([
    ["Encoder", start ? `${encoder.name}, beginning at ${start.parent}` : encoder.name],
    ["Learner", learner.name],
    ["Episodes", training.n_way ? `${range(training.n_way)} classes, ${range(training.k_shot)} examples of each` : null],
    ["Pictures", data.rotations ? "each turn by 90° is a class of its own" : null],
    ["Length", budget ? `${duration(budget)} of training` : `${count(training.steps)} steps`],
    ["Measured", measured || "not at the end"],
  ]);
}

function range([low, high]) {
  return low === high ? count(low) : `${count(low)} to ${count(high)}`;
}

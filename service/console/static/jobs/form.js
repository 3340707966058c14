// The form that starts a job: little to fill in, and what would run is shown before it does.

import { call, listAll, Problem } from "../api.js";
import { el, fill } from "../dom.js";
import { count } from "../format.js";
import { onSubmit } from "../forms.js";
import { planned } from "./plan.js";

const form = document.getElementById("job-form");
const plan = document.getElementById("job-plan");
const { dataset, name, extent, amount, base_checkpoint: base } = form.elements;
let asked = 0;
let nameIsMine = false;

/** Fill the form in; `/jobs?dataset=ID` opens it with that data set. */
export async function openForm(datasets) {
  const { data: aliases } = await call("GET", "/v1/aliases");
  const checkpoints = await listAll("/v1/checkpoints");
  fill(dataset, datasets.map((one) => el("option", { value: one.id }, describe(one))));
  const wanted = new URLSearchParams(location.search).get("dataset");
  if (datasets.some(({ id }) => id === wanted)) dataset.value = wanted;
  if (wanted || location.hash === "#start") document.getElementById("start").open = true;
  const choose = () => chosen(datasets.find(({ id }) => id === dataset.value), aliases, checkpoints);
  dataset.addEventListener("change", choose);
  name.addEventListener("input", () => (nameIsMine = name.value !== ""));
  extent.addEventListener("change", showAmount);
  form.addEventListener("change", preview);
  document.getElementById("start").addEventListener("toggle", preview);
  onSubmit(form, async () => location.assign(`/jobs/${(await call("POST", "/v1/training-jobs", body())).id}`));
  if (datasets.length) choose();
  await preview();
}

function describe({ name, modality, n_examples: examples, task }) {
  return `${name} · ${modality}s${examples ? `, ${count(examples)} examples` : ""}${task === "classification" ? "" : `, ${task}`}`;
}

function chosen(data, aliases, checkpoints) {
  if (!nameIsMine) name.value = data.name.slice(0, 60);
  const modality = new Map(checkpoints.map((one) => [one.id, one.input.modality]));
  const options = aliases
    .filter(({ checkpoint }) => modality.get(checkpoint) === data.modality)
    .map((one) => el("option", { value: `${one.name}@${one.alias}` }, `${one.name}@${one.alias}`));
  fill(base, el("option", { value: "" }, "an encoder that suits the data"), options);
}

function showAmount() {
  const unit = extent.value;
  amount.closest(".field").hidden = unit === "";
  amount.disabled = unit === "";
  amount.dataset.field = unit === "minutes" ? "time_budget" : "steps";
  amount.value = unit === "minutes" ? 5 : 500;
  amount.step = unit === "minutes" ? "any" : 1;
  amount.min = unit === "minutes" ? 0.02 : 1;
  form.querySelector("label[for=job-amount]").textContent = unit === "minutes" ? "How many minutes" : "How many steps";
}

/** The request as the fields say it; what is empty is left out, and the server chooses. */
function body() {
  const data = new FormData(form);
  const number = (field) => (data.get(field) ? Number(data.get(field)) : undefined);
  const text = (field) => data.get(field) || undefined;
  const unit = data.get("extent");
  return {
    dataset: data.get("dataset"),
    name: data.get("name"),
    base_checkpoint: text("base_checkpoint"),
    steps: unit === "steps" ? number("amount") : undefined,
    time_budget: unit === "minutes" ? 60 * number("amount") : undefined,
    learner: text("learner"),
    encoder: text("encoder"),
    episode: { n_way: number("episode.n_way"), k_shot: number("episode.k_shot") },
    seed: number("seed"),
    evaluate: data.get("evaluate") ? undefined : [],
  };
}

/** Say what would run. What the server refuses is said when the form is sent, at its field. */
async function preview() {
  const mine = ++asked;
  if (!document.getElementById("start").open || !dataset.value || !form.checkValidity()) return fill(plan);
  let shown;
  try {
    shown = planned(await call("POST", "/v1/training-plans", body()));
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    shown = el("p", { class: "notice warn" }, `This would be refused: ${error.message}`);
  }
  if (mine === asked) fill(plan, shown);
}
showAmount();

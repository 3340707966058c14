// Bringing a checkpoint into production: compared with what is there, or by force.

import { call, listAll } from "../api.js";
import { announce, el, fill, notice } from "../dom.js";
import { ask } from "../manage/dialog.js";
import { comparisonTable } from "../manage/evaluation.js";
import { code, field, link, problem, select } from "../manage/parts.js";

const VERDICTS = {
  better: "It does better, and is in production now.",
  no_worse: "It does no worse, and is in production now.",
};

/** A card: whether this checkpoint serves, and the way there. `alias`: null where nothing of its name does. */
export function promoting(one, alias, again) {
  const serves = alias?.checkpoint === one.id;
  const outcome = el("div", { id: "promotion", role: "status" });
  const button = el("button", { type: "button", class: "primary", onclick: () => promote(one, alias, outcome, again) }, "Promote …");
  const says = serves
    ? "It is in production: callers who name no alias get it."
    : alias
      ? ["In production is ", link(`/checkpoints/${alias.checkpoint}`, code(alias.checkpoint)), ". Promoting compares the two first."]
      : "Nothing of this name is in production yet.";
  return el("section", { class: "card" }, el("h2", {}, "Production"), el("p", {}, says), serves ? null : button, outcome);
}

async function promote(one, alias, outcome, again) {
  const fields = alias ? await choices(one) : [];
  const text = alias
    ? "It and the one in production are measured on the same held-out episodes. One that does significantly worse is refused."
    : "There is nothing to compare it with: it serves at once.";
  const answer = await ask({ title: "Promote to production?", text, fields, submit: "Promote", action: (data) => put(one, alias, data) });
  if (answer === null) return;
  if (answer.object === "alias") return again();
  await decided(answer, outcome, again);
}

async function choices(one) {
  const datasets = (await listAll("/v1/datasets")).filter(({ modality }) => modality === one.input.modality);
  const own = [["", "the one that it was trained on"]];
  const list = select("dataset", [...own, ...datasets.map(({ id, name }) => [id, name])]);
  const force = el("input", { type: "checkbox", name: "force", value: "1" });
  const warning = notice("warn", "Nothing is compared, and callers may get worse answers at once.");
  warning.hidden = true;
  force.addEventListener("change", () => (warning.hidden = !force.checked));
  return [field("Compare on", list), field("Force it: without a comparison", force), warning];
}

function put(one, alias, data) {
  const force = data.get("force") === "1";
  const body = { checkpoint: one.id, force, ...(data.get("dataset") ? { dataset: data.get("dataset") } : {}) };
  const headers = { Prefer: "respond-async", ...(alias ? { "If-Match": alias.etag } : {}) };
  return call("PUT", `/v1/aliases/${encodeURIComponent(one.name)}`, body, { headers });
}

/** Wait until the two are compared, and show the figures. */
async function decided(promotion, outcome, again) {
  const bar = el("progress", { "aria-label": "Comparing" });
  try {
    while (["queued", "running"].includes(promotion.status)) {
      const waits = promotion.queue_state === "no_worker" ? "It waits for a trainer: none is running." : "Both are being measured on the same episodes …";
      fill(outcome, el("p", {}, waits), bar);
      promotion = await call("GET", `/v1/promotions/${promotion.id}?wait=20`);
    }
  } catch (error) {
    return fill(outcome, problem(error));
  }
  if (promotion.status === "promoted") await again();
  fill(document.getElementById("promotion") ?? outcome, figures(promotion));
}

/** What came of a promotion, with its figures. */
export function figures(promotion) {
  const { status, comparison, error } = promotion;
  if (error) return problem(error);
  const promoted = status === "promoted";
  const said = promoted ? VERDICTS[comparison.verdict] : "Refused: it does worse than what is in production, which stays.";
  announce(said);
  return [notice(promoted ? "good" : "bad", said), comparisonTable(comparison)];
}

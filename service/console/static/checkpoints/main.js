// All checkpoints by name: what is in production, what came before, how they descend from each other.

import { listAll } from "../api.js";
import { el } from "../dom.js";
import { headline } from "../manage/evaluation.js";
import { link, short, show, table, when } from "../manage/parts.js";
import { comparing } from "./compare.js";
import { lineage } from "./lineage.js";

const content = document.getElementById("content");

/** The badges of a checkpoint's aliases; production stands out. */
function badges({ aliases }) {
  return aliases.map((full) => {
    const alias = full.split("@")[1];
    return [el("span", { class: `badge ${alias === "production" ? "good" : ""}` }, alias), " "];
  });
}

function group(name, versions) {
  const rows = versions.map((one) => [
    link(`/checkpoints/${one.id}`, short(one.id)),
    badges(one),
    headline(one.evaluation) ?? "not measured",
    one.learner,
    when(one.created_at),
  ]);
  const [first] = versions;
  const columns = ["Version", "Aliases", "Accuracy", "Learner", "Made"];
  return el(
    "section",
    { class: "card" },
    el("h2", {}, name),
    el("p", { class: "muted" }, `${first.description} `, el("span", { class: "badge" }, `${first.input.modality}s`)),
    table(`Checkpoints of ${name}, newest first`, columns, rows),
  );
}

await show(content, async () => {
  const checkpoints = await listAll("/v1/checkpoints");
  if (!checkpoints.length) {
    return el("p", { class: "empty" }, "No checkpoints yet. A job makes one, or publish those that ship.");
  }
  const names = Map.groupBy(checkpoints, ({ name }) => name);
  return [
    [...names].sort(([a], [b]) => a.localeCompare(b)).map(([name, versions]) => group(name, versions)),
    comparing(checkpoints),
    lineage(checkpoints),
  ];
});

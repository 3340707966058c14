// One checkpoint: how good it is, where it comes from, whether it serves; for administrators: promote and roll back.

import { call, listAll, send } from "../api.js";
import { el } from "../dom.js";
import { bytes, count, duration, moment } from "../format.js";
import { comparing } from "../checkpoints/compare.js";
import { lineage } from "../checkpoints/lineage.js";
import { evaluationTable } from "../manage/evaluation.js";
import { code, facts, link, show } from "../manage/parts.js";
import { history } from "./history.js";
import { promoting } from "./promote.js";

const content = document.getElementById("content");
const admin = content.dataset.admin === "True";

function about(one) {
  const { input, lineage: made } = one;
  const size = input.modality === "image" ? `, ${input.height} × ${input.width}` : input.width ? `, ${input.width} wide` : "";
  return el(
    "section",
    { class: "card" },
    el("p", {}, one.description),
    facts([
      ["Aliases", one.aliases.length ? one.aliases.map((alias) => [el("span", { class: `badge ${alias.endsWith("@production") ? "good" : ""}` }, alias), " "]) : "none"],
      ["Tasks", one.tasks.join(", ")],
      ["Reads", `${input.modality}s${size}`],
      ["Learner", `${one.learner}; on request ${one.learners.filter((name) => name !== one.learner).join(", ")}`],
      ["Began at", one.parent ? link(`/checkpoints/${encodeURIComponent(one.parent)}`, code(one.parent)) : null],
      ["Made by", one.job && admin ? link(`/jobs/${one.job}`, code(one.job)) : code(one.job ?? made.command)],
      ["Trained", made.steps ? `${count(made.steps)} steps in ${duration(made.seconds)}` : null],
      ["Data", one.datasets.length && admin ? one.datasets.map((id) => [link(`/datasets/${id}`, code(id)), " "]) : made.data.map(({ name }) => name).join(", ")],
      ["Made", moment(one.created_at)],
      ["Size", bytes(one.bytes)],
      ["Id", code(one.id)],
      ["Deleted", one.deleted_at ? moment(one.deleted_at) : null],
    ]),
  );
}

/** What serves under this name, with the tag that a change must bring; null where nothing does. */
async function inProduction(name) {
  const { data } = await call("GET", "/v1/aliases"); // asked first, so that a browser has no 404 to complain of
  if (!data.some((one) => one.name === name && one.alias === "production")) return null;
  const response = await send("GET", `/v1/aliases/${encodeURIComponent(name)}`);
  return { ...(await response.json()), etag: response.headers.get("ETag") };
}

async function load() {
  const one = await call("GET", `/v1/checkpoints/${encodeURIComponent(content.dataset.id)}`);
  const [alias, versions, all] = [
    await inProduction(one.name),
    await listAll(`/v1/checkpoints?name=${one.name}`),
    await listAll("/v1/checkpoints"),
  ];
  document.querySelector("h1").textContent = `${one.name} …${one.id.slice(-6)}`;
  document.title = `${one.name} · kshot`;
  const again = () => show(content, load);
  const measured = one.evaluation.length ? evaluationTable(one.evaluation) : el("p", { class: "muted" }, "Nothing was measured when it was made.");
  return [
    about(one),
    admin && !one.deleted_at ? promoting(one, alias, again) : null,
    el("section", { class: "card" }, el("h2", {}, "Accuracy"), measured),
    alias ? await history(one, alias, admin, again) : null,
    lineage(related(all, one), one.id),
    comparing(versions.length > 1 ? versions : all, one.id),
  ];
}

/** Those that descend from each other together with `one`: its family. */
function related(all, one) {
  const family = new Set([one.id, one.name]);
  for (let before = 0; before !== family.size; ) {
    before = family.size;
    for (const two of all) {
      if (family.has(two.id) || family.has(two.parent)) family.add(two.id);
      if (family.has(two.id) && two.parent) family.add(two.parent);
    }
  }
  return all.filter(({ id, name }) => family.has(id) || family.has(name));
}

await show(content, load);

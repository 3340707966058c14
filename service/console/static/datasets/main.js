// Data sets to meta-train on: all of them, and a form that adds one.

import { listAll } from "../api.js";
import { el } from "../dom.js";
import { bytes, count } from "../format.js";
import { link, show, table, when } from "../manage/parts.js";
import { openForm } from "./upload.js";

const content = document.getElementById("content");

await show(content, async () => {
  const datasets = await listAll("/v1/datasets");
  if (!datasets.length) {
    document.getElementById("add").open = true;
    return el("p", { class: "empty" }, "No data sets yet. Add one above, then start a job on it.");
  }
  const rows = datasets.map((one) => [
    link(`/datasets/${one.id}`, one.name),
    `${one.modality}s`,
    classes(one),
    one.n_examples ? count(one.n_examples) : "drawn",
    one.bytes ? bytes(one.bytes) : "–",
    when(one.created_at),
  ]);
  const columns = ["Name", "Holds", { name: "Classes", number: true }, { name: "Examples", number: true },
    { name: "Size", number: true }, "Added"];
  return table("Data sets, newest first", columns, rows);
});
openForm();

function classes({ counts }) {
  const found = Object.values(counts).map(({ n_classes: n }) => n);
  return found.length && found.every(Number.isInteger) ? count(found.reduce((sum, n) => sum + n, 0)) : "–";
}

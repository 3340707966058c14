// One data set: what is in it, some of its examples, its classes, and its end.

import { call, Problem } from "../api.js";
import { el } from "../dom.js";
import { bytes, count, moment } from "../format.js";
import { ask } from "../manage/dialog.js";
import { code, facts, link, show, table } from "../manage/parts.js";
import { examples } from "./samples.js";

const content = document.getElementById("content");
const path = `/v1/datasets/${encodeURIComponent(content.dataset.id)}`;
const FORMATS = {
  image_zip: "pictures in class folders", text_csv: "texts (CSV)", text_jsonl: "texts (JSON lines)", vector_npz: "vectors (npz)",
  vector_csv: "vectors (CSV)", table_csv: "a table with several targets", sinusoid: "sine waves, drawn",
  recorded_tasks: "what callers adapted to",
};

await show(content, async () => {
  const one = await call("GET", path);
  document.querySelector("h1").textContent = one.name;
  document.title = `${one.name} · kshot`;
  return [about(one), examples(path), parts(one), classes(one)];
});

function about(one) {
  const { pictures } = one;
  return el(
    "section",
    { class: "card" },
    one.description ? el("p", {}, one.description) : null,
    facts([
      ["Holds", FORMATS[one.format] ?? one.format],
      ["For", one.task],
      ["Examples", one.n_examples ? count(one.n_examples) : null],
      ["Smallest class", one.smallest ? `${count(one.smallest)} examples` : null],
      ["Pictures", pictures ? `${pictures.width} × ${pictures.height}, ${pictures.greyscale ? "grey" : "colour"}${pictures.dark_on_light ? ", dark on light" : ""}` : null],
      ["Width", one.width ? `${count(one.width)} numbers` : null],
      ["Used by", one.used_by?.length ? one.used_by.map((id) => [id.startsWith("job_") ? link(`/jobs/${id}`, code(id)) : code(id), " "]) : null],
      ["Size", one.bytes ? bytes(one.bytes) : null],
      ["Added", moment(one.created_at)],
      ["Id", code(one.id)],
    ]),
    el(
      "div",
      { class: "row" },
      el("a", { class: "button primary", href: `/jobs?dataset=${one.id}` }, "Train on it"),
      el("button", { type: "button", class: "danger", onclick: () => remove(one) }, "Delete …"),
    ),
  );
}

function parts({ counts }) {
  const entries = Object.entries(counts);
  if (!entries.length) return null;
  const meaning = { train: "trained on", valid: "looked at while training", test: "held out, for the accuracy at the end" };
  const rows = entries.map(([part, { n_classes: n, n_examples: examples }]) => [
    part, meaning[part], n === null ? "–" : count(n), count(examples),
  ]);
  const columns = ["Part", "Is", { name: "Classes", number: true }, { name: "Examples", number: true }];
  return el("section", { class: "card" }, el("h2", {}, "Split"), table("Parts of the split", columns, rows));
}

function classes({ splits, sizes }) {
  const rows = Object.entries(splits ?? {}).flatMap(([part, labels]) =>
    labels.map((label, i) => [label, part, sizes?.[part]?.[i] === undefined ? "–" : count(sizes[part][i])]),
  );
  if (!rows.length) return null;
  return el(
    "details",
    { class: "card", open: rows.length <= 12 },
    el("summary", {}, `Classes (${count(rows.length)})`),
    table("Examples of each class", ["Class", "Part", { name: "Examples", number: true }], rows),
  );
}

async function remove(one) {
  await ask({
    title: `Delete ${one.name}?`,
    text: "Its file goes for good. Checkpoints that were made from it stay.",
    submit: "Delete it",
    danger: true,
    action: async () => {
      try {
        await call("DELETE", path);
        location.assign("/datasets");
      } catch (error) {
        if (error.status !== 409) throw error;
        throw new Problem({ status: 409, detail: `It cannot be deleted now: ${error.message}` }); // whom it names is its users
      }
    },
  });
}

// Adding a data set: a file with progress while it is sent and read, or one that the service has itself.

import { call, Problem, upload } from "../api.js";
import { announce, el, fill } from "../dom.js";
import { bytes } from "../format.js";
import { onSubmit } from "../forms.js";

const form = document.getElementById("dataset-form");
const place = document.getElementById("dataset-progress");
const stop = document.getElementById("dataset-stop");
const { source, file, name } = form.elements;

/** Make the form work. */
export function openForm() {
  source.addEventListener("change", showFields);
  file.addEventListener("change", () => {
    if (file.files[0] && !name.value) name.value = named(file.files[0].name);
  });
  onSubmit(form, add);
  showFields();
}

/** Only what the source needs is shown, and sent. */
function showFields() {
  for (const part of form.querySelectorAll("[data-for]")) {
    const needed = part.dataset.for === source.value;
    part.hidden = !needed;
    for (const control of part.querySelectorAll("input, select")) control.disabled = !needed;
  }
}

/** "My Drawings (2).zip" -> "my-drawings-2" */
function named(filename) {
  const plain = filename.replace(/\.[^.]+$/, "").toLowerCase().replace(/[^a-z0-9]+/g, "-");
  return plain.replace(/^-+|-+$/g, "").slice(0, 60);
}

async function add(data) {
  const made = source.value ? await call("POST", "/v1/datasets", builtIn(data)) : await send(data);
  location.assign(`/datasets/${made.id}`);
}

function builtIn(data) {
  const checkpoint = data.get("checkpoint");
  return { name: data.get("name"), description: data.get("description"), source: data.get("source"), ...(checkpoint ? { checkpoint } : {}) };
}

async function send(data) {
  const body = new FormData();
  body.append("request", JSON.stringify(request(data)));
  body.append("file", data.get("file"));
  const controller = new AbortController();
  stop.hidden = false;
  stop.onclick = () => controller.abort();
  try {
    return await upload("/v1/datasets", body, progress(), { signal: controller.signal });
  } catch (error) {
    fill(place, error.name === "AbortError" ? el("p", {}, "The upload was stopped; nothing was kept.") : null);
    throw error;
  } finally {
    stop.hidden = true;
  }
}

function request(data) {
  const targets = parsedTargets(data.get("columns.targets"));
  const columns = {
    ...(data.get("columns.inputs") ? { inputs: data.get("columns.inputs") } : {}),
    ...(data.get("columns.label") ? { label: data.get("columns.label") } : {}),
    ...(targets ? { targets } : {}),
  };
  return {
    name: data.get("name"),
    description: data.get("description"),
    ...(data.get("format") ? { format: data.get("format") } : {}),
    columns,
  };
}

/** "price: regression, kind: classification" -> {price: "regression", kind: "classification"} */
function parsedTargets(text) {
  if (!text) return null;
  const pairs = text.split(",").map((part) => part.split(":").map((word) => word.trim()));
  if (pairs.some((pair) => pair.length !== 2)) {
    throw new Problem({ detail: "Write each target as name: kind, with commas between them.", param: "columns.targets" });
  }
  return Object.fromEntries(pairs);
}

/** A bar and a sentence; once all is sent the server still reads it through. */
function progress() {
  const bar = el("progress", { max: 1, value: 0, "aria-label": "Upload" });
  const text = el("p", { role: "status" }, "Beginning …");
  fill(place, bar, text);
  return (sent, total) => {
    bar.value = total ? sent / total : 0;
    if (sent === total) {
      bar.removeAttribute("value");
      text.textContent = `All ${bytes(total)} are sent. They are being read through; large files take a while.`;
      announce(text.textContent);
    } else text.textContent = `${bytes(sent)} of ${total ? bytes(total) : "?"} sent`;
  };
}

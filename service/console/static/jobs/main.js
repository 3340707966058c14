// Meta-training jobs: all of them, and a form that starts one.

import { call, listAll } from "../api.js";
import { el } from "../dom.js";
import { link, redraw, repeat, show, status, table, when } from "../manage/parts.js";
import { openForm } from "./form.js";
import { progress } from "./progress.js";

const OPEN = ["queued", "running", "pausing", "paused", "cancelling"];
const EVERY_MS = 3000;
const content = document.getElementById("content");
const filter = document.getElementById("jobs-status");
let names = new Map();
let last = "";

async function refresh() {
  const wanted = filter.value === "open" ? OPEN : filter.value ? [filter.value] : [];
  const query = new URLSearchParams(wanted.map((one) => ["status", one]));
  const { data } = await call("GET", `/v1/training-jobs?limit=100&${query}`);
  const now = JSON.stringify([data, filter.value]);
  if (now !== last) redraw(content, list(data));
  last = now;
}

function list(jobs) {
  if (!jobs.length) {
    const text = filter.value ? "No jobs of this kind." : "No jobs yet. Start one above: it makes a checkpoint from a data set.";
    return el("p", { class: "empty" }, text);
  }
  const rows = jobs.map((job) => [
    el("a", { href: `/jobs/${job.id}`, "data-key": job.id }, job.name),
    status(job.status),
    progress(job),
    link(`/datasets/${job.dataset}`, names.get(job.dataset) ?? "data set"),
    when(job.created_at),
  ]);
  return table("Jobs, newest first", ["Checkpoint", "Status", "Progress", "Data set", "Started"], rows);
}

await show(content, async () => {
  const datasets = await listAll("/v1/datasets");
  names = new Map(datasets.map(({ id, name }) => [id, name]));
  await openForm(datasets);
  await refresh();
  return [...content.childNodes];
});
filter.addEventListener("change", refresh);
repeat(() => refresh().catch(() => {}), EVERY_MS);

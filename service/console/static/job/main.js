// One meta-training job, as it goes on.

import { call } from "../api.js";
import { el, fill } from "../dom.js";
import { moment } from "../format.js";
import { follow } from "../events.js";
import { progress, remaining } from "../jobs/progress.js";
import { recipe } from "../jobs/plan.js";
import { evaluationTable } from "../manage/evaluation.js";
import { code, facts, link, problem, repeat, show, status, when } from "../manage/parts.js";
import { Curves } from "./curves.js";
import { Story } from "./story.js";
import { steering } from "./steering.js";

const ENDED = ["succeeded", "failed", "cancelled"];
const EVERY_MS = 2000;
const content = document.getElementById("content");
const path = `/v1/training-jobs/${encodeURIComponent(content.dataset.id)}`;
const [head, outcome, connection] = [el("section", { class: "card" }), el("div"), el("p", { class: "muted", role: "status" })];
const [curves, story] = [new Curves(), new Story()];
let job = null;
let drawn = "";

async function refresh() {
  job = await call("GET", path);
  draw();
}

function draw() {
  const now = JSON.stringify(job);
  if (now === drawn) return;
  drawn = now;
  document.querySelector("h1").textContent = job.name;
  document.title = `${job.name} · ${job.status} · kshot`;
  const focused = head.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  fill(head, summary(), steering(job, path, refresh));
  if (focused) (head.querySelector(`[data-key="${focused}"]`) ?? head.querySelector("button"))?.focus();
  fill(outcome, result());
}

function summary() {
  return facts([
    ["Status", [status(job.status), job.queue_state === "no_worker" ? " waits for a trainer: start one" : null]],
    ["Progress", progress(job)],
    ["Time left", ENDED.includes(job.status) ? null : remaining(job)],
    ["Speed", job.steps_per_s && job.status === "running" ? `${job.steps_per_s.toFixed(1)} steps a second` : null],
    ["Data set", link(`/datasets/${job.dataset}`, code(job.dataset))],
    ["Begun at", job.base_checkpoint ? link(`/checkpoints/${job.base_checkpoint}`, code(job.base_checkpoint)) : null],
    ["Started", [when(job.created_at), job.attempt > 1 ? `, attempt ${job.attempt}` : null]],
    ["Ended", job.finished_at ? moment(job.finished_at) : null],
    ["Id", code(job.id)],
  ]);
}

function result() {
  if (job.error) return problem({ message: job.error.param ? `${job.error.param}: ${job.error.message}` : job.error.message });
  if (!job.checkpoint) return null;
  return el(
    "section",
    { class: "card" },
    el("h2", {}, "Its checkpoint"),
    el("p", {}, "It is made. ", link(`/checkpoints/${job.checkpoint}`, "Look at it, compare it, promote it"), "."),
    job.evaluation.length ? evaluationTable(job.evaluation) : null,
  );
}

async function listen() {
  await follow(
    `${path}/events`,
    ({ data: event }) => {
      curves.take(event);
      story.take(event);
    },
    { onConnection: (there) => (connection.textContent = there ? "" : "The connection is lost; trying again …") },
  );
  connection.textContent = "";
}

await show(content, async () => {
  await refresh();
  const runs = el("details", { class: "card" }, el("summary", {}, "What runs"), recipe(job), everything());
  return [head, outcome, connection, curves.node, story.node, runs];
});

function everything() {
  return el("pre", { tabindex: "0", "aria-label": "Recipe as JSON" }, JSON.stringify(job.recipe, null, 2));
}

if (job) {
  listen().catch((error) => fill(connection, error.message));
  const stop = new AbortController();
  repeat(async () => {
    await refresh().catch(() => {});
    if (ENDED.includes(job.status)) stop.abort();
  }, EVERY_MS, stop.signal);
}

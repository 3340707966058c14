// `GET /v1/system` as cards.

import { el } from "../dom.js";
import { bytes, count, duration, percent } from "../format.js";
import { link, short, table, when } from "../manage/parts.js";

const CACHES = { states: "adapted models", supports: "support sets", embeddings: "embeddings", checkpoints: "checkpoints" };
const PATHS = { training_job: "/jobs/" };

/** All cards. */
export function figures(system) {
  return [summary(system), workers(system), el("div", { class: "two" }, batches(system), caches(system)), failures(system)];
}

function summary({ workers, queue, jobs }) {
  const alive = (kind) => workers.filter((one) => one.kind === kind && one.alive).length;
  const open = (jobs.queued ?? 0) + (jobs.running ?? 0);
  return el(
    "section",
    { class: "grid small", "aria-label": "Summary" },
    figure("Workers", alive("adaptation"), alive("adaptation") ? "adapt and predict" : "nothing is answered: start one"),
    figure("Trainers", alive("trainer"), alive("trainer") ? "train and compare" : "jobs wait for one"),
    figure("Waiting", queue.queued, queue.queued ? `the oldest for ${duration(queue.oldest_seconds)}` : "nothing waits"),
    figure("In work", queue.running, queue.replays ? `and ${count(queue.replays)} following an alias` : "adaptations"),
    figure("Jobs", open, "queued or running"),
  );
}

function figure(name, value, text) {
  return el("div", { class: "card" }, el("div", { class: "muted" }, name), el("div", { class: "figure" }, count(value)), el("div", { class: "muted" }, text));
}

function workers({ workers: all }) {
  if (!all.length) return el("section", { class: "card" }, el("h2", {}, "Workers"), el("p", { class: "empty" }, "None is there: start `python -m workers adapt`."));
  const rows = all.map((one) => [
    short(one.id),
    one.kind,
    one.device,
    [el("span", { class: `badge ${one.alive ? "good" : "bad"}` }, one.alive ? "alive" : "not seen"), " ", when(one.seen_at)],
    one.kind === "adaptation" ? count(one.batches) : "–",
    one.kind === "adaptation" ? count(one.succeeded) : "–",
    one.kind === "adaptation" ? count(one.failed) : "–",
    when(one.started_at),
  ]);
  const columns = ["Worker", "Kind", "Device", "Seen", { name: "Batches", number: true }, { name: "Answered", number: true },
    { name: "Failed", number: true }, "Started"];
  return el("section", { class: "card" }, el("h2", {}, "Workers"), table("Workers and trainers", columns, rows));
}

function batches({ batches: classes }) {
  const most = Math.max(1, ...classes.map((one) => one.batches));
  const total = classes.reduce((sum, one) => sum + one.batches, 0);
  const names = classes.map(({ at_most: bound }, i) => {
    const before = i ? classes[i - 1].at_most : 0;
    if (bound === null) return `over ${before}`;
    return bound - before > 1 ? `${before + 1}–${bound}` : String(bound);
  });
  const lines = classes.map((one, i) =>
    el(
      "li",
      {},
      el("span", { class: "muted" }, names[i], el("span", { class: "visually-hidden" }, " items:")),
      el("span", { class: "bar", "aria-hidden": "true" }, el("span", { style: { width: `${(100 * one.batches) / most}%` } })),
      el("span", { class: "numbers" }, count(one.batches)),
    ),
  );
  const text = total ? `${count(total)} batches, by how many items they held.` : "No batch has been computed yet.";
  return el("section", { class: "card" }, el("h2", {}, "Batch sizes"), el("p", { class: "muted" }, text), el("ol", { class: "histogram" }, lines));
}

function caches({ caches: all }) {
  const rows = all.map((one) => [
    `${CACHES[one.cache] ?? one.cache}, ${one.tier}`,
    one.hit_rate === null ? "not asked yet" : rate(one.hit_rate),
    count(one.hits + one.misses),
    bytes(one.bytes),
    count(one.evictions),
  ]);
  const columns = ["Cache of", "Hit rate", { name: "Asked", number: true }, { name: "Holds", number: true },
    { name: "Dropped", number: true }];
  return el(
    "section",
    { class: "card" },
    el("h2", {}, "Caches"),
    all.length ? table("Caches of all workers", columns, rows) : el("p", { class: "muted" }, "No worker has told of its caches yet."),
  );
}

function rate(share) {
  return el(
    "div",
    { class: "meter" },
    el("div", { class: "bar", "aria-hidden": "true" }, el("span", { style: { width: percent(share) } })),
    el("span", { class: "numbers" }, percent(share)),
  );
}

function failures({ failures: all }) {
  const rows = all.slice(0, 50).map((one) => [
    PATHS[one.of] ? link(PATHS[one.of] + one.id, short(one.id)) : short(one.id),
    one.of.replace("_", " "),
    el("code", {}, one.error.code),
    el("span", { class: "message" }, one.error.param ? `${one.error.param}: ` : null, one.error.message),
    when(one.at),
  ]);
  return el(
    "section",
    { class: "card" },
    el("h2", {}, "Errors of the last day"),
    all.length ? table("Errors, the latest first", ["Of", "Kind", "Code", "Message", "When"], rows) : el("p", { class: "muted" }, "None."),
  );
}

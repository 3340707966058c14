// How far a job is, as a bar and in words.

import { el } from "../dom.js";
import { count, duration } from "../format.js";

/** "120 of 500 steps, 2 min left" beside a bar. */
export function progress(job) {
  const { step, total } = job.progress;
  if (!total) return job.status === "running" ? "getting ready" : "–";
  const share = Math.min(1, step / total);
  return el(
    "div",
    { class: "meter" },
    el("div", { class: "bar", "aria-hidden": "true" }, el("span", { style: { width: `${100 * share}%` } })),
    el("span", { class: "numbers" }, `${count(step)} of ${count(total)}`),
  );
}

/** When the training of a running job will be done: "2 min 5 s, at 21:04". Null while that is unknown. */
export function remaining(job) {
  if (job.phase !== "training" && job.status === "running") return "a moment: it is being measured and stored";
  if (!job.estimated_finish) return null;
  const seconds = Math.max(0, (new Date(job.estimated_finish) - Date.now()) / 1000);
  const at = new Date(job.estimated_finish).toLocaleTimeString("en-GB", { timeStyle: "short" });
  return `${duration(Math.max(1, Math.round(seconds)))}, at ${at}`;
}

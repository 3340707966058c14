// What happened to a job, in sentences; the steps themselves are in the curves.

import { announce, el } from "../dom.js";
import { count, moment } from "../format.js";
import { estimate, shape } from "../manage/evaluation.js";

const TOLD = new Set(["succeeded", "failed", "cancelled", "paused"]);
const SENTENCES = {
  queued: () => "It waits for a trainer.",
  started: (_, attempt) => (attempt > 1 ? `A trainer took it up again: attempt ${attempt}.` : "A trainer took it up."),
  resumed: ({ step }) => `It goes on from step ${count(step)}.`,
  total: ({ total }) => `It will take ${count(total)} steps.`,
  validation: (data) => `Step ${count(data.step)}: ${estimate(data, data.metric)} on held-out classes.`,
  saved: ({ step }) => `Saved at step ${count(step)}.`,
  phase: ({ phase }) => ({ training: "It trains.", evaluating: "It is being measured.", signing: "It is being stored." })[phase] ?? phase,
  evaluated: (row) => `${shape(row)}: ${estimate(row, row.metric)}.`,
  paused: () => "It is paused.",
  released: () => "Its trainer gave it back.",
  cancelled: () => "It is cancelled.",
  failed: ({ message }) => `It failed: ${message}`,
  succeeded: () => "Its checkpoint is made.",
};

/** `take(event)` for each event; `node` is to be put into the page. */
export class Story {
  #list = el("ul", { class: "events", tabindex: "0", "aria-label": "Events, the latest first" });
  node = el("section", { class: "card" }, el("h2", {}, "What happened"), this.#list);

  take({ kind, data, at, attempt }) {
    const sentence = SENTENCES[kind]?.(data, attempt);
    if (!sentence) return;
    const time = el("time", { datetime: at, class: "muted", title: moment(at) }, new Date(at).toLocaleTimeString("en-GB"));
    this.#list.prepend(el("li", {}, time, " ", sentence));
    if (TOLD.has(kind)) announce(sentence);
  }
}

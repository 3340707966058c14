// Pause, resume, cancel.

import { call } from "../api.js";
import { el } from "../dom.js";
import { ask } from "../manage/dialog.js";
import { problem } from "../manage/parts.js";

/** The buttons that a job in this status has; `done` is called after each. */
export function steering(job, path, done) {
  const open = ["queued", "running", "pausing", "paused"].includes(job.status);
  const message = el("div");
  const at = async (verb) => {
    message.replaceChildren();
    try {
      await call("POST", `${path}/${verb}`);
    } catch (error) {
      message.append(problem(error));
    }
    await done();
  };
  const cancel = () =>
    ask({
      title: "Cancel this job?",
      text: "What it has learned so far is deleted, and it cannot be taken up again. Pause it to keep that.",
      submit: "Cancel the job",
      danger: true,
      action: () => at("cancel"),
    });
  const button = (key, text, onclick, style = null) =>
    el("button", { type: "button", class: style, "data-key": key, onclick }, text);
  return [
    el(
      "div",
      { class: "row" },
      ["queued", "running"].includes(job.status) ? button("pause", "Pause", () => at("pause")) : null,
      job.status === "paused" ? button("resume", "Resume", () => at("resume"), "primary") : null,
      open ? button("cancel", "Cancel …", cancel, "danger") : null,
    ),
    message,
  ];
}

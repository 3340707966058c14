// What was in production, since when and why; and the way back.

import { call } from "../api.js";
import { el } from "../dom.js";
import { moment } from "../format.js";
import { ask, tell } from "../manage/dialog.js";
import { link, short, table } from "../manage/parts.js";
import { figures } from "./promote.js";

const REASONS = {
  publish: "published",
  promote: "promoted after a comparison",
  force: "promoted by force",
  rollback: "rolled back",
  set: "set",
};

/** A card with the history of the alias; for administrators, with buttons that roll back. */
export async function history(one, alias, admin, again) {
  const path = `/v1/aliases/${encodeURIComponent(one.name)}`;
  const { data: changes } = await call("GET", `${path}/history`);
  const back = (change) => rollback(path, alias, change, again);
  const cells = changes.map((change) => [
    String(change.version),
    [link(`/checkpoints/${change.checkpoint}`, short(change.checkpoint)), change.checkpoint === one.id ? " this one" : null],
    REASONS[change.reason] ?? change.reason,
    el("time", { datetime: change.at }, moment(change.at)),
    actions(change, alias, back),
  ]);
  const columns = ["Version", "Checkpoint", "How", "Since", "Go back"];
  const width = admin ? columns.length : columns.length - 1;
  const before = changes.find(({ checkpoint }) => checkpoint !== alias.checkpoint);
  return el(
    "section",
    { class: "card" },
    el("h2", {}, "History of production"),
    table(
      `What ${one.name}@production pointed at, newest first`,
      columns.slice(0, width),
      cells.map((row) => row.slice(0, width)),
    ),
    admin && before ? el("div", { class: "row dialog-buttons" }, el("button", { type: "button", class: "danger", onclick: () => back(null) }, "Roll back …")) : null,
  );
}

function actions(change, alias, back) {
  const compared = change.promotion
    ? el("button", { type: "button", class: "small quiet", onclick: () => showFigures(change) }, `Figures of version ${change.version}`)
    : null;
  const go = change.checkpoint === alias.checkpoint
    ? null
    : el("button", { type: "button", class: "small", onclick: () => back(change) }, `Back to version ${change.version} …`);
  return el("div", { class: "row" }, compared, go);
}

async function showFigures({ promotion, version }) {
  const content = el("div", {}, figures(await call("GET", `/v1/promotions/${promotion}`)));
  await tell({ title: `Why version ${version} was promoted`, content, close: "Close" });
}

/** To a version of the history, or (null) to what came before the present one. */
async function rollback(path, alias, change, again) {
  const where = change ? `version ${change.version}, checkpoint …${change.checkpoint.slice(-6)}` : "what was in production before";
  const done = await ask({
    title: "Roll back?",
    text: `Production goes to ${where}, at once and without a comparison. Models that follow the alias follow it there.`,
    submit: "Roll back",
    danger: true,
    action: () => call("POST", `${path}/rollback`, change ? { version: change.version } : {}, { headers: { "If-Match": alias.etag } }),
  });
  if (done) await again();
}

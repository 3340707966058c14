// What the management pages are put together from.

import { Problem } from "../api.js";
import { el, fill, notice } from "../dom.js";
import { ago, moment } from "../format.js";

const KINDS = {
  succeeded: "good", promoted: "good", running: "accent", queued: "", pausing: "warn", paused: "warn",
  cancelling: "warn", cancelled: "warn", failed: "bad", refused: "bad",
};

/** A job's or promotion's status. */
export function status(name) {
  return el("span", { class: `badge ${KINDS[name] ?? ""}` }, name);
}

/** A time: relative, with the exact one on top of it. */
export function when(iso) {
  return iso ? el("time", { datetime: iso, title: moment(iso) }, ago(iso)) : "–";
}

/** A link within the console. */
export function link(path, ...children) {
  return el("a", { href: path }, ...children);
}

/** An id in full where there is room, to be copied. */
export function code(text) {
  return el("code", {}, text);
}

/** The last characters of an id: enough to tell two apart. */
export function short(id) {
  return el("code", { title: id }, `…${id.slice(-6)}`);
}

/** `facts([["Status", node], ...])`: a list of names and values; entries without a value are left out. */
export function facts(entries) {
  const there = entries.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", { class: "facts" }, there.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

/**
 * A table that scrolls within itself. `columns`: names, or {name, number: true}; `rows`: lists of cells, of which the
 * first is the row's heading. `caption` is read out and, with `shown`, seen.
 */
export function table(caption, columns, rows, { shown = false } = {}) {
  const heads = columns.map((column) => (typeof column === "string" ? { name: column } : column));
  const cell = (value, i) =>
    i === 0
      ? el("th", { scope: "row" }, value)
      : el("td", { class: heads[i].number ? "number" : null }, value);
  const head = heads.map(({ name, number }) => el("th", { scope: "col", class: number ? "number" : null }, name));
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el(
      "table",
      {},
      el("caption", { class: shown ? null : "visually-hidden" }, caption),
      el("thead", {}, el("tr", {}, head)),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell)))),
    ),
  );
}

/** A field of a form: `field("Name", el("input", {name: "name"}), "A hint")`. */
export function field(label, control, hint) {
  const id = control.id || `field-${control.name}`;
  control.id = id;
  if (hint) control.setAttribute("aria-describedby", `${id}-hint`);
  return el(
    "div",
    { class: control.type === "checkbox" ? "field check" : "field" },
    control.type === "checkbox" ? control : null,
    el("label", { for: id }, label),
    control.type === "checkbox" ? null : control,
    hint ? el("p", { class: "hint", id: `${id}-hint` }, hint) : null,
  );
}

/** `select("name", [["value", "Text"], ...])` */
export function select(name, options, chosen = "") {
  const entries = options.map(([value, text]) => el("option", { value, selected: value === chosen }, text));
  return el("select", { name }, entries);
}

/** Fill a page (or a part of it) with what `build` makes, or with what went wrong. */
export async function show(place, build) {
  try {
    fill(place, await build());
  } catch (error) {
    if (error.name === "AbortError") return;
    fill(place, problem(error));
    if (!(error instanceof Problem)) throw error;
  } finally {
    place.removeAttribute("aria-busy");
  }
}

/** A Problem to be read, with its request's id for whoever keeps the logs. */
export function problem(error) {
  const id = error.requestId ? el("p", { class: "muted" }, "Request ", code(error.requestId)) : null;
  return notice("bad", el("p", {}, error.message), id);
}

/** Put `children` in a place that is redrawn while one looks at it: what had the focus keeps it, found by `data-key`. */
export function redraw(place, ...children) {
  const key = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const open = [...place.querySelectorAll("details[open][data-key]")].map((details) => details.dataset.key);
  fill(place, ...children);
  for (const details of place.querySelectorAll("details[data-key]")) details.open ||= open.includes(details.dataset.key);
  if (key) place.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

/** Run `step` now and again every `ms`, while the page is seen and until `signal`; one that fails is tried again. */
export async function repeat(step, ms, signal) {
  while (!signal?.aborted) {
    if (document.visibilityState === "visible") await step();
    await new Promise((resolve) => setTimeout(resolve, ms));
  }
}

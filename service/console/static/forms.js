// Forms that say what is wrong where it is wrong.

import { Problem } from "./api.js";
import { el } from "./dom.js";

let made = 0;

/**
 * Run `action(data: FormData)` when the form is sent: its buttons rest meanwhile, and a Problem is shown at the fields
 * that it names (by `name`, or by `data-field` where they differ), or else at the top of the form.
 */
export function onSubmit(form, action) {
  form.noValidate = true; // the browser's own bubbles cannot be styled and are not read out reliably
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    clearErrors(form);
    if (showMissing(form)) return;
    const buttons = [...form.querySelectorAll("button[type=submit], button:not([type])")].filter((b) => !b.disabled);
    buttons.forEach((button) => (button.disabled = true));
    form.setAttribute("aria-busy", "true");
    try {
      await action(new FormData(form, event.submitter));
    } catch (error) {
      if (error.name !== "AbortError") showProblem(form, error);
      if (!(error instanceof Problem) && error.name !== "AbortError") console.error(error);
    } finally {
      buttons.forEach((button) => (button.disabled = false));
      form.removeAttribute("aria-busy");
    }
  });
}

/** Show an error: each named fault at its field, the rest in the form's summary. The focus goes to the first. */
export function showProblem(form, problem) {
  clearErrors(form);
  const faults = problem.errors?.length ? problem.errors : [{ param: problem.param, message: problem.message }];
  const homeless = faults.filter(({ param, message }) => !markField(fieldFor(form, param), message));
  if (homeless.length) {
    const lines = homeless.map(({ param, message }) => (param ? `${param}: ${message}` : message));
    summaryOf(form).append(...lines.map((line) => el("p", {}, line)));
  }
  form.querySelector("[aria-invalid=true]")?.focus();
}

/** Take all errors away. */
export function clearErrors(form) {
  for (const error of form.querySelectorAll(".field-error")) error.remove();
  for (const field of form.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    const others = (field.getAttribute("aria-describedby") ?? "").split(" ").filter((id) => !id.startsWith("error-"));
    if (others.join("")) field.setAttribute("aria-describedby", others.join(" "));
    else field.removeAttribute("aria-describedby");
  }
  form.querySelector(":scope > .summary")?.replaceChildren();
}

function showMissing(form) {
  const invalid = [...form.elements].filter((field) => field.willValidate && !field.validity.valid);
  for (const field of invalid) markField(field, field.validationMessage);
  invalid[0]?.focus();
  return invalid.length > 0;
}

/** The field a dotted parameter means: itself, or the nearest one that holds it ("support.labels[3]" -> "support"). */
function fieldFor(form, param) {
  for (let name = param; name; name = name.replace(/(\.|\[)[^.[]*$/, "")) {
    const quoted = CSS.escape(name);
    const field = form.querySelector(`[data-field="${quoted}"], [name="${quoted}"]`);
    if (field) return field;
    if (!/[.[]/.test(name)) return null;
  }
  return null;
}

function markField(field, message) {
  if (!field) return false;
  for (let box = field.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
  const id = `error-${++made}`;
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", `${field.getAttribute("aria-describedby") ?? ""} ${id}`.trim());
  const place = field.closest(".field") ?? field.parentElement;
  place.append(el("p", { class: "field-error", id, role: "alert" }, message));
  return true;
}

function summaryOf(form) {
  const there = form.querySelector(":scope > .summary");
  if (there) return there;
  const summary = el("div", { class: "summary notice bad", role: "alert" });
  form.prepend(summary);
  return summary;
}

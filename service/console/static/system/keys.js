// API keys: made (shown once), listed, revoked.

import { call, listAll } from "../api.js";
import { announce, el, notice } from "../dom.js";
import { moment } from "../format.js";
import { ask, tell } from "../manage/dialog.js";
import { field, select, show, table, when } from "../manage/parts.js";

const place = document.getElementById("keys");
const LIFETIMES = [["", "for ever"], ["2592000", "30 days"], ["7776000", "90 days"], ["31536000", "a year"]];
let count = 0;

/** Fill the card, and make its button work. */
export function openKeys() {
  document.getElementById("make-key").addEventListener("click", make);
  refresh();
}

function refresh() {
  return show(place, async () => {
    const keys = await listAll("/v1/api-keys");
    count = keys.length;
    return keys.length ? list(keys) : el("p", { class: "muted" }, "There are none: whoever reaches this machine may do everything. The first key ends that.");
  });
}

function list(keys) {
  const rows = keys.map((key) => [
    key.name,
    el("code", {}, `${key.prefix}…`),
    key.role,
    key.tenant,
    state(key),
    when(key.created_at),
    key.revoked_at ? "" : el("button", { type: "button", class: "small danger", onclick: () => revoke(key) }, "Revoke …", el("span", { class: "visually-hidden" }, ` ${key.name}`)),
  ]);
  return table("API keys, newest first", ["Name", "Begins with", "Role", "Tenant", "State", "Made", "End"], rows);
}

function state({ revoked_at: revoked, expires_at: expires }) {
  if (revoked) return el("span", { class: "badge bad" }, "revoked");
  if (expires && new Date(expires) < new Date()) return el("span", { class: "badge warn" }, "expired");
  return expires ? el("span", { title: moment(expires) }, "until ", when(expires)) : el("span", { class: "badge good" }, "valid");
}

async function make() {
  const first = count === 0;
  const fields = [
    first ? notice("warn", "This is the first key. From then on every call needs one: you will be asked to sign in with it, so make it an admin key and keep it.") : null,
    field("Name", el("input", { name: "name", required: true, maxlength: 200, autocomplete: "off" }), "For you to know it by."),
    field("Role", select("role", [["user", "user: adapt and predict"], ["admin", "admin: everything"]], first ? "admin" : "user")),
    field("Tenant", el("input", { name: "tenant", autocomplete: "off", spellcheck: "false" }), "Whose models it sees; yours, if left empty."),
    field("Valid", select("expires_in_seconds", LIFETIMES)),
  ];
  const made = await ask({ title: "Make an API key", fields, submit: "Make it", action: create });
  if (made === null) return;
  await tell({ title: "Your new key", content: secret(made), close: "I have kept it" });
  await refresh();
}

function create(data) {
  const body = { name: data.get("name"), role: data.get("role") };
  if (data.get("tenant")) body.tenant = data.get("tenant");
  if (data.get("expires_in_seconds")) body.expires_in_seconds = Number(data.get("expires_in_seconds"));
  return call("POST", "/v1/api-keys", body);
}

function secret({ key }) {
  const said = el("span", { role: "status", class: "muted" });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(key);
      said.textContent = "Copied.";
    } catch {
      said.textContent = "The browser does not let us copy; select it and copy it yourself.";
    }
  };
  return el(
    "div",
    {},
    el("p", {}, "It is shown this once. Keep it where you keep passwords."),
    el("code", { class: "secret", id: "secret", tabindex: "0" }, key),
    el("div", { class: "row dialog-buttons" }, el("button", { type: "button", onclick: copy }, "Copy"), said),
  );
}

async function revoke(key) {
  const done = await ask({
    title: `Revoke ${key.name}?`,
    text: "Calls with it are refused at once, and who signed in with it is signed out. It cannot be made valid again.",
    submit: "Revoke it",
    danger: true,
    action: () => call("DELETE", `/v1/api-keys/${key.id}`),
  });
  if (!done) return;
  await refresh();
  announce(`${key.name} is revoked`);
}

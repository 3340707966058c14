// How the installation does, refreshed while one looks at it; and the API keys.

import { call } from "../api.js";
import { announce } from "../dom.js";
import { problem, redraw, repeat, show } from "../manage/parts.js";
import { figures } from "./figures.js";
import { openKeys } from "./keys.js";

const EVERY_MS = 3000;
const content = document.getElementById("content");
const button = document.getElementById("refreshing");
let refreshing = true;

button.addEventListener("click", () => {
  refreshing = !refreshing;
  button.setAttribute("aria-pressed", String(refreshing));
  button.textContent = refreshing ? "Refreshing" : "Not refreshing";
  announce(refreshing ? "The figures are refreshed every three seconds" : "The figures stay as they are");
});

async function refresh() {
  try {
    redraw(content, figures(await call("GET", "/v1/system")));
  } catch (error) {
    redraw(content, problem(error));
  }
}

await show(content, async () => figures(await call("GET", "/v1/system")));
openKeys();
repeat(async () => {
  const busy = document.querySelector("dialog[open]"); // where a first key was just made, the next call asks for it
  if (refreshing && !busy) await refresh();
}, EVERY_MS);

// Elements without markup in strings: what a caller or a server sends is always text, never HTML.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element: `el("button", {type: "button", class: "quiet", onclick: go, disabled: true}, "Go")`.
 * Attributes: functions as listeners (`onclick`), `style` and `dataset` as objects, booleans as present or absent,
 * null and undefined left out. Children: nodes, strings, numbers, (nested) lists; null, undefined and false left out.
 */
export function el(tag, attributes = {}, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

/** The same for SVG: `svg("path", {d: "M0 0L1 1"})`. */
export function svg(tag, attributes = {}, ...children) {
  return dress(document.createElementNS(SVG, tag), attributes, children);
}

/** Put these children in the place of all that are there. Returns the node. */
export function fill(node, ...children) {
  node.replaceChildren(...flat(children));
  return node;
}

/** Say something to a screen reader without moving the focus. */
export function announce(message) {
  const live = document.getElementById("live");
  if (live) live.textContent = message;
}

/** A message in a box: `kind` is "good", "bad", "warn" or "". "bad" is read out at once. */
export function notice(kind, ...children) {
  return el("div", { class: `notice ${kind}`, role: kind === "bad" ? "alert" : "status" }, ...children);
}

function dress(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) dressOne(node, name, value);
  node.append(...flat(children));
  return node;
}

function dressOne(node, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (typeof value === "function") node.addEventListener(name.replace(/^on/, ""), value);
  else if (name === "style") for (const [key, to] of Object.entries(value)) node.style.setProperty(key, to);
  else if (name === "dataset") Object.assign(node.dataset, value);
  else if (name === "value" && "value" in node && node.namespaceURI !== SVG) node.value = value;
  else node.setAttribute(name, value === true ? "" : value);
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

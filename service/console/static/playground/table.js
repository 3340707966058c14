// Tables as people paste them: comma, semicolon or tab between cells, quotes around those that hold one.

import { el, fill, notice } from "../dom.js";

/** Numbers of one row: separated by commas, semicolons, tabs or spaces. Throws Error that names what is no number. */
export function numbersOf(row, place = "") {
  const cells = row.trim().split(/[\s,;]+/).filter((cell) => cell !== "");
  if (!cells.length) throw new Error(`${place}There are no numbers here.`);
  return cells.map((cell) => numberOf(cell, place));
}

/** Rows of numbers, one a line. */
export function rowsOf(text) {
  const lines = text.split(/\r?\n/).filter((line) => line.trim());
  return lines.map((line, i) => numbersOf(line, lines.length > 1 ? `Row ${i + 1}: ` : ""));
}

function numberOf(cell, place) {
  const number = Number(cell);
  if (!Number.isFinite(number)) throw new Error(`${place}“${cell}” is not a number.`);
  return number;
}

/** A table whose last column is the class: [[name, value], ...]. A first row of titles is passed over. */
export function labelledRows(text, kind) {
  const rows = cellsOf(text).filter((row) => !isBlank(row));
  const readable = kind.id === "vector" && rows.length > 1 && rows[0].slice(0, -1).some((cell) => !isNumber(cell))
    ? rows.slice(1) : rows;
  if (!readable.length) throw new Error("Paste at least one row.");
  return readable.map((row, i) => labelled(row, `Row ${i + 1 + rows.length - readable.length}: `, kind));
}

function labelled(row, place, kind) {
  const cells = row.map((cell) => cell.trim());
  const name = cells.pop();
  if (!cells.length || !name) throw new Error(`${place}the last of at least two columns is the class.`);
  if (kind.id === "text") return [name, cells.join(", ")];
  return [name, cells.map((cell) => numberOf(cell, place))];
}

const isNumber = (cell) => cell.trim() !== "" && Number.isFinite(Number(cell));

/** By the separator that gives all rows equally many columns, at least two; else by commas. */
function cellsOf(text) {
  const readings = ["\t", ";", ","].map((separator) => separated(text, separator));
  return readings.find((rows) => rows[0].length > 1 && rows.every((row) => isBlank(row) || row.length === rows[0].length)) ?? readings[2];
}

const isBlank = (row) => row.every((cell) => !cell.trim());

function separated(text, separator) {
  const rows = [[""]];
  let quoted = false;
  for (let i = 0; i < text.length; i += 1) {
    const [letter, cells] = [text[i], rows.at(-1)];
    if (quoted && letter === '"' && text[i + 1] === '"') cells[cells.length - 1] += text[++i];
    else if (letter === '"' && (quoted || cells.at(-1) === "")) quoted = !quoted;
    else if (!quoted && letter === separator) cells.push("");
    else if (!quoted && letter === "\n") rows.push([""]);
    else if (quoted || letter !== "\r") cells[cells.length - 1] += letter;
  }
  return rows;
}

/** Ask for a table; `onRows([[name, value], ...])` with what it holds. */
export function openTable(kind, onRows) {
  const example = kind.id === "text" ? "where is my card\tarrival\nI want a refund\trefund" : "5.1\t3.5\tsmall\n7.9\t3.8\tlarge";
  const field = el("textarea", { id: "table-text", rows: 8, class: "mono", placeholder: example, "aria-describedby": "table-hint" });
  const fault = el("div");
  const add = () => {
    try {
      onRows(labelledRows(field.value, kind));
      dialog.close();
    } catch (error) {
      fill(fault, notice("bad", error.message));
      field.focus();
    }
  };
  const dialog = el("dialog", { "aria-labelledby": "table-title", onclose: () => dialog.remove() },
    el("h2", { id: "table-title" }, "Paste a table"),
    el("div", { class: "field" },
      el("label", { for: "table-text" }, "Rows"), field,
      el("p", { class: "hint", id: "table-hint" }, "One example a row, its class in the last column. Copied from a spreadsheet, or CSV.")),
    fault,
    el("div", { class: "row" },
      el("button", { type: "button", class: "primary", onclick: add }, "Add these rows"),
      el("button", { type: "button", onclick: () => dialog.close() }, "Cancel")));
  document.body.append(dialog);
  dialog.showModal();
  field.focus();
}

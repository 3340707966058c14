// Which checkpoint began at which: a drawing whose boxes are links, from left to right.

import { el, svg } from "../dom.js";

const [WIDE, HIGH, GAP_X, GAP_Y, EDGE] = [190, 46, 56, 14, 4];

/** A card with the graph, or nothing where none descends from another. `here`: the id of the one looked at. */
export function lineage(checkpoints, here = null) {
  const byId = new Map(checkpoints.map((one) => [one.id, one]));
  const parentOf = (one) => byId.get(one.parent) ?? checkpoints.find((two) => two !== one && two.name === one.parent && two.created_at < one.created_at);
  const parents = new Map(checkpoints.map((one) => [one, parentOf(one) ?? null]));
  const related = checkpoints.filter((one) => parents.get(one) || [...parents.values()].includes(one));
  if (!related.length) return null;
  const places = arrange(related, parents);
  const columns = Math.max(...[...places.values()].map(({ x }) => x)) + 1;
  const rows = Math.max(...[...places.values()].map(({ y }) => y)) + 1;
  const [width, height] = [columns * (WIDE + GAP_X) - GAP_X + 2 * EDGE, rows * (HIGH + GAP_Y) - GAP_Y + 2 * EDGE];
  const drawing = svg(
    "svg",
    { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Lineage of the checkpoints" },
    related.filter((one) => parents.get(one)).map((one) => edge(places.get(parents.get(one)), places.get(one))),
    related.map((one) => box(one, places.get(one), parents.get(one), here)),
  );
  const caption = "From left to right: what each began at, and what was made of it. Green is in production.";
  return el(
    "section",
    { class: "card" },
    el("h2", {}, "Lineage"),
    el(
      "figure",
      { class: "lineage" },
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Lineage" }, drawing),
      el("figcaption", { class: "hint" }, caption),
    ),
  );
}

/** {x: how many ancestors, y: row}: a child stands beside its parent, its siblings below it. */
function arrange(related, parents) {
  const places = new Map();
  let row = 0;
  const place = (one, x) => {
    const children = related.filter((two) => parents.get(two) === one).reverse(); // lists are newest first
    places.set(one, { x, y: row });
    children.forEach((child, i) => {
      if (i > 0) row += 1;
      place(child, x + 1);
    });
  };
  for (const root of related.filter((one) => !parents.get(one))) {
    place(root, 0);
    row += 1;
  }
  return places;
}

const corner = ({ x, y }) => [EDGE + x * (WIDE + GAP_X), EDGE + y * (HIGH + GAP_Y)];

function edge(from, to) {
  const [[x1, y1], [x2, y2]] = [corner(from), corner(to)];
  const [start, end, middle] = [x1 + WIDE, x2, (x1 + WIDE + x2) / 2];
  const d = `M${start} ${y1 + HIGH / 2}C${middle} ${y1 + HIGH / 2} ${middle} ${y2 + HIGH / 2} ${end} ${y2 + HIGH / 2}`;
  return svg("path", { class: "edge", d });
}

function box(one, place, parent, here) {
  const [x, y] = corner(place);
  const serves = one.aliases.some((alias) => alias.endsWith("@production"));
  const said = [`${one.name} ${one.id.slice(-6)}`, serves ? "in production" : null, parent ? `began at ${parent.name} ${parent.id.slice(-6)}` : null];
  const name = one.name.length > 22 ? `${one.name.slice(0, 21)}…` : one.name;
  return svg(
    "a",
    {
      href: `/checkpoints/${one.id}`,
      class: [serves ? "production" : "", one.id === here ? "here" : ""].join(" "),
      "aria-label": said.filter(Boolean).join(", "),
      "aria-current": one.id === here ? "page" : null,
    },
    svg("rect", { x, y, width: WIDE, height: HIGH, rx: 8 }),
    svg("text", { class: "name", x: x + 10, y: y + 19 }, name),
    svg("text", { x: x + 10, y: y + 36 }, `…${one.id.slice(-6)}${serves ? " · production" : ""}`),
  );
}

// Kinds of examples, and the checkpoints that take them.

/** In the order in which they are offered. `one`: what a single example is called. */
export const KINDS = [
  { id: "drawing", name: "Drawings", one: "drawing", fits: (input) => input.modality === "image" && input.channels === 1 },
  { id: "photo", name: "Photos", one: "picture", fits: (input) => input.modality === "image" && input.channels === 3 },
  { id: "text", name: "Texts", one: "text", fits: (input) => input.modality === "text" },
  { id: "vector", name: "Numbers", one: "row of numbers", fits: (input) => input.modality === "vector" },
];

export const AUTO = "auto";

export const isPicture = (kind) => kind.id === "drawing" || kind.id === "photo";

export const kindOf = (checkpoint) => KINDS.find((kind) => kind.fits(checkpoint.input));

/** How a request names a checkpoint: by its name where it is in production, else by its id. */
export function referenceOf(checkpoint) {
  return inProduction(checkpoint) ? checkpoint.name : checkpoint.id;
}

export function inProduction(checkpoint) {
  return checkpoint.aliases.includes(`${checkpoint.name}@production`);
}

/** Those that classify, by kind: in production first, then those that take vectors of any width, then those with a
 * learner that is quick to adapt. */
export function byKind(checkpoints) {
  const usable = checkpoints.filter((one) => one.deleted_at === null && one.tasks.includes("classification"));
  const narrow = (one) => one.input.modality === "vector" && (one.input.width ?? null) !== null;
  const rank = (one) => (inProduction(one) ? 0 : 4) + (narrow(one) ? 2 : 0) + (one.learner.includes("maml") ? 1 : 0);
  usable.sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name));
  return new Map(KINDS.map((kind) => [kind.id, usable.filter((one) => kind.fits(one.input))]));
}

// Files to pictures: scaled down and encoded in a form that the service reads.

import { el } from "../dom.js";

const LONGEST = 320; // pixels; no checkpoint looks at more, and a request of many stays small

/** Files as data URLs, in their order. Throws Error that names the file where one is no picture. */
export async function readPictures(files) {
  const pictures = [];
  for (const file of files) pictures.push(await readPicture(file));
  return pictures;
}

async function readPicture(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`“${file.name || "what was pasted"}” is no picture that this browser can read; use PNG or JPEG.`);
  }
  try {
    return encoded(bitmap, bitmap.width, bitmap.height);
  } finally {
    bitmap.close();
  }
}

/** What a canvas can draw, as a JPEG on white paper, at most LONGEST pixels in either direction. */
export function encoded(source, width, height) {
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  const [w, h] = [width, height].map((side) => Math.max(1, Math.round(scale * side)));
  const canvas = el("canvas", { width: w, height: h });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, w, h);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, w, h);
  return canvas.toDataURL("image/jpeg", 0.9);
}

/** The pictures among what is dropped or pasted. */
export function picturesIn(transfer) {
  return [...(transfer?.files ?? [])].filter((file) => file.type.startsWith("image/") || file.type === "");
}

// Pictures from the webcam, as many as somebody takes until the dialog is closed.

import { el, notice } from "../dom.js";
import { encoded } from "./pictures.js";

/** Open the dialog; `onPicture(dataUrl)` for each picture taken. `purpose`: what they are for, in words. */
export async function openCamera(purpose, onPicture) {
  const taken = el("p", { class: "muted", role: "status" }, "");
  const video = el("video", { autoplay: true, playsinline: true, "aria-label": "What the camera sees" });
  video.muted = true;
  let count = 0;
  const take = el("button", {
    type: "button", class: "primary", disabled: true,
    onclick: () => {
      onPicture(square(video));
      count += 1;
      taken.textContent = `${count} taken`;
    },
  }, "Take a picture");
  const place = el("div", {}, video);
  const dialog = el("dialog", { class: "camera", "aria-label": `Webcam: ${purpose}` },
    el("h2", {}, `Webcam: ${purpose}`), place,
    el("div", { class: "row" }, take, el("button", { type: "button", onclick: () => dialog.close() }, "Done"), taken));
  document.body.append(dialog);
  dialog.showModal();
  let stream = null;
  dialog.addEventListener("close", () => {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    dialog.remove();
  });
  try {
    stream = await start(video);
    if (!dialog.open) stream.getTracks().forEach((track) => track.stop());
    take.disabled = false;
    take.focus();
  } catch (error) {
    place.replaceChildren(notice("bad", reason(error)));
  }
}

async function start(video) {
  if (!navigator.mediaDevices?.getUserMedia) throw new DOMException("", "SecurityError");
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
  video.srcObject = stream;
  await video.play();
  return stream;
}

function reason({ name }) {
  if (name === "NotAllowedError") return "The browser was not allowed to use the camera. Allow it for this page and try again.";
  if (name === "NotFoundError") return "No camera was found.";
  if (name === "SecurityError") return "A browser lends its camera to pages over https or on localhost alone.";
  return "The camera could not be started; another program may be using it.";
}

function square(video) {
  const side = Math.min(video.videoWidth, video.videoHeight);
  const canvas = el("canvas", { width: side, height: side });
  const [left, top] = [(video.videoWidth - side) / 2, (video.videoHeight - side) / 2];
  canvas.getContext("2d").drawImage(video, left, top, side, side, 0, 0, side, side);
  return encoded(canvas, side, side);
}

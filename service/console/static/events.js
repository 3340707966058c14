// Server-sent events that survive a lost connection: fetch instead of EventSource, for its errors have a reason.

import { Problem, problemOf } from "./api.js";

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;

/**
 * Call `onEvent({id, event, data})` (data parsed from JSON) for each event of `path`, until the server says that there
 * are no more. After a lost connection it asks again from the last id on.
 * Resolves at the end; rejects with Problem where asking again is useless (4xx), with AbortError after `signal`.
 * `options`: {signal, lastId, onConnection(connected: boolean)}.
 */
export async function follow(path, onEvent, { signal, lastId = null, onConnection = () => {} } = {}) {
  let pause = FIRST_PAUSE_MS;
  const seen = (event) => {
    lastId = event.id ?? lastId;
    pause = FIRST_PAUSE_MS;
    onEvent(event);
  };
  for (;;) {
    const finished = await attempt(path, lastId, seen, signal, onConnection);
    if (finished) return;
    onConnection(false);
    await sleep(pause, signal);
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
  }
}

/** One connection, to its end. True: 204, nothing is left to tell. */
async function attempt(path, lastId, seen, signal, onConnection) {
  const headers = { Accept: "text/event-stream", ...(lastId === null ? {} : { "Last-Event-ID": lastId }) };
  let response;
  try {
    response = await fetch(path, { headers, signal, cache: "no-store" });
    if (response.status === 204) return true;
    if (!response.ok) throw await problemOf(response);
    onConnection(true);
    await read(response.body, seen);
  } catch (error) {
    const hopeless = error instanceof Problem && error.status >= 400 && error.status < 500 && error.status !== 429;
    if (error.name === "AbortError" || hopeless) throw error;
    if (!(error instanceof Problem) && !(error instanceof TypeError)) throw error; // a bug in onEvent is not the network
  }
  return false;
}

async function read(body, seen) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const event = parse(block);
      if (event) seen(event);
    }
  }
}

function parse(block) {
  const event = { id: null, event: "message", data: null };
  const data = [];
  for (const line of block.split(/\r?\n/)) {
    const [, field, value] = /^([a-z]+): ?(.*)$/.exec(line) ?? [];
    if (field === "data") data.push(value);
    else if (field === "id" || field === "event") event[field] = value;
  }
  if (data.length === 0) return null; // a comment that keeps the connection alive
  return { ...event, data: JSON.parse(data.join("\n")) };
}

function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("aborted", "AbortError"));
    });
  });
}

// Teaching: the lesson becomes an adapted model after every change. What is out of date is dropped.

import { call, Problem } from "../api.js";
import { AUTO } from "./kinds.js";

const DEBOUNCE_MS = 150;
const FIRST_WAIT_S = 5;
const WAIT_S = 30;
const KEPT_S = 24 * 3600;

/**
 * `onModel(model, examples)` after each adaptation, `onPending(model)` while one takes long, `onProblem(problem, examples)`
 * where one fails: `examples` are those its parameters count. `onBusy(busy)` around them.
 */
export class Teacher {
  #latest = null; // {model, reference, keys}
  #controller = null;
  #timer = null;

  constructor({ onModel, onPending, onProblem, onBusy }) {
    Object.assign(this, { onModel, onPending, onProblem, onBusy });
  }

  /** Teach these examples, [{id, value, label}], with the checkpoint of this reference; null: there is nothing to teach. */
  change(reference, examples) {
    clearTimeout(this.#timer);
    this.#controller?.abort();
    this.#controller = new AbortController();
    const { signal } = this.#controller;
    this.onBusy(examples !== null);
    if (examples !== null) this.#timer = setTimeout(() => this.#teach(reference, examples, signal), DEBOUNCE_MS);
  }

  /** Never grow the last model again: it is of another lesson. */
  forget() {
    this.#latest = null;
    this.change(null, null);
  }

  async #teach(reference, examples, signal) {
    const keys = examples.map(({ id, label }) => `${id} ${label}`);
    const before = this.#grownFrom(reference, keys);
    const added = before ? examples.slice(before.keys.length) : examples;
    try {
      const model = before
        ? await this.#grow(before.model, added, signal)
        : await this.#adapt(reference, examples, signal);
      if (signal.aborted) return;
      this.#latest = { model, reference, keys };
      this.onBusy(false);
      this.onModel(model, examples);
    } catch (error) {
      if (signal.aborted) return;
      this.#latest = null;
      if (before && error instanceof Problem && [404, 409, 410].includes(error.status)) {
        return this.#teach(reference, examples, signal); // the last model is gone: begin anew
      }
      this.onBusy(false);
      this.onProblem(error, added);
      if (error.retryAfter) this.#timer = setTimeout(() => this.#teach(reference, examples, signal), 1000 * error.retryAfter);
    }
  }

  /** The last model, where it was taught the first of these examples and no other; `auto` chooses anew each time. */
  #grownFrom(reference, keys) {
    const last = this.#latest;
    if (!last || last.reference !== reference || reference === AUTO) return null;
    if (keys.length <= last.keys.length || last.keys.some((key, i) => key !== keys[i])) return null;
    return last;
  }

  async #adapt(checkpoint, examples, signal) {
    return this.#done("/v1/adapt", { checkpoint, support: supportOf(examples), ttl_seconds: KEPT_S }, signal);
  }

  async #grow(parent, added, signal) {
    const body = { support: supportOf(added), ttl_seconds: KEPT_S };
    return this.#done(`/v1/adapted-models/${parent.id}/examples`, body, signal);
  }

  async #done(path, body, signal) {
    const headers = { Prefer: `wait=${FIRST_WAIT_S}` };
    let model = await call("POST", path, body, { headers, signal });
    while (model.status === "queued" || model.status === "running") {
      if (!signal.aborted) this.onPending(model);
      model = await call("GET", `/v1/adapted-models/${model.id}?wait=${WAIT_S}`, undefined, { signal });
    }
    if (model.error) throw new Problem({ status: 422, detail: model.error.message, ...model.error });
    return model;
  }
}

/** Examples as a request carries them. */
export function supportOf(examples) {
  return { inputs: examples.map(({ value }) => value), labels: examples.map(({ label }) => label) };
}

// Asking: one question at a time is on its way, and after it the latest alone.

import { call } from "../api.js";
import { sleep } from "./sleep.js";

const PACE_MS = 80; // while somebody draws: every answer is recorded by the service, and no eye sees more

/** `onAnswer(prediction, question, timings)`, `onProblem(problem, question)`. */
export class Oracle {
  #next = null;
  #asking = false;

  constructor({ onAnswer, onProblem }) {
    Object.assign(this, { onAnswer, onProblem });
  }

  /** Ask {model, examples, input, rejectBelow}; null takes back what was not answered yet. */
  ask(question) {
    this.#next = question;
    this.current = question;
    if (!this.#asking) this.#work();
  }

  async #work() {
    this.#asking = true;
    while (this.#next !== null) {
      const question = this.#next;
      this.#next = null;
      const pace = sleep(PACE_MS);
      try {
        const answer = await call("POST", "/v1/predict", bodyOf(question));
        if (this.#isCurrent(question)) this.onAnswer(answer.predictions[0], question, answer.timings);
      } catch (error) {
        if (this.#isCurrent(question)) this.onProblem(error, question);
        if (error.retryAfter && this.#isCurrent(question)) {
          await sleep(1000 * error.retryAfter);
          this.#next ??= this.current;
        }
      }
      await pace;
    }
    this.#asking = false;
  }

  /** Answers to a drawing that has grown meanwhile still show where it is going; those of another model do not. */
  #isCurrent(question) {
    return this.current !== null && this.current.model.id === question.model.id;
  }
}

function bodyOf({ model, input, rejectBelow }) {
  const wanted = ["labels", "probabilities", "nearest"];
  return { model: model.id, inputs: [input], return: wanted, ...(rejectBelow > 0 ? { reject_below: rejectBelow } : {}) };
}

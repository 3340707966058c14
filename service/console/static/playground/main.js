// The playground: teach a few examples of each class, try it on something new, copy the code that does the same.

import { announce, el, fill, notice } from "../dom.js";
import { listAll } from "../api.js";
import { AnswerView } from "./answer.js";
import { ClassCards } from "./classes.js";
import { copyCode } from "./copying.js";
import { isPicture, KINDS } from "./kinds.js";
import { Lesson } from "./lesson.js";
import { Oracle } from "./oracle.js";
import { QueryPanel } from "./query.js";
import { exampleOf } from "./showme.js";
import { Setup } from "./setup.js";
import { curlOf, pythonOf } from "./snippets.js";
import { openTable } from "./table.js";
import { Teacher } from "./teacher.js";

const byId = (id) => document.getElementById(id);

class Playground {
  constructor(checkpoints) {
    this.view = new AnswerView();
    this.lessons = new Map(KINDS.map((kind) => [kind.id, this.#lessonOf(kind)]));
    this.oracle = new Oracle({
      onAnswer: (prediction, question, timings) => this.view.showAnswer(prediction, question, timings, this.kind, question.rejectBelow),
      onProblem: (problem) => this.view.showProblem(problem.message),
    });
    this.teacher = new Teacher({
      onModel: (model, examples) => this.#taught(model, examples),
      onPending: (model) => this.view.wait(pendingInWords(model)),
      onProblem: (problem, examples) => this.#refused(problem, examples),
      onBusy: (busy) => byId("answer").setAttribute("aria-busy", String(busy)),
    });
    this.setup = new Setup(checkpoints, { onKind: () => this.#begin(), onReference: () => this.#teach() });
    this.#listen();
    this.#begin();
  }

  get kind() {
    return this.setup.kind;
  }

  get lesson() {
    return this.lessons.get(this.kind.id);
  }

  get rejectBelow() {
    return Number(byId("reject").value) / 100;
  }

  #lessonOf(kind) {
    const lesson = new Lesson();
    lesson.clear();
    lesson.addEventListener("change", () => {
      if (kind !== this.kind) return;
      fill(byId("removed")); // what is taken away from now on is another matter
      this.cards.show();
      this.#teach();
    });
    return lesson;
  }

  #listen() {
    byId("add-class").addEventListener("click", () => this.cards.focusName(this.lesson.addClass()));
    byId("paste-table").addEventListener("click", () => openTable(this.kind, (rows) => this.lesson.addLabelled(rows)));
    byId("start-over").addEventListener("click", () => this.#startOver());
    byId("show-me").addEventListener("click", () => this.#showMe());
    byId("reject").addEventListener("input", () => this.#rejectMoved());
    byId("copy-python").addEventListener("click", () => copyCode("Python", pythonOf(this.#asCode())));
    byId("copy-curl").addEventListener("click", () => copyCode("curl", curlOf(this.#asCode())));
  }

  /** The page for the kind of examples that is chosen. */
  #begin() {
    this.input = null;
    this.teacher.forget();
    byId("paste-table").hidden = isPicture(this.kind);
    fill(byId("removed"));
    this.cards = new ClassCards(fill(byId("classes")), this.kind, this.lesson, (what, undo) => this.#removed(what, undo));
    this.query = new QueryPanel(fill(byId("query")), this.kind, (input) => this.#asked(input));
    this.#teach();
  }

  #teach() {
    this.model = null;
    this.oracle.ask(null);
    const obstacle = this.lesson.obstacle();
    this.cards.mark(obstacle?.classId ?? null, obstacle?.message);
    byId("classes").querySelectorAll(".faulty").forEach((item) => item.classList.remove("faulty"));
    for (const place of ["setup-fault", "teach-fault"]) fill(byId(place));
    this.#enableCopying();
    if (obstacle) {
      this.view.clearModel();
      this.view.wait(obstacle.message);
      this.teacher.change(null, null);
    } else this.teacher.change(this.setup.reference, this.lesson.examples());
  }

  #taught(model, examples) {
    Object.assign(this, { model, examples });
    this.view.showModel(model, this.kind);
    this.#enableCopying();
    this.#ask();
  }

  #asked(input) {
    this.input = input;
    if (input === null && this.model) this.view.wait(`Ready. Now try it with a ${this.kind.one} it has not seen.`);
    this.#ask();
  }

  #ask() {
    const { model, examples, input, rejectBelow } = this;
    this.oracle.ask(model && input !== null ? { model, examples, input, rejectBelow } : null);
  }

  /** An error of the API, where it belongs. */
  #refused(problem, examples) {
    this.view.clearModel();
    this.view.wait("It could not be taught.");
    const row = /^support\.(?:inputs|labels)\[(\d+)\]/.exec(problem.param ?? "");
    if (row && this.cards.markExample(examples[Number(row[1])]?.id, problem.message)) return;
    const place = /^(checkpoint|options)/.test(problem.param) ? "setup-fault" : /^support/.test(problem.param) ? "teach-fault" : null;
    if (place) fill(byId(place), notice("bad", problem.message));
    else this.view.showProblem(problem.message);
  }

  #rejectMoved() {
    const percent = byId("reject").value;
    byId("reject-value").textContent = percent === "0" ? "never" : `${percent}%`;
    this.#ask();
  }

  #removed(what, undo) {
    const again = () => {
      undo();
      announce("It is back.");
    };
    fill(byId("removed"), notice("", `Removed ${what}. `, el("button", { type: "button", class: "small", onclick: again }, "Undo")));
  }

  #startOver() {
    const { lesson } = this;
    const before = lesson.classes;
    this.query.clear();
    lesson.clear();
    if (before.some((own) => own.examples.length)) this.#removed("everything", () => lesson.restore(before));
  }

  #showMe() {
    const { rows, ...query } = exampleOf(this.kind);
    if (this.lesson.classes.some((own) => own.examples.length)) this.#startOver();
    else this.lesson.clear();
    this.lesson.addLabelled(rows);
    this.query.show(query);
  }

  #enableCopying() {
    for (const id of ["copy-python", "copy-curl"]) byId(id).disabled = !this.model;
  }

  #asCode() {
    const { model, examples, input, rejectBelow } = this;
    const keyed = byId("sign-out") !== null;
    return { url: location.origin, keyed, reference: this.setup.reference, model, examples, input, rejectBelow };
  }
}

function pendingInWords({ queue_state: state, position }) {
  if (state === "no_worker") return "Waiting: no worker is running. It will be taught as soon as one is there.";
  return position ? `Waiting: ${position} before this one …` : "Being taught …";
}

async function start() {
  const [page, loading] = [byId("playground"), byId("loading")];
  try {
    const checkpoints = await listAll("/v1/checkpoints");
    const classifies = checkpoints.some((one) => one.deleted_at === null && one.tasks.includes("classification"));
    if (!classifies) throw new Error("There is no checkpoint that learns classes yet. Train one under Jobs, or publish one.");
    page.hidden = false;
    new Playground(checkpoints);
    fill(loading);
  } catch (error) {
    fill(loading, notice("bad", error.message));
  } finally {
    loading.removeAttribute("aria-busy");
  }
}

start();

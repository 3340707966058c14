// The columns: one card per class with its examples and the ways to add more.

import { el, fill, notice } from "../dom.js";
import { lineCollector, PictureCollector } from "./collector.js";
import { isPicture } from "./kinds.js";

/** Keeps the cards in step with a lesson. `onRemoved(what, undo)` after something was taken away. */
export class ClassCards {
  #cards = new Map(); // class id -> card

  constructor(container, kind, lesson, onRemoved) {
    Object.assign(this, { container, kind, lesson, onRemoved });
    this.show();
  }

  /** Draw what changed; cards that stay keep their pads, fields and focus. */
  show() {
    for (const [id, card] of this.#cards) {
      if (this.lesson.classes.some((own) => own.id === id)) continue;
      card.element.remove();
      this.#cards.delete(id);
    }
    for (const own of this.lesson.classes) {
      if (!this.#cards.has(own.id)) this.#cards.set(own.id, this.#card(own));
      const card = this.#cards.get(own.id);
      if (!card.element.isConnected) this.container.append(card.element);
      card.update(own);
    }
  }

  /** Show a message in a class's card, or take all away. */
  mark(classId, message) {
    for (const [id, card] of this.#cards) fill(card.fault, id === classId && message ? notice("bad", message) : null);
  }

  /** Show what is wrong with an example. */
  markExample(exampleId, message) {
    const own = this.lesson.classes.find(({ examples }) => examples.some(({ id }) => id === exampleId));
    if (!own) return false;
    this.container.querySelector(`[data-example="${exampleId}"]`)?.classList.add("faulty");
    this.mark(own.id, message);
    return true;
  }

  focusName(classId) {
    this.#cards.get(classId)?.name.select();
  }

  #card(own) {
    const nameId = `class-${own.id}`;
    const current = () => this.lesson.classes.find(({ id }) => id === own.id);
    const purpose = () => current()?.name || "this class";
    const name = el("input", { id: nameId, class: "class-name", maxlength: 100, autocomplete: "off", oninput: () => this.lesson.rename(own.id, name.value) });
    const list = el("ul", { class: `examples ${this.kind.id}` });
    const fault = el("div");
    const count = el("span", { class: "muted count" });
    const remove = el("button", { type: "button", class: "quiet small", "aria-label": "Remove this class", onclick: () => this.#removeClass(own.id) }, "Remove");
    const onValues = (values) => this.lesson.add(own.id, values);
    const collector = isPicture(this.kind)
      ? new PictureCollector({ kind: this.kind, purpose, onPictures: onValues }).element
      : lineCollector({ kind: this.kind, onValues });
    const element = el("div", { class: "card class", role: "group" },
      el("div", { class: "class-head" }, el("label", { for: nameId, class: "visually-hidden" }, "Name of the class"), name, remove),
      fault, collector, list, count);
    const update = (now) => {
      if (name.value !== now.name) name.value = now.name;
      element.setAttribute("aria-label", `Class ${now.name}`);
      const n = now.examples.length;
      count.textContent = n === 0 ? "No example yet" : n === 1 ? "1 example" : `${n} examples`;
      this.#updateList(list, now);
    };
    return { element, name, fault, update };
  }

  #updateList(list, { name, examples }) {
    const there = new Map([...list.children].map((item) => [Number(item.dataset.example), item]));
    for (const [id, item] of there) if (!examples.some((example) => example.id === id)) item.remove();
    examples.forEach((example, i) => {
      const item = there.get(example.id) ?? this.#item(example);
      if (!item.isConnected) list.append(item);
      item.querySelector("img")?.setAttribute("alt", `Example ${i + 1} of ${name}`);
      item.querySelector("button").setAttribute("aria-label", `Remove example ${i + 1} of ${name}`);
    });
  }

  #item({ id, value }) {
    const remove = el("button", { type: "button", class: "remove", onclick: () => this.#removeExample(id) }, "×");
    return el("li", { dataset: { example: id } }, shown(this.kind, value), remove);
  }

  #removeClass(id) {
    const before = this.lesson.classes;
    const { name, examples } = before.find((own) => own.id === id);
    this.lesson.removeClass(id);
    if (examples.length) this.onRemoved(`“${name}” and its examples`, () => this.lesson.restore(before));
  }

  #removeExample(id) {
    const before = this.lesson.classes;
    this.lesson.removeExample(id);
    this.onRemoved("one example", () => this.lesson.restore(before));
  }
}

/** An example as somebody recognises it. */
export function shown(kind, value, alt = "") {
  if (isPicture(kind)) return el("img", { src: value, alt, width: 64, height: 64 });
  if (kind.id === "vector") return el("span", { class: "mono" }, value.join(", "));
  return el("span", {}, value);
}

// What is taught, and to which checkpoint: the two choices at the top of the page.

import { el, fill } from "../dom.js";
import { AUTO, byKind, inProduction, KINDS, kindOf, referenceOf } from "./kinds.js";

/** `onKind(kind)` and `onReference(reference)` as somebody chooses. */
export class Setup {
  constructor(checkpoints, { onKind, onReference }) {
    this.choices = byKind(checkpoints);
    Object.assign(this, { onKind, onReference });
    this.select = document.getElementById("checkpoint");
    this.about = document.getElementById("about-checkpoint");
    this.select.addEventListener("change", () => this.#chosen());
    const wanted = this.#wanted(checkpoints);
    this.kind = wanted ? kindOf(wanted) : KINDS.find((kind) => this.choices.get(kind.id).length);
    if (!this.kind) return; // nothing to choose from
    this.#showKinds();
    this.#showCheckpoints(wanted && referenceOf(wanted));
  }

  get reference() {
    return this.select.value;
  }

  /** The checkpoint that the page's address asks for, `/?checkpoint=glyphs`. */
  #wanted(checkpoints) {
    const asked = new URLSearchParams(location.search).get("checkpoint");
    const usable = [...this.choices.values()].flat();
    return usable.find((one) => asked !== null && [one.id, referenceOf(one)].includes(asked)) ?? null;
  }

  #showKinds() {
    const radios = KINDS.filter((kind) => this.choices.get(kind.id).length).map((kind) => {
      const pick = () => {
        this.kind = kind;
        this.#showCheckpoints();
        this.onKind(kind);
      };
      const radio = el("input", { type: "radio", name: "kind", value: kind.id, checked: kind === this.kind, onchange: pick });
      return el("label", { class: "kind" }, radio, kind.name);
    });
    fill(document.getElementById("kinds"), radios);
  }

  #showCheckpoints(wanted = null) {
    const own = this.choices.get(this.kind.id);
    const option = (one) => el("option", { value: referenceOf(one) }, inProduction(one) ? one.name : `${one.name} (${one.id})`);
    const served = own.filter(inProduction);
    const others = own.filter((one) => !inProduction(one));
    fill(this.select, served.map(option), served.length ? el("option", { value: AUTO }, "auto: choose for me") : null,
      others.length ? el("optgroup", { label: "Not in production" }, others.map(option)) : null);
    if (wanted) this.select.value = wanted;
    this.#describe();
  }

  #chosen() {
    this.#describe();
    this.onReference(this.reference);
  }

  #describe() {
    const one = this.choices.get(this.kind.id).find((own) => referenceOf(own) === this.reference);
    const auto = "Of the checkpoints that take such examples, the one that answers yours best when each is left out.";
    this.about.textContent = one ? `${one.description} Learner: ${one.learner}.` : auto;
  }
}

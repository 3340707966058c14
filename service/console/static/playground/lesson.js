// What the visitor has taught so far: classes and their examples. Parts of the page change it, others hear of it.

let made = 0;
const nextId = () => ++made;

/** Fires "change" after every change. An example is {id, value}: a data URL, a text, or a list of numbers. */
export class Lesson extends EventTarget {
  classes = [];

  /** A new class; its name is "class 3" or the like where none is given. Returns its id. */
  addClass(name = this.#freeName()) {
    const id = nextId();
    this.classes = [...this.classes, { id, name, examples: [] }];
    this.#changed();
    return id;
  }

  rename(classId, name) {
    this.#replace(classId, (own) => ({ ...own, name }));
  }

  removeClass(classId) {
    this.classes = this.classes.filter((own) => own.id !== classId);
    this.#changed();
  }

  add(classId, values) {
    const examples = values.map((value) => ({ id: nextId(), value }));
    this.#replace(classId, (own) => ({ ...own, examples: [...own.examples, ...examples] }));
  }

  removeExample(exampleId) {
    const without = ({ examples }) => examples.filter((example) => example.id !== exampleId);
    this.classes = this.classes.map((own) => ({ ...own, examples: without(own) }));
    this.#changed();
  }

  /** Add labelled values, [[name, value], ...]: classes are found by their name, new ones take the empty columns. */
  addLabelled(rows) {
    const byName = new Map(this.classes.filter((own) => own.examples.length).map((own) => [own.name, own.id]));
    const empty = this.classes.filter((own) => !own.examples.length && !rows.some(([name]) => name === own.name));
    for (const own of this.classes) if (!empty.includes(own)) byName.set(own.name, own.id);
    const columns = new Map(this.classes.map((own) => [own.id, { ...own, examples: [...own.examples] }]));
    for (const [name, value] of rows) {
      if (!byName.has(name)) {
        const id = empty.shift()?.id ?? nextId();
        columns.set(id, { id, name, examples: [] });
        byName.set(name, id);
      }
      columns.get(byName.get(name)).examples.push({ id: nextId(), value });
    }
    this.restore([...columns.values()]);
  }

  /** Put back what `classes` was before. */
  restore(classes) {
    this.classes = classes;
    this.#changed();
  }

  clear() {
    this.classes = [];
    this.addClass();
    this.addClass();
  }

  /** All examples in the order they were added, so that a support set that grew begins as it was. */
  examples() {
    const all = this.classes.flatMap((own) => own.examples.map((example) => ({ ...example, label: own.name.trim() })));
    return all.sort((a, b) => a.id - b.id);
  }

  /** What keeps it from being taught: {classId, message}, or null. */
  obstacle() {
    const used = this.classes.filter((own) => own.examples.length);
    const unnamed = used.find((own) => !own.name.trim());
    if (unnamed) return { classId: unnamed.id, message: "Give this class a name." };
    const names = used.map((own) => own.name.trim());
    const twin = used.find((own, i) => names.indexOf(own.name.trim()) < i);
    if (twin) return { classId: twin.id, message: `Another class is called “${twin.name.trim()}” too; rename one.` };
    if (used.length < 2) return { classId: null, message: "Give examples of at least two classes." };
    return null;
  }

  #freeName() {
    const taken = new Set(this.classes.map((own) => own.name));
    let n = this.classes.length + 1;
    while (taken.has(`class ${n}`)) n += 1;
    return `class ${n}`;
  }

  #replace(classId, change) {
    this.classes = this.classes.map((own) => (own.id === classId ? change(own) : own));
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

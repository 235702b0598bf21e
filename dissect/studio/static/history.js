// Undo and redo: steps that know how to be taken and taken back.

export class History {
  #done = [];
  #undone = [];

  constructor(changed = () => {}) {
    this.changed = changed;
  }

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  push(step) {
    this.#done.push(step);
    if (this.#done.length > 500) this.#done.shift();
    this.#undone = [];
    this.changed();
  }

  undo() {
    const step = this.#done.pop();
    if (step) this.#undone.push(step);
    this.changed();
    return step;
  }

  redo() {
    const step = this.#undone.pop();
    if (step) this.#done.push(step);
    this.changed();
    return step;
  }

  /** Forget the steps that no longer apply. */
  forget(unwanted) {
    this.#done = this.#done.filter((step) => !unwanted(step));
    this.#undone = this.#undone.filter((step) => !unwanted(step));
    this.changed();
  }
}

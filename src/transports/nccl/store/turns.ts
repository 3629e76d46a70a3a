/** How long clients may keep the event loop in one turn of it, in ms. */
const SLICE_MS = 4;

/** Someone with work to do, cut into steps of well under a millisecond each. */
export interface Task {
  /** Works while `hasTime()`; true when something is left. Must not throw. */
  step(hasTime: () => boolean): boolean;
}

/**
 * Shares the event loop between a store's connections and with everything else that runs in the process: what clients ask for is done at
 * once while a turn has time left, else in line, in later turns.
 */
export class Turns {
  readonly #line = new Set<Task>();
  /** Who had a step and has more to do: behind everyone who has not, so that a worker's few requests pass a flood. */
  readonly #busy = new Set<Task>();
  #endsAt = 0;
  #scheduled = false;
  readonly #hasTime = (): boolean => performance.now() < this.#endsAt;

  /** Runs the task, now or soon; true when it stands in line. Asking again for one that does changes nothing. */
  ask(task: Task): boolean {
    if (!this.#scheduled) this.#begin();
    if (this.#busy.has(task)) return true;
    if (this.#line.size > 0 || !this.#hasTime()) this.#line.add(task);
    else if (task.step(this.#hasTime)) this.#busy.add(task);
    else return false;
    return true;
  }

  /** Lets the task stand behind everyone who has had less. */
  queue(task: Task): void {
    if (!this.#scheduled) this.#begin();
    if (!this.#line.has(task)) this.#busy.add(task);
  }

  /** Forgets a task that stands in line. */
  drop(task: Task): void {
    this.#line.delete(task);
    this.#busy.delete(task);
  }

  #begin(): void {
    this.#endsAt = performance.now() + SLICE_MS;
    this.#scheduled = true;
    setImmediate(() => this.#next());
  }

  #next(): void {
    this.#scheduled = false;
    if (this.#line.size + this.#busy.size === 0) return;
    this.#begin();
    const [busiest] = this.#busy;
    for (const task of this.#line) {
      if (!this.#hasTime()) break;
      this.#line.delete(task);
      if (task.step(this.#hasTime)) this.#busy.add(task);
    }
    // One of the busy has a step in any turn: nobody waits for ever.
    if (busiest !== undefined && !this.#hasTime()) this.#endsAt = performance.now() + SLICE_MS / 4;
    for (const task of this.#busy) {
      if (!this.#hasTime()) return;
      this.#busy.delete(task);
      if (task.step(this.#hasTime)) this.#busy.add(task);
    }
  }
}

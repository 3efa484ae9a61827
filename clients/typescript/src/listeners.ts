// Who wants to be told.

export class Listeners<Told extends unknown[]> {
  readonly #all = new Set<{ listener: (...told: Told) => void }>();
  readonly #failed: (cause: unknown) => void;

  /** `failed` is told what a listener throws; the others are told all the same. */
  constructor(failed: (cause: unknown) => void) {
    this.#failed = failed;
  }

  get size(): number {
    return this.#all.size;
  }

  add(listener: (...told: Told) => void): () => void {
    const entry = { listener };
    this.#all.add(entry);
    return () => this.#all.delete(entry);
  }

  tell(...told: Told): void {
    for (const { listener } of [...this.#all]) {
      try {
        listener(...told);
      } catch (cause) {
        this.#failed(cause);
      }
    }
  }
}

/** A promise and what settles it. Nobody has to wait for it. */
export class Deferred<T> {
  readonly promise: Promise<T>;
  resolve!: (value: T) => void;
  reject!: (cause: unknown) => void;

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    // A refusal nobody listens to is no fault of the program.
    this.promise.catch(() => {});
  }
}

import { StoreError } from "../../config/store.ts";

const maxAttempts = 5;

/** Writes of one object come one after the other; what another writer has overtaken is decided anew, a few times. */
export class WriteQueue {
  readonly #pending = new Map<string, Promise<void>>();

  /** `action` reads what it needs when it runs. Rejects with its last error. */
  write(id: string, action: () => Promise<void>): Promise<void> {
    const before = this.#pending.get(id) ?? Promise.resolve();
    const done = before.catch(() => undefined).then(() => withRetries(action));
    this.#pending.set(id, done);
    const forget = () => {
      if (this.#pending.get(id) === done) this.#pending.delete(id);
    };
    done.then(forget, forget);
    return done;
  }
}

async function withRetries(action: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await action();
      return;
    } catch (error) {
      const isOvertaken = error instanceof StoreError && ["conflict", "exists", "not-found"].includes(error.code);
      if (!isOvertaken || attempt === maxAttempts) throw error;
    }
  }
}

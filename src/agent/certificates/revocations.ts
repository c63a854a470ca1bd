/**
 * Certificates that are no longer good: the control plane's list, or where it has none a file that the operator keeps. Text that is no
 * list leaves the last one in force, so that nobody gets in by damaging it.
 */
import { existsSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { log } from "../../lib/log.ts";
import { watchFile } from "../../lib/watch-file.ts";

const scope = log.scope("sds");
const maxBytes = 8 * 1024 * 1024;

export class Revocations implements Disposable {
  readonly #path: string;
  readonly #watches = new DisposableStack();
  readonly #listeners = new Set<() => void>();
  #ofFile: string | undefined;
  #ofControlPlane: string | undefined;

  constructor(path: string, quietMs: number) {
    this.#path = path;
    this.#ofFile = this.#read();
    if (existsSync(dirname(path))) this.#watches.use(watchFile(path, () => this.#reload(), quietMs));
  }

  /** PEM; undefined: nothing is revoked. */
  get current(): string | undefined {
    return this.#ofControlPlane ?? this.#ofFile;
  }

  /** What the control plane says; undefined: it has no list. Throws for what is none. */
  take(list: string | undefined): void {
    if (list !== undefined && !isList(list)) throw new Error("the revocation list is none, or too long");
    this.#change(() => {
      this.#ofControlPlane = list;
    });
  }

  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  [Symbol.dispose](): void {
    this.#watches.dispose();
  }

  #reload(): void {
    const list = this.#read();
    if (list === undefined) return;
    this.#change(() => {
      this.#ofFile = list;
    });
  }

  #change(apply: () => void): void {
    const before = this.current;
    apply();
    if (this.current !== before) for (const listener of this.#listeners) listener();
  }

  #read(): string | undefined {
    try {
      const text = readFileSync(this.#path, "utf8");
      if (isList(text)) return text;
      scope.warn("the revocation list is none", { path: this.#path });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") scope.warn("the revocation list can't be read", { path: this.#path, error });
    }
    return undefined;
  }
}

function isList(text: string): boolean {
  return text.length <= maxBytes && /-----BEGIN X509 CRL-----/.test(text);
}

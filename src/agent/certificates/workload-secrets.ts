/** The workload's certificate and what it trusts, wherever they come from. */
import { X509Certificate } from "node:crypto";
import type { KeyPair } from "./key-pair.ts";

export interface WorkloadSecrets {
  readonly pair: KeyPair;
  /** PEM. */
  readonly roots: string;
}

export interface WorkloadSecretsSource extends AsyncDisposable {
  /** Undefined until the first has come. */
  readonly current: WorkloadSecrets | undefined;
  onChange(listener: () => void): Disposable;
  /** Trusts these from now on, as the control plane says. Throws for what is no certificate. */
  trust(roots: readonly string[]): void;
}

/** Keeps the present secrets and tells of new ones. */
export class PresentSecrets {
  readonly #listeners = new Set<() => void>();
  #current: WorkloadSecrets | undefined;

  get current(): WorkloadSecrets | undefined {
    return this.#current;
  }

  set(secrets: WorkloadSecrets): void {
    this.#current = secrets;
    for (const listener of this.#listeners) listener();
  }

  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }
}

/** Throws when one of them is no certificate. */
export function joinRoots(roots: readonly string[]): string {
  for (const root of roots) new X509Certificate(root);
  return roots.map((root) => `${root.trim()}\n`).join("");
}

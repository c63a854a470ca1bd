/** The workload's certificate and what it trusts, wherever they come from. */
import { X509Certificate } from "node:crypto";
import { joinCertificates, splitCertificates } from "../../lib/pem.ts";
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

/**
 * What all sources share: keeps the present secrets and tells of new ones. Two say whom to trust: who issued the certificate, and the control plane. Where they are
 * the same the last word counts, so that a root can be withdrawn; where they are not, both are trusted.
 */
export abstract class PresentSecrets implements WorkloadSecretsSource {
  readonly #issuer: "controlPlane" | "another";
  readonly #listeners = new Set<() => void>();
  #issued: WorkloadSecrets | undefined;
  #meshRoots: readonly string[] = [];
  #current: WorkloadSecrets | undefined;

  protected constructor(issuer: "controlPlane" | "another") {
    this.#issuer = issuer;
  }

  abstract [Symbol.asyncDispose](): Promise<void>;

  get current(): WorkloadSecrets | undefined {
    return this.#current;
  }

  protected set(issued: WorkloadSecrets): void {
    this.#issued = issued;
    if (this.#issuer === "controlPlane") this.#meshRoots = [];
    this.#settle();
  }

  /** What the control plane says. Whether that changes anything. Throws when one of them is no certificate. */
  trust(roots: readonly string[]): boolean {
    for (const root of roots) new X509Certificate(root);
    const before = this.#current?.roots;
    if (roots.length === 0 || !this.#issued) return false;
    this.#meshRoots = roots;
    if (this.#united(this.#issued) === before) return false;
    this.#settle();
    return true;
  }

  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  #settle(): void {
    if (!this.#issued) return;
    this.#current = { pair: this.#issued.pair, roots: this.#united(this.#issued) };
    for (const listener of this.#listeners) listener();
  }

  #united({ roots }: WorkloadSecrets): string {
    if (this.#meshRoots.length === 0) return roots;
    return joinCertificates(this.#issuer === "another" ? [...this.#meshRoots, ...splitCertificates(roots)] : this.#meshRoots);
  }
}

/** Certificates that the authority's list says are no longer good. */
import { parseRevocationLists } from "../../lib/revocation-list.ts";
import type { CertificateAuthority } from "./certificate-authority.ts";

export class Revocations implements Disposable {
  readonly #authority: CertificateAuthority;
  readonly #watch: Disposable;
  #serials: ReadonlySet<string> | undefined;

  constructor(authority: CertificateAuthority) {
    this.#authority = authority;
    this.#watch = authority.onChange(() => {
      this.#serials = undefined;
    });
  }

  /** `serialNumber`: hexadecimal, as node:crypto gives it. */
  includes(serialNumber: string): boolean {
    const { crl } = this.#authority;
    if (crl === undefined) return false;
    this.#serials ??= new Set([...parseRevocationLists(crl).values()].flatMap(({ serials }) => [...serials].map(normalize)));
    return this.#serials.has(normalize(serialNumber));
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
  }
}

function normalize(serial: string): string {
  return serial.toLowerCase().replace(/^0+/, "");
}

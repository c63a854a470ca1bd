/** Certificates that the authority's list says are no longer good. */
import type { CertificateAuthority } from "./certificate-authority.ts";

export class Revocations implements Disposable {
  readonly #authority: CertificateAuthority;
  readonly #watch: Disposable;
  #serials: Promise<ReadonlySet<string>> | undefined;

  constructor(authority: CertificateAuthority) {
    this.#authority = authority;
    this.#watch = authority.onChange(() => {
      this.#serials = undefined;
    });
  }

  /** `serialNumber`: hexadecimal, as node:crypto gives it. */
  async includes(serialNumber: string): Promise<boolean> {
    const { crl } = this.#authority;
    if (crl === undefined) return false;
    this.#serials ??= parse(crl);
    return (await this.#serials).has(normalize(serialNumber));
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
  }
}

async function parse(pem: string): Promise<ReadonlySet<string>> {
  const { X509Crl } = await import("../../lib/x509.ts");
  const lists = [...pem.matchAll(/-----BEGIN X509 CRL-----[^-]+-----END X509 CRL-----/g)];
  return new Set(lists.flatMap(([text]) => new X509Crl(text).entries.map(({ serialNumber }) => normalize(serialNumber))));
}

function normalize(serial: string): string {
  return serial.toLowerCase().replace(/^0+/, "");
}

/**
 * Which of several certificates a client is shown: first by its server name, then by whether it takes ECDSA on the certificate's curve, as
 * Envoy chooses (source/common/tls/default_tls_certificate_selector.cc).
 */
import type { ClientHello } from "./client-hello.ts";

/** `RSA`, or the curve of an EC key as OpenSSL names it. */
export type KeyKind = "rsa" | "prime256v1" | "secp384r1" | "secp521r1" | "other";

export interface Choosable {
  readonly keyKind: KeyKind;
  /** DNS names in lower case; `*.a` stands for all names one label longer. */
  readonly dnsNames: readonly string[];
}

// TLS SignatureScheme (ecdsa_secp256r1_sha256 ...) and NamedGroup (secp256r1 ...) of each curve.
const curves: readonly (readonly [scheme: number, group: number, curve: KeyKind])[] = [
  [0x0403, 23, "prime256v1"],
  [0x0503, 24, "secp384r1"],
  [0x0603, 25, "secp521r1"],
];

/** Suites that are signed by ECDSA, before TLS 1.3. */
const ecdsaSuites: Readonly<Record<string, number>> = {
  "ECDHE-ECDSA-AES128-GCM-SHA256": 0xc02b,
  "ECDHE-ECDSA-AES256-GCM-SHA384": 0xc02c,
  "ECDHE-ECDSA-CHACHA20-POLY1305": 0xcca9,
  "ECDHE-ECDSA-AES128-SHA": 0xc009,
  "ECDHE-ECDSA-AES256-SHA": 0xc00a,
};

export function ecdsaSuiteNumbers(suites: readonly string[]): number[] {
  return suites.flatMap((suite) => ecdsaSuites[suite] ?? []);
}

export class CertificateChoice<T extends Choosable> {
  readonly #certificates: readonly T[];
  /** By name, wildcards as `.a`; each key kind once. */
  readonly #byName = new Map<string, T[]>();
  readonly #ecdsaSuites: readonly number[];
  readonly #takesTls13: boolean;
  readonly #scansAll: boolean;

  /** At least one certificate; `suites` of TLS 1.2 that are on; `scansAll`: of any name where none has the client's. */
  constructor(certificates: readonly T[], suites: readonly string[], { takesTls13 = true, scansAll = false } = {}) {
    this.#certificates = certificates;
    this.#ecdsaSuites = ecdsaSuiteNumbers(suites);
    this.#takesTls13 = takesTls13;
    this.#scansAll = scansAll;
    if (certificates.length === 1) return;
    for (const certificate of certificates) {
      for (const name of certificate.dnsNames) {
        const key = name.startsWith("*.") ? name.slice(1) : name;
        const known = this.#byName.get(key);
        if (known === undefined) this.#byName.set(key, [certificate]);
        else if (known.every(({ keyKind }) => isEcdsa(keyKind) !== isEcdsa(certificate.keyKind))) known.push(certificate);
      }
    }
  }

  /** `hello` null: nobody knows what it said. `isUsable`: whether OCSP lets a certificate be shown now. */
  choose(hello: ClientHello | null, isUsable: (certificate: T) => boolean): T {
    const first = this.#certificates[0]!;
    if (this.#certificates.length === 1 || hello === null) return first;
    const takes = this.#curvesOf(hello);
    const name = hello.serverName;
    if (name !== "") {
      const dot = name.indexOf(".", 1);
      const byName =
        best(this.#byName.get(name), takes, isUsable) ?? (dot < 0 ? null : best(this.#byName.get(name.slice(dot)), takes, isUsable));
      if (byName !== null) return byName;
      if (!this.#scansAll) return first;
    }
    return best(this.#certificates, takes, isUsable) ?? first;
  }

  #curvesOf(hello: ClientHello): KeyKind[] {
    if (hello.namesVersions && this.#takesTls13) {
      return curves.filter(([scheme]) => includes(hello.signatureSchemes, scheme)).map(([, , curve]) => curve);
    }
    const known = curves.filter(([, group]) => includes(hello.groups, group)).map(([, , curve]) => curve);
    return this.#ecdsaSuites.some((suite) => includes(hello.cipherSuites, suite)) ? known : [];
  }
}

/** A client that takes ECDSA gets it where there is one for its curves, else RSA; any other gets RSA. */
function best<T extends Choosable>(candidates: readonly T[] | undefined, takes: readonly KeyKind[], isUsable: (one: T) => boolean) {
  if (candidates === undefined) return null;
  const usable = candidates.filter(isUsable);
  return usable.find(({ keyKind }) => takes.includes(keyKind)) ?? usable.find(({ keyKind }) => !isEcdsa(keyKind)) ?? null;
}

function isEcdsa(kind: KeyKind): boolean {
  return kind !== "rsa" && kind !== "other";
}

function includes(list: Buffer | null, number: number): boolean {
  if (list === null) return false;
  for (let at = 0; at + 2 <= list.length; at += 2) if (list.readUInt16BE(at) === number) return true;
  return false;
}

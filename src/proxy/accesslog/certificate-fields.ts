import { X509Certificate } from "node:crypto";

/** What access logs show of a certificate. Parsed when first asked for: most formats ask for nothing of it. */
export interface CertificateFields {
  readonly subject: string;
  readonly issuer: string;
  /** Hexadecimal, lower case. */
  readonly serial: string;
  readonly sha1: string;
  readonly sha256: string;
  readonly uriSans: readonly string[];
  readonly dnsSans: readonly string[];
  readonly ipSans: readonly string[];
  readonly emailSans: readonly string[];
  /** Percent-encoded PEM. */
  readonly encodedPem: string;
  readonly validFromEpochMs: number;
  readonly validToEpochMs: number;
}

// A connection keeps its certificate's buffer for as long as it lives, so the fields live exactly as long.
const parsed = new WeakMap<Buffer, CertificateFields | null>();

/** The fields of a DER certificate; null when it can't be read. */
export function certificateFields(der: Buffer): CertificateFields | null {
  const known = parsed.get(der);
  if (known !== undefined) return known;
  let fields: CertificateFields | null;
  try {
    fields = read(new X509Certificate(der));
  } catch {
    fields = null; // the handshake has passed; a field that can't be shown is no reason to fail a log line
  }
  parsed.set(der, fields);
  return fields;
}

function read(certificate: X509Certificate): CertificateFields {
  const sans = subjectAltNames(certificate.subjectAltName ?? "");
  const named = (kind: string) => sans.filter(([type]) => type === kind).map(([, value]) => value);
  return {
    subject: rfc2253(certificate.subject ?? ""),
    issuer: rfc2253(certificate.issuer ?? ""),
    serial: certificate.serialNumber.toLowerCase(),
    sha1: certificate.fingerprint.replaceAll(":", "").toLowerCase(),
    sha256: certificate.fingerprint256.replaceAll(":", "").toLowerCase(),
    uriSans: named("URI"),
    dnsSans: named("DNS"),
    ipSans: named("IP Address"),
    emailSans: named("email"),
    encodedPem: encodeURIComponent(certificate.toString()),
    validFromEpochMs: Date.parse(certificate.validFrom),
    validToEpochMs: Date.parse(certificate.validTo),
  };
}

/** Node prints `URI:spiffe://a, DNS:b, email:c`; a value with a comma or quote in it comes as a JSON string. */
export function subjectAltNames(text: string): [type: string, value: string][] {
  const names: [string, string][] = [];
  for (const match of text.matchAll(/(?:^|, )([A-Za-z ]+):("(?:[^"\\]|\\.)*"|[^,]*)/g)) {
    const value = match[2]!;
    names.push([match[1]!, value.startsWith('"') ? (JSON.parse(value) as string) : value]);
  }
  return names;
}

/**
 * Node prints one `KEY=value` a line, outermost first, keys of one level with ` + ` between, and has what RFC 2253 wants
 * escaped but bytes beyond ASCII. RFC 2253 has the innermost first, with commas.
 */
function rfc2253(lines: string): string {
  return lines
    .split("\n")
    .filter(Boolean)
    .reverse()
    .map((line) =>
      line
        .split(" + ")
        .reverse()
        .join("+")
        .replaceAll(/[^\0-\x7f]+/g, escapedBytes),
    )
    .join(",");
}

function escapedBytes(text: string): string {
  return [...Buffer.from(text)].map((byte) => `\\${byte.toString(16).toUpperCase()}`).join("");
}

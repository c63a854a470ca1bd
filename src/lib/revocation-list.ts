/** Revocation lists (RFC 5280, 5.1), and what of a certificate is needed to find it in one. */
import { contextTag, type DerElement, derTag, readDer, readDerList } from "./der.ts";

export interface RevocationList {
  /** Serial numbers, hexadecimal. */
  readonly serials: ReadonlySet<string>;
  readonly thisUpdateMs: number;
  readonly nextUpdateMs: number;
}

/** By the issuer's name in DER, as Latin-1. */
export type RevocationLists = ReadonlyMap<string, RevocationList>;

export interface CertificateNumbers {
  /** Names in DER, as Latin-1. */
  readonly issuer: string;
  readonly subject: string;
  /** Hexadecimal. */
  readonly serial: string;
}

const explicitVersion = contextTag(0, "constructed");

/** Of several lists of one issuer the newest counts. Their signatures are not looked at. Throws an Error for text that holds no list, or a damaged one. */
export function parseRevocationLists(pem: string): RevocationLists {
  const lists = new Map<string, RevocationList>();
  for (const [, body] of pem.matchAll(/-----BEGIN X509 CRL-----([^-]+)-----END X509 CRL-----/g)) {
    const parsed = parseList(Buffer.from(body!, "base64"));
    if (!parsed) throw new Error("a revocation list can't be read");
    const known = lists.get(parsed.issuer);
    if (!known || known.thisUpdateMs < parsed.list.thisUpdateMs) lists.set(parsed.issuer, parsed.list);
  }
  if (lists.size === 0) throw new Error("there is no revocation list in PEM");
  return lists;
}

/** null for what is no certificate in DER. */
export function certificateNumbers(der: Buffer): CertificateNumbers | null {
  const fields = tbsFields(der);
  if (!fields) return null;
  const [serial, , issuer, , subject] = fields[0]?.tag === explicitVersion ? fields.slice(1) : fields;
  if (serial?.tag !== derTag.integer || issuer?.tag !== derTag.sequence || subject?.tag !== derTag.sequence) return null;
  const text = ({ content }: DerElement) => content.toString("latin1");
  return { issuer: text(issuer), subject: text(subject), serial: serial.content.toString("hex") };
}

function parseList(der: Buffer): { readonly issuer: string; readonly list: RevocationList } | null {
  const fields = tbsFields(der);
  if (!fields) return null;
  // The version is there in all lists but the oldest.
  const at = fields[0]?.tag === derTag.integer ? 1 : 0;
  const [algorithm, issuer, thisUpdate, next, ...rest] = fields.slice(at);
  if (algorithm?.tag !== derTag.sequence || issuer?.tag !== derTag.sequence || !thisUpdate) return null;
  const hasNext = next?.tag === derTag.utcTime || next?.tag === derTag.generalizedTime;
  const revoked = (hasNext ? rest : [next, ...rest])[0];
  const thisUpdateMs = timeOf(thisUpdate);
  const nextUpdateMs = hasNext ? timeOf(next) : Number.POSITIVE_INFINITY;
  const serials = revoked?.tag === derTag.sequence ? serialsOf(revoked.content) : new Set<string>();
  if (serials === null || Number.isNaN(thisUpdateMs) || Number.isNaN(nextUpdateMs)) return null;
  return { issuer: issuer.content.toString("latin1"), list: { serials, thisUpdateMs, nextUpdateMs } };
}

function serialsOf(entries: Buffer): Set<string> | null {
  const serials = new Set<string>();
  for (let at = 0; at < entries.length; ) {
    const entry = readDer(entries, at);
    const serial = entry && readDer(entry.content, 0);
    if (!serial || serial.tag !== derTag.integer) return null;
    serials.add(serial.content.toString("hex"));
    at = entry.end;
  }
  return serials;
}

/** The fields of what is signed: the first of (signed, algorithm, signature). */
function tbsFields(der: Buffer): DerElement[] | null {
  const outer = readDer(der, 0);
  if (outer?.tag !== derTag.sequence || outer.end !== der.length) return null;
  const parts = readDerList(outer.content);
  if (parts?.length !== 3 || parts[0]!.tag !== derTag.sequence || parts[2]!.tag !== derTag.bitString) return null;
  return readDerList(parts[0]!.content);
}

/** `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`; NaN for anything else. */
function timeOf({ tag, content }: DerElement): number {
  const text = content.toString("latin1");
  const match = /^(\d{2})?(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/.exec(text);
  if (!match || (tag === derTag.utcTime) !== (match[1] === undefined)) return Number.NaN;
  const [century, year, month, day, hour, minute, second] = match.slice(1).map((part) => (part === undefined ? undefined : Number(part)));
  const full = (century ?? (year! < 50 ? 20 : 19)) * 100 + year!;
  return Date.UTC(full, month! - 1, day, hour, minute, second);
}

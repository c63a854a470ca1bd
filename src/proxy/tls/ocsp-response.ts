/**
 * OCSP responses that are stapled to a certificate (RFC 6960 4.2.1), judged as Envoy does: good form, of one certificate alone, and that by
 * its serial number. Nobody checks the signature: the response comes from where the key does, and the client checks it.
 */
import { ConfigError } from "../../api/config-error.ts";
import { type DerElement, derTag, readDer, readDerList } from "../../lib/der.ts";

export interface OcspResponse {
  readonly der: Buffer;
  /** As the certificate has it, hex in lower case without leading zeros. */
  readonly serialNumber: string;
  /** null: none was given, which counts as expired. */
  readonly nextUpdateEpochMs: number | null;
}

const basicResponse = Buffer.from("2b0601050507300101", "hex"); // id-pkix-ocsp-basic, 1.3.6.1.5.5.7.48.1.1
const explicit = (number: number) => 0xa0 | number;

/** Throws ConfigError in Envoy's words. */
export function parseOcspResponse(der: Buffer): OcspResponse {
  const outer = readDer(der, 0);
  // Envoy says so of anything that is not one response from end to end.
  if (outer?.tag !== derTag.sequence || outer.end !== der.length) throw new ConfigError("Data contained more than a single OCSP response");
  const [status, bytes] = list(outer.content, "OCSP Response is not a well-formed ASN.1 SEQUENCE");
  element(status, derTag.enumerated, "OCSP ResponseStatus is not a well-formed ASN.1 ENUMERATED");
  if (status!.content[0] !== 0) throw new ConfigError("OCSP response was unsuccessful");
  if (bytes === undefined) throw new ConfigError("OCSP response has no body");
  const singles = singleResponses(bytes);
  if (singles.length !== 1) throw new ConfigError("OCSP Response must be for one certificate only");
  return { der, ...readSingle(singles[0]!) };
}

/** OCSPResponse.responseBytes -> BasicOCSPResponse.tbsResponseData.responses */
function singleResponses(bytes: DerElement): DerElement[] {
  const body = element(readDer(bytes.content, 0), derTag.sequence, "OCSP ResponseBytes is not a well-formed SEQUENCE");
  const [type, response] = list(body.content, "OCSP ResponseBytes is not a well-formed SEQUENCE");
  if (type?.tag !== derTag.objectIdentifier || !type.content.equals(basicResponse)) throw new ConfigError("Unknown OCSP Response type");
  element(response, derTag.octetString, "Expected ASN.1 OCTETSTRING for response");
  const basic = element(readDer(response!.content, 0), derTag.sequence, "OCSP BasicOCSPResponse is not a well-formed ASN.1 SEQUENCE");
  const [data] = list(basic.content, "OCSP BasicOCSPResponse is not a well-formed ASN.1 SEQUENCE");
  const problem = "OCSP ResponseData is not a well-formed ASN.1 SEQUENCE";
  const fields = list(element(data, derTag.sequence, problem).content, problem);
  // version [0] is left out for the only one there is.
  if (fields[0]?.tag === explicit(0)) fields.shift();
  const [, , responses] = fields;
  return list(element(responses, derTag.sequence, problem).content, problem);
}

/** SingleResponse: certID, certStatus, thisUpdate, nextUpdate [0]; certID: hashAlgorithm, issuerNameHash, issuerKeyHash, serialNumber */
function readSingle(single: DerElement): Pick<OcspResponse, "serialNumber" | "nextUpdateEpochMs"> {
  const problem = "OCSP SingleResponse is not a well-formed ASN.1 SEQUENCE";
  const [id, , thisUpdate, nextUpdate] = list(element(single, derTag.sequence, problem).content, problem);
  const [, , , serial] = list(element(id, derTag.sequence, "OCSP CertID is not a well-formed ASN.1 SEQUENCE").content, problem);
  element(serial, derTag.integer, "OCSP CertID is not a well-formed ASN.1 SEQUENCE");
  element(thisUpdate, derTag.generalizedTime, problem);
  const next = nextUpdate?.tag === explicit(0) ? readDer(nextUpdate.content, 0) : null;
  return {
    serialNumber: serial!.content.toString("hex").replace(/^0+/, ""),
    nextUpdateEpochMs: next === null ? null : generalizedTime(element(next, derTag.generalizedTime, problem).content),
  };
}

/** `20261124120000Z`: RFC 6960 has neither fractions nor other zones. */
function generalizedTime(content: Buffer): number {
  const match = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(content.toString("latin1"));
  if (match === null) throw new ConfigError("Input is not a well-formed ASN.1 GENERALIZEDTIME");
  const [year, month, day, hour, minute, second] = match.slice(1).map(Number) as [number, number, number, number, number, number];
  return Date.UTC(year, month - 1, day, hour, minute, second);
}

function element(found: DerElement | null | undefined, tag: number, problem: string): DerElement {
  if (found?.tag !== tag) throw new ConfigError(problem);
  return found;
}

function list(content: Buffer, problem: string): DerElement[] {
  const elements = readDerList(content);
  if (elements === null) throw new ConfigError(problem);
  return elements;
}

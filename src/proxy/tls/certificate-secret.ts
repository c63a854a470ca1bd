/** A TlsCertificate: chain, key, and the OCSP response that goes with it. */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { ConfigError } from "../../api/config-error.ts";
import type { TlsCertificate } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { readDataSource } from "../data-source.ts";
import type { Choosable, KeyKind } from "./certificate-choice.ts";
import { type OcspResponse, parseOcspResponse } from "./ocsp-response.ts";

/** Parsed as far as it is asked for. */
export class CertificateSecret implements Choosable {
  readonly kind = "certificate";
  /** PEM, the leaf first. */
  readonly chain: Buffer;
  /** PEM. Never logged. */
  readonly privateKey: Buffer;
  readonly passphrase: string | null;
  readonly staple: OcspResponse | null;
  #leaf: X509Certificate | null = null;
  #dnsNames: readonly string[] | null = null;

  constructor(chain: Buffer, privateKey: Buffer, passphrase: string | null, staple: OcspResponse | null) {
    this.chain = chain;
    this.privateKey = privateKey;
    this.passphrase = passphrase;
    this.staple = staple;
  }

  get leaf(): X509Certificate {
    this.#leaf ??= new X509Certificate(this.chain);
    return this.#leaf;
  }

  get dnsNames(): readonly string[] {
    this.#dnsNames ??= namesOf(this.leaf);
    return this.#dnsNames;
  }

  get keyKind(): KeyKind {
    const { asymmetricKeyType, asymmetricKeyDetails } = this.leaf.publicKey;
    if (asymmetricKeyType === "rsa") return "rsa";
    const curve = asymmetricKeyDetails?.namedCurve;
    return curve === "prime256v1" || curve === "secp384r1" || curve === "secp521r1" ? curve : "other";
  }

  /** Says of itself that it must not be shown without an OCSP response (RFC 7633). */
  get mustStaple(): boolean {
    return this.leaf.raw.includes(mustStapleFeature) || this.leaf.raw.includes(criticalMustStapleFeature);
  }

  /** What a name-based choice of sessions goes by: names and who says so. */
  get identity(): string {
    const { subject, subjectAltName, issuer } = this.leaf;
    return JSON.stringify([/^CN=(.*)$/m.exec(subject ?? "")?.[1] ?? null, subjectAltName ?? null, issuer]);
  }
}

// The extension's object identifier, [critical,] an octet string with SEQUENCE { INTEGER 5 }, which is status_request.
const mustStapleFeature = Buffer.from("06082b06010505070118" + "0405" + "3003020105", "hex");
const criticalMustStapleFeature = Buffer.from("06082b06010505070118" + "0101ff" + "0405" + "3003020105", "hex");

/** The common name counts only where there is no list of names. */
function namesOf(leaf: X509Certificate): string[] {
  if (leaf.subjectAltName !== undefined) {
    return [...leaf.subjectAltName.matchAll(/DNS:([^,\s]+)/g)].map((match) => match[1]!.toLowerCase());
  }
  const common = /^CN=(.*)$/m.exec(leaf.subject)?.[1];
  return common === undefined ? [] : [common.toLowerCase()];
}

/** Reads without asking whether OpenSSL likes it. Throws ConfigError where something is missing. */
export function readCertificate(message: TlsCertificate): CertificateSecret {
  const chain = readDataSource(message.certificateChain);
  const privateKey = readDataSource(message.privateKey);
  if (message.privateKeyProvider !== undefined) throw new ConfigError("private_key_provider is not supported by this proxy");
  if (chain === null || chain.length === 0)
    throw new ConfigError("Failed to load incomplete certificate from <inline>: certificate chain not set");
  if (privateKey === null || privateKey.length === 0) {
    throw new ConfigError("Failed to load incomplete private key from path: <inline>");
  }
  if (message.ocspStaple?.specifier.case === "inlineString") throw new ConfigError("OCSP staple cannot be provided via inline_string");
  const staple = readDataSource(message.ocspStaple);
  return new CertificateSecret(
    chain,
    privateKey,
    readDataSource(message.password)?.toString("utf8") ?? null,
    staple === null || staple.length === 0 ? null : parseOcspResponse(staple),
  );
}

/** Throws ConfigError, in Envoy's words, for what can't be used. */
export function compileCertificate(message: TlsCertificate): CertificateSecret {
  const secret = readCertificate(message);
  const { staple } = secret;
  checkChain(secret);
  checkPrivateKey(secret);
  if (staple === null && secret.mustStaple) throw new ConfigError("OCSP response is required for must-staple certificate");
  if (staple !== null && staple.serialNumber !== secret.leaf.serialNumber.toLowerCase().replace(/^0+/, "")) {
    throw new ConfigError("OCSP response does not match its TLS certificate");
  }
  return secret;
}

const certificateBlock = /-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----[^-]+-----END/g;

/** Without making one of OpenSSL's contexts: that takes ten times as long, and there may be ten thousand certificates. */
function checkChain(secret: CertificateSecret): void {
  const problem = "Failed to load certificate chain from <inline>";
  try {
    const [, ...others] = secret.chain.latin1Slice().match(certificateBlock) ?? [];
    for (const other of others) new X509Certificate(`${other} CERTIFICATE-----`);
    void secret.leaf;
  } catch (cause) {
    throw new ConfigError(problem, { cause });
  }
  const { asymmetricKeyDetails } = secret.leaf.publicKey;
  if (secret.keyKind === "rsa" && (asymmetricKeyDetails?.modulusLength ?? 0) < 2048) {
    throw new ConfigError(`${problem}, only RSA certificates with 2048-bit or larger keys are supported`);
  }
  if (secret.keyKind === "other" && secret.leaf.publicKey.asymmetricKeyType === "ec") {
    throw new ConfigError(`${problem}, only P-256, P-384 or P-521 ECDSA certificates are supported`);
  }
}

function checkPrivateKey({ leaf, privateKey, passphrase }: CertificateSecret): void {
  const problem = "Failed to load private key from <inline>";
  let key: KeyObject;
  try {
    key = createPrivateKey({ key: privateKey, ...(passphrase === null ? {} : { passphrase }) });
  } catch (cause) {
    throw new ConfigError(problem, { cause });
  }
  if (!leaf.checkPrivateKey(key)) throw new ConfigError(`${problem}, Cause: key values mismatch`);
}

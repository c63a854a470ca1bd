/** The certificates that listeners and clusters use, own and trusted. */
import { X509Certificate } from "node:crypto";
import type { JsonObject } from "@bufbuild/protobuf";
import { jsonText } from "../../api/envoy/write-json.ts";
import type { DataSource } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import type { Secret } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { subjectAltNames } from "../accesslog/certificate-fields.ts";
import type { CertificateSources } from "../config/certificate-sources.ts";
import { readDataSource } from "../data-source.ts";
import type { ProxyServer } from "../server.ts";
import type { AdminHandler } from "./admin-handler.ts";

const dayMs = 86_400_000;

export const certs: AdminHandler = {
  path: "/certs",
  help: "print certs on machine",
  handle(server) {
    const sources = [...server.listeners.certificates(), ...server.clusters.certificates()];
    const certificates = groupsOf(server, sources).map(({ ca, chain }) => ({
      ca_cert: ca.map(certificateJson),
      cert_chain: chain.map(certificateJson),
    }));
    return { type: "json", body: jsonText({ certificates }) };
  },
};

interface ShownCertificate {
  /** The file, or `<inline>`. */
  readonly path: string;
  readonly certificate: X509Certificate;
}

interface CertificateGroup {
  readonly ca: readonly ShownCertificate[];
  readonly chain: readonly ShownCertificate[];
}

/** Days until the first certificate in use expires; 0 when there is none, as Envoy's gauge says. */
export function daysUntilExpiry(server: ProxyServer): number {
  const sources = new Set([...server.listeners.certificates(), ...server.clusters.distinctCertificates()]);
  const ends = groupsOf(server, sources).flatMap(({ ca, chain }) =>
    [...ca, ...chain].map(({ certificate }) => Date.parse(certificate.validTo)),
  );
  return ends.length === 0 ? 0 : Math.max(0, Math.floor((Math.min(...ends) - Date.now()) / dayMs));
}

function groupsOf(server: ProxyServer, all: Iterable<CertificateSources>): CertificateGroup[] {
  const secrets = new Map<string, Secret>([
    ...server.staticSecrets.map((secret) => [secret.name, secret] as const),
    ...server.secrets.list().map((secret) => [secret.name, secret.decode()] as const),
  ]);
  const groups = [...all].flatMap((sources): CertificateGroup[] => {
    const ca = read(trustedCaOf(sources, secrets));
    const chains = sources.chains.map((chain) => (typeof chain === "string" ? chainOf(secrets.get(chain)) : chain));
    return chains.length === 0 ? [{ ca, chain: [] }] : chains.map((source) => ({ ca, chain: read(source) }));
  });
  return groups.filter(({ ca, chain }) => ca.length + chain.length > 0);
}

function chainOf(secret: Secret | undefined): DataSource | undefined {
  return secret?.type.case === "tlsCertificate" ? secret.type.value.certificateChain : undefined;
}

function trustedCaOf({ trustedCa: { secret, source } }: CertificateSources, secrets: ReadonlyMap<string, Secret>): DataSource | undefined {
  const type = secret === undefined ? undefined : secrets.get(secret)?.type;
  return (type?.case === "validationContext" ? type.value.trustedCa : undefined) ?? source;
}

function read(source: DataSource | undefined): ShownCertificate[] {
  if (!source) return [];
  const path = source.specifier.case === "filename" ? source.specifier.value : "<inline>";
  try {
    const pem = readDataSource(source)?.toString("latin1") ?? "";
    const blocks = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
    return blocks.map((block) => ({ path, certificate: new X509Certificate(block) }));
  } catch {
    return []; // a file that is gone since: the workers have what it held
  }
}

function certificateJson({ path, certificate }: ShownCertificate): JsonObject {
  const kinds: Record<string, string> = { DNS: "dns", URI: "uri", "IP Address": "ip_address", email: "email" };
  const sans = subjectAltNames(certificate.subjectAltName ?? "").flatMap(([kind, value]) =>
    kinds[kind] ? [{ [kinds[kind]!]: value }] : [],
  );
  const seconds = (text: string) => new Date(text).toISOString().replace(".000Z", "Z");
  return {
    path,
    serial_number: certificate.serialNumber.toLowerCase(),
    subject_alt_names: sans,
    days_until_expiration: String(Math.max(0, Math.floor((Date.parse(certificate.validTo) - Date.now()) / dayMs))),
    valid_from: seconds(certificate.validFrom),
    expiration_time: seconds(certificate.validTo),
  };
}

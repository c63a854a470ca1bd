/** The certificates that listeners and clusters use, own and trusted. */
import { X509Certificate } from "node:crypto";
import type { JsonObject } from "@bufbuild/protobuf";
import { jsonText } from "../../api/envoy/write-json.ts";
import { ClusterSchema } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { DataSource } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { ListenerSchema } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import type { Secret } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import type { CommonTlsContext } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { subjectAltNames } from "../accesslog/certificate-fields.ts";
import { decodeCluster } from "../config/cluster-record.ts";
import { findReferences } from "../config/references.ts";
import { readDataSource } from "../data-source.ts";
import type { ProxyServer } from "../server.ts";
import type { AdminHandler } from "./admin-handler.ts";

const dayMs = 86_400_000;

export const certs: AdminHandler = {
  path: "/certs",
  help: "print certs on machine",
  handle(server) {
    const certificates = certificatesInUse(server).map(({ ca, chain }) => ({
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
  const ends = certificatesInUse(server).flatMap(({ ca, chain }) =>
    [...ca, ...chain].map(({ certificate }) => Date.parse(certificate.validTo)),
  );
  return ends.length === 0 ? 0 : Math.max(0, Math.floor((Math.min(...ends) - Date.now()) / dayMs));
}

function certificatesInUse(server: ProxyServer): CertificateGroup[] {
  const secrets = new Map<string, Secret>([
    ...server.staticSecrets.map((secret) => [secret.name, secret] as const),
    ...server.secrets.list().map((secret) => [secret.name, secret.decode()] as const),
  ]);
  const contexts = [
    ...server.listeners.list().active.flatMap(({ message }) => findReferences(ListenerSchema, message).tlsContexts),
    ...server.clusters
      .list()
      .active.filter(({ speaksTls }) => speaksTls)
      .flatMap((record) => findReferences(ClusterSchema, decodeCluster(record)).tlsContexts),
  ];
  const groups = contexts.flatMap((context) => groupsOf(context, secrets));
  return groups.filter(({ ca, chain }) => ca.length + chain.length > 0);
}

function groupsOf(context: CommonTlsContext, secrets: ReadonlyMap<string, Secret>): CertificateGroup[] {
  const ca = trustedCaOf(context, secrets).flatMap(read);
  const chains = [
    ...context.tlsCertificates.map(({ certificateChain }) => certificateChain),
    ...context.tlsCertificateSdsSecretConfigs.map(({ name }) => {
      const type = secrets.get(name)?.type;
      return type?.case === "tlsCertificate" ? type.value.certificateChain : undefined;
    }),
  ];
  if (chains.length === 0) return [{ ca, chain: [] }];
  return chains.map((source) => ({ ca, chain: read(source) }));
}

function trustedCaOf({ validationContextType: type }: CommonTlsContext, secrets: ReadonlyMap<string, Secret>): (DataSource | undefined)[] {
  const ofSecret = (name: string | undefined) => {
    const secret = name === undefined ? undefined : secrets.get(name)?.type;
    return secret?.case === "validationContext" ? secret.value.trustedCa : undefined;
  };
  switch (type.case) {
    case "validationContext":
      return [type.value.trustedCa];
    case "validationContextSdsSecretConfig":
      return [ofSecret(type.value.name)];
    case "combinedValidationContext":
      return [ofSecret(type.value.validationContextSdsSecretConfig?.name) ?? type.value.defaultValidationContext?.trustedCa];
    default:
      return [];
  }
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

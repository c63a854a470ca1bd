import { bool, enumeration, type Infer, list, map, message, optional, string, uint32 } from "../schema/schema.ts";
import { defineIstioKind } from "./kind.ts";

const portSchema = message("Port", {
  number: uint32(),
  protocol: string(),
  name: string(),
  targetPort: uint32(),
});
export type Port = Infer<typeof portSchema>;

const serverTLSSettingsModeSchema = enumeration("PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL");
export type ServerTLSSettingsMode = Infer<typeof serverTLSSettingsModeSchema>;

const tlsCertificateSchema = message("TLSCertificate", {
  serverCertificate: string(),
  privateKey: string(),
  caCertificates: string(),
});
export type TLSCertificate = Infer<typeof tlsCertificateSchema>;

const serverTLSSettingsTLSProtocolSchema = enumeration("TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3");
export type ServerTLSSettingsTLSProtocol = Infer<typeof serverTLSSettingsTLSProtocolSchema>;

export const serverTLSSettingsSchema = message("ServerTLSSettings", {
  httpsRedirect: bool(),
  mode: serverTLSSettingsModeSchema,
  serverCertificate: string(),
  privateKey: string(),
  caCertificates: string(),
  caCrl: string(),
  credentialName: string(),
  credentialNames: list(string()),
  caCertCredentialName: string(),
  tlsCertificates: list(tlsCertificateSchema),
  subjectAltNames: list(string()),
  verifyCertificateSpki: list(string()),
  verifyCertificateHash: list(string()),
  minProtocolVersion: serverTLSSettingsTLSProtocolSchema,
  maxProtocolVersion: serverTLSSettingsTLSProtocolSchema,
  cipherSuites: list(string()),
  ecdhCurves: list(string()),
  insecureSkipVerify: optional(bool()),
});
export type ServerTLSSettings = Infer<typeof serverTLSSettingsSchema>;

const serverSchema = message("Server", {
  port: portSchema,
  bind: string(),
  hosts: list(string()),
  tls: serverTLSSettingsSchema,
  defaultEndpoint: string(),
  name: string(),
});
export type Server = Infer<typeof serverSchema>;

const gatewaySchema = message("Gateway", {
  servers: list(serverSchema),
  selector: map(string()),
});
export type Gateway = Infer<typeof gatewaySchema>;

export const gateway = defineIstioKind({
  kind: "Gateway",
  group: "networking.istio.io",
  versions: ["v1", "v1beta1", "v1alpha3"],
  plural: "gateways",
  shortNames: ["gw"],
  schema: gatewaySchema,
});

import { isCipherSuite } from "../cipher-suites.ts";
import type { ServerTLSSettings } from "../kinds/gateway.ts";
import type { FieldReport } from "../schema/field-report.ts";

const certificateFields = [
  "serverCertificate",
  "privateKey",
  "caCertificates",
  "tlsCertificates",
  "credentialName",
  "credentialNames",
] as const;

export function checkServerTls(tls: ServerTLSSettings, report: FieldReport): void {
  checkCiphers(tls, report);
  const isGiven = (field: keyof ServerTLSSettings) => {
    const value = tls[field];
    return Array.isArray(value) ? value.length > 0 : value !== "" && value !== undefined;
  };

  if (tls.mode === "ISTIO_MUTUAL") {
    for (const field of certificateFields) {
      if (isGiven(field)) report.at(field).error("can't be given with ISTIO_MUTUAL, which uses the mesh's certificates");
    }
    return;
  }
  if (tls.mode === "PASSTHROUGH" || tls.mode === "AUTO_PASSTHROUGH") {
    if ([...certificateFields, "caCrl" as const].some(isGiven))
      report.warn(`${tls.mode} terminates no TLS: the certificates are of no use`);
  }

  const sources = [
    tls.serverCertificate !== "" && tls.privateKey !== "",
    isGiven("credentialName"),
    isGiven("credentialNames"),
    isGiven("tlsCertificates"),
  ];
  if (sources.filter(Boolean).length > 1) {
    report.error("only one of credentialName, credentialNames, serverCertificate with privateKey, and tlsCertificates may be given");
  }
  if (tls.mode === "SIMPLE" || tls.mode === "MUTUAL" || tls.mode === "OPTIONAL_MUTUAL") {
    if (!isGiven("credentialName") && !isGiven("credentialNames")) checkCertificateFiles(tls, report);
  }
  if (tls.caCrl !== "") {
    if (isGiven("credentialName")) report.at("caCrl").error("can't be given with credentialName: the list belongs into the credential");
    if (tls.mode === "SIMPLE") report.at("caCrl").error("can't be given with SIMPLE, which asks for no client certificate");
  }
}

function checkCertificateFiles(tls: ServerTLSSettings, report: FieldReport): void {
  if (tls.mode !== "SIMPLE" && tls.caCertificates === "") report.at("caCertificates").error(`is missing: ${tls.mode} checks clients by it`);
  if (tls.tlsCertificates.length > 2) report.at("tlsCertificates").warn("more than two certificates: only the first two are used");
  const certificates =
    tls.tlsCertificates.length > 0
      ? tls.tlsCertificates.map((certificate, index) => ({ certificate, place: report.at("tlsCertificates", index) }))
      : [{ certificate: tls, place: report }];
  for (const { certificate, place } of certificates) {
    if (certificate.serverCertificate === "") place.at("serverCertificate").error(`is missing: ${tls.mode} needs it, or a credentialName`);
    if (certificate.privateKey === "") place.at("privateKey").error(`is missing: ${tls.mode} needs it, or a credentialName`);
  }
}

function checkCiphers(tls: ServerTLSSettings, report: FieldReport): void {
  if ((tls.minProtocolVersion === "TLSV1_0" || tls.minProtocolVersion === "TLSV1_1") && tls.cipherSuites.length === 0) {
    report.at("minProtocolVersion").warn("below TLSV1_2 no default cipher fits: cipherSuites has to name some");
  }
  const seen = new Set<string>();
  for (const [index, suite] of tls.cipherSuites.entries()) {
    const place = report.at("cipherSuites", index);
    if (!isCipherSuite(suite)) place.warn(`${JSON.stringify(suite)} is not a cipher suite and is passed over`);
    else if (seen.has(suite)) place.warn(`${JSON.stringify(suite)} is given twice`);
    seen.add(suite);
  }
}

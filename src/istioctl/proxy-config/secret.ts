/** `istioctl proxy-config secret`: the certificates that a proxy has. Source: Istio istioctl/pkg/writer/compare/sds. */
import { X509Certificate } from "node:crypto";
import type { Command } from "commander";
import { splitCertificates } from "../../lib/pem.ts";
import type { CommandContext } from "../command.ts";
import type { JsonObject } from "../output/json-fields.ts";
import { printDump } from "../output/print-dump.ts";
import { formatTable } from "../output/table.ts";
import { readConfigDump, type SourceOptions, sourceCommand } from "./proxy-source.ts";
import { withoutType } from "./without-type.ts";

const heading = ["RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"];
const padding = 5;

export function secretCommand(context: CommandContext): Command {
  const summary = "Retrieves secret configuration for the Envoy in the specified pod";
  return sourceCommand("secret", ["secrets", "s"], summary).action(async (target: string | undefined, options: SourceOptions) => {
    const dump = await readConfigDump("SecretsConfigDump", "dynamic_active_secrets,dynamic_warming_secrets", target, options, context);
    printDump(options.output, context, { table: () => tableOf(dump), dump: () => withoutType(dump) });
  });
}

function tableOf(dump: JsonObject): string {
  const rows = [...rowsOf(dump.dynamic_warming_secrets, "WARMING"), ...rowsOf(dump.dynamic_active_secrets, "ACTIVE")];
  return rows.length === 0 ? "No active or warming secrets found.\n" : formatTable([heading, ...rows], padding);
}

function rowsOf(entries: unknown, status: string): string[][] {
  return (Array.isArray(entries) ? (entries as JsonObject[]) : []).flatMap((entry) => {
    const certificates = certificatesOf((entry.secret ?? {}) as JsonObject);
    const name = String(entry.name);
    return certificates.length > 0
      ? certificates.map((certificate) => rowOf(name, status, certificate))
      : [[name, "", status, "false", "", "", ""]];
  });
}

function rowOf(name: string, status: string, certificate: X509Certificate): string[] {
  const { validFromDate: from, validToDate: until } = certificate;
  const now = Date.now();
  const isValid = from.getTime() <= now && now <= until.getTime();
  const at = (date: Date) => date.toISOString().replace(".000Z", "Z");
  return [name, certificate.ca ? "CA" : "Cert Chain", status, String(isValid), certificate.serialNumber.toLowerCase(), at(until), at(from)];
}

/** Of a chain the first; of a CA's bundle each. */
function certificatesOf(secret: JsonObject): X509Certificate[] {
  const { tls_certificate: own, validation_context: roots } = secret as unknown as Record<
    string,
    Record<string, { inline_bytes?: string }> | undefined
  >;
  const pemOf = (source: { inline_bytes?: string } | undefined) => Buffer.from(source?.inline_bytes ?? "", "base64").toString("latin1");
  const chain = splitCertificates(pemOf(own?.certificate_chain)).slice(0, 1);
  return [...chain, ...splitCertificates(pemOf(roots?.trusted_ca))].flatMap((pem) => {
    try {
      return [new X509Certificate(pem)];
    } catch {
      return [];
    }
  });
}

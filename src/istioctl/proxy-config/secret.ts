/** `istioctl proxy-config secret`: the certificates that a proxy has. Source: Istio istioctl/pkg/writer/compare/sds. */
import { X509Certificate } from "node:crypto";
import { Command } from "commander";
import { stringify } from "yaml";
import { splitCertificates } from "../../lib/pem.ts";
import { CliError } from "../cli-error.ts";
import type { CommandContext } from "../command.ts";
import { formatTable } from "../output/table.ts";
import { type Json, readConfigDump, type SourceOptions } from "./config-dump-source.ts";

interface Options extends SourceOptions {
  readonly output: string;
}

const heading = ["RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"];
const padding = 5;

export function secretCommand(context: CommandContext): Command {
  return new Command("secret")
    .alias("secrets")
    .alias("s")
    .summary("Retrieves secret configuration of the proxy on this machine")
    .argument("[name]", "workload; needs the Kubernetes-compatible API, which this version does not ask")
    .option("-f, --file <file>", "config dump to read instead of a running proxy; - for standard input")
    .option("-o, --output <format>", "one of 'json', 'yaml' or 'short'", "short")
    .option("--proxy-admin-port <port>", "admin port of the proxy; 127.0.1.1:15000 for one with a loopback address of its own", "15000")
    .action((name: string | undefined, options: Options) => showSecrets(name, options, context));
}

async function showSecrets(name: string | undefined, options: Options, context: CommandContext): Promise<void> {
  if (name !== undefined) {
    throw new CliError(`"${name}": proxies elsewhere can't be asked in this version; without a name the proxy on this machine is`);
  }
  const dump = await readConfigDump("SecretsConfigDump", options, context);
  switch (options.output) {
    case "json":
      context.out(`${JSON.stringify(dump, null, 2)}\n`);
      return;
    case "yaml":
      context.out(stringify(dump));
      return;
    case "short": {
      const rows = [...rowsOf(dump.dynamic_warming_secrets, "WARMING"), ...rowsOf(dump.dynamic_active_secrets, "ACTIVE")];
      context.out(rows.length === 0 ? "No active or warming secrets found.\n" : formatTable([heading, ...rows], padding));
      return;
    }
    default:
      throw new CliError(`output format "${options.output}" not supported`);
  }
}

function rowsOf(entries: unknown, status: string): string[][] {
  return (Array.isArray(entries) ? (entries as Json[]) : []).flatMap((entry) => {
    const certificates = certificatesOf((entry.secret ?? {}) as Json);
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
function certificatesOf(secret: Json): X509Certificate[] {
  const { tls_certificate: own, validation_context: roots } = secret as Record<
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

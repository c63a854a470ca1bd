/**
 * `istioctl validate -f FILE|DIR|-`: the control plane's own checks without a control plane, and two that it doesn't make,
 * for they are no errors to it: names of Services' ports, and the labels that telemetry goes by. All output goes to standard
 * error, as istioctl's does.
 */
import type { Dirent } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { extname, join } from "node:path";
import { Command } from "commander";
import { ConfigError } from "../../api/config-error.ts";
import { decodeDocuments } from "../../api/documents/decode-documents.ts";
import { maxFileBytes, readText, tooLarge } from "../../api/documents/read-text.ts";
import { isKind, type ObjectOf } from "../../api/kinds/index.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import { isKnownProtocol } from "../../api/validation/protocols.ts";
import { CliError } from "../cli-error.ts";
import type { CommandContext, IstioctlCommand } from "../command.ts";

interface ValidateOptions {
  readonly filename: readonly string[];
}

interface Findings {
  readonly errors: string[];
  readonly warnings: string[];
}

export const validate: IstioctlCommand = {
  name: "validate",
  create: (context) =>
    new Command("validate")
      .alias("v")
      .summary("Validate Istio policy and rules files")
      .description("Validate Istio policy and rules files, directories of them, or standard input (-f -).")
      .option("-f, --filename <path>", "files or directories to validate, - for standard input; may be repeated", collect, [])
      .option("-x, --referential <bool>", "taken for compatibility, without effect")
      .action((options: ValidateOptions) => runValidate(options, context)),
};

function collect(value: string, earlier: readonly string[]): string[] {
  return [...earlier, ...value.split(",").filter((path) => path !== "")];
}

async function runValidate({ filename }: ValidateOptions, context: CommandContext): Promise<void> {
  if (filename.length === 0)
    throw new CliError(
      "error: you must specify resources by --filename.\nExample resource specifications include:\n   '-f rsrc.yaml'\n   '--filename=rsrc.json'",
    );
  const results = new Map<string, Findings>();
  const failures: string[] = [];
  for (const path of filename) {
    for (const file of await filesAt(path, failures)) {
      if (!results.has(file)) results.set(file, await validateFile(file, context));
    }
  }
  const errors = [...failures, ...[...results.values()].flatMap((findings) => findings.errors)];
  for (const [file, { warnings }] of results) {
    if (warnings.length > 0) context.err(file === "-" ? bullets(warnings) : `${JSON.stringify(file)} has warnings: ${bullets(warnings)}\n`);
    else if (errors.length === 0) context.err(file === "-" ? "validation succeed\n" : `${JSON.stringify(file)} is valid\n`);
  }
  if (errors.length > 0) throw new CliError(`${errors.length} error${errors.length > 1 ? "s" : ""} occurred:${bullets(errors)}`);
}

/** Go's multierror, which people's eyes and scripts know. */
function bullets(lines: readonly string[]): string {
  return `\n${lines.map((line) => `\t* ${line}\n`).join("")}`;
}

async function filesAt(path: string, failures: string[]): Promise<string[]> {
  if (path === "-") return [path];
  try {
    return (await stat(path)).isDirectory() ? await filesUnder(path) : [path];
  } catch (error) {
    failures.push(`cannot stat file ${JSON.stringify(path)}: ${(error as Error).message}`);
    return [];
  }
}

async function filesUnder(directory: string): Promise<string[]> {
  const isConfiguration = (entry: Dirent) => entry.isFile() && [".json", ".yaml", ".yml"].includes(extname(entry.name));
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter(isConfiguration)
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

async function validateFile(file: string, context: CommandContext): Promise<Findings> {
  let text: string;
  try {
    if (file !== "-") {
      const { size } = await stat(file);
      if (size > maxFileBytes) throw tooLarge(file, size);
    }
    text = readText(file === "-" ? await context.readStdin() : await readFile(file), file);
  } catch (error) {
    const reason =
      error instanceof ConfigError ? error.describe() : `cannot read file ${JSON.stringify(file)}: ${(error as Error).message}`;
    return { errors: [reason], warnings: [] };
  }
  const decoded = decodeDocuments(text, file, { unknownKinds: "pass", defaultNamespace: context.namespace() });
  const findings: Findings = { errors: decoded.errors.map(line), warnings: [] };
  // The rules bring Envoy's types with them, which the other commands of istioctl would wait for.
  const { validate: validateObject } = await import("../../api/validate.ts");
  for (const object of decoded.objects) {
    const result = validateObject(object);
    findings.errors.push(...result.errors.map(line), ...portNameErrors(object, context));
    findings.warnings.push(...result.warnings.map(line));
    remarkOnLabels(object, context);
  }
  return findings;
}

/** `VirtualService/default/reviews: spec.http[0]: has no route (reviews.yaml:12)` */
function line(error: ConfigError): string {
  const object = error.kind ? `${error.kind}/${error.objectNamespace ?? ""}/${error.objectName ?? ""}: ` : "";
  const place = error.position ? ` (${error.position.file === "-" ? "line " : `${error.position.file}:`}${error.position.line})` : "";
  return `${object}${error.field ? `${error.field}: ` : ""}${error.message}${place}`;
}

/** Istio knows a port's protocol by `appProtocol` or by the name's prefix. */
function portNameErrors(object: ConfigObject, context: CommandContext): string[] {
  if (!isKind(object, "Service") || object.metadata.namespace === context.istioNamespace()) return [];
  const service: ObjectOf<"Service"> = object;
  const where = `Service/${service.metadata.namespace}/${service.metadata.name}`;
  return service.spec.ports.flatMap((port, index) => {
    const field = `${where}: spec.ports[${index}]`;
    if (port.protocol.toUpperCase() === "UDP") return [];
    if (port.appProtocol !== undefined) {
      const isKnown = isKnownProtocol(port.appProtocol) || port.appProtocol.startsWith("kubernetes.io/");
      return isKnown ? [] : [`${field}.appProtocol: ${JSON.stringify(port.appProtocol)} is not a protocol that Istio knows`];
    }
    if (port.name === "") return [`${field}.name: is missing: Istio knows the protocol by it, as in "http" or "http-web"`];
    const prefix = port.name.split("-", 1)[0] ?? "";
    const isKnown = isKnownProtocol(prefix) || port.name.startsWith("grpc-web");
    return isKnown ? [] : [`${field}.name: ${JSON.stringify(port.name)} doesn't begin with a protocol, as "http" or "http-web" does`];
  });
}

function remarkOnLabels(object: ConfigObject, context: CommandContext): void {
  if (!isKind(object, "Deployment") || object.metadata.namespace === context.istioNamespace()) return;
  const labels: Record<string, string> = object.spec.template?.metadata?.labels ?? {};
  const hasOne = (...names: string[]) => names.some((name) => labels[name] !== undefined);
  const missing = [
    hasOne("service.istio.io/canonical-name", "app.kubernetes.io/name", "app") ? undefined : "app",
    hasOne("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version") ? undefined : "version",
  ].filter((label) => label !== undefined);
  if (missing.length === 0) return;
  const { namespace, name } = object.metadata;
  context.err(`Deployment/${namespace}/${name} has no label ${missing.join(" and ")}: telemetry goes by them\n`);
}

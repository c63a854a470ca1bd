/**
 * A bootstrap of the user's in the place of ours, and what is laid over either. The first that is named counts:
 *
 *   customConfigFile of the ProxyConfig        ISTIO_BOOTSTRAP        --templateFile, else proxyBootstrapTemplatePath of the ProxyConfig
 *
 * In Istio most of these are Go templates, filled in from the node. Nothing here can run those, so it is plain JSON or YAML: the node, and the
 * admin interface by which the agent looks after its proxy, are filled in where the file has none, and its sockets are at known places.
 * Source: Istio pkg/bootstrap/instance.go, pkg/envoy/proxy.go (readBootstrapToJSON).
 */
import { readFileSync } from "node:fs";
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { ConfigError } from "../api/config-error.ts";
import type { ProxyConfig } from "../api/mesh/proxy-config.ts";
import { type ConfigText, parseConfigText } from "../proxy/config/config-text.ts";
import type { AgentEnvironment } from "./environment.ts";

const maxBytes = 16 * 1024 * 1024;

export interface BootstrapFileOptions {
  readonly environment: Pick<AgentEnvironment, "bootstrapFile" | "bootstrapOverride" | "hostIp">;
  readonly proxyConfig: Pick<ProxyConfig, "customConfigFile" | "proxyBootstrapTemplatePath" | "proxyAdminPort">;
  /** `--templateFile` */
  readonly templateFile: string | undefined;
}

export interface BootstrapFiles {
  readonly own: ConfigText | undefined;
  readonly override: ConfigText | undefined;
}

/** Throws ConfigError with file, line and field. */
export function loadBootstrapFiles({ environment, proxyConfig, templateFile }: BootstrapFileOptions): BootstrapFiles {
  const { customConfigFile, proxyBootstrapTemplatePath, proxyAdminPort } = proxyConfig;
  const { bootstrapFile, bootstrapOverride, hostIp } = environment;
  const file = customConfigFile || bootstrapFile || templateFile || proxyBootstrapTemplatePath;
  const own = file ? loadPlain(file) : undefined;
  if (own) requireAdmin(own, proxyAdminPort);
  return { own, override: bootstrapOverride ? parseConfigText(withHostIp(read(bootstrapOverride), hostIp), bootstrapOverride) : undefined };
}

/** `generated`: ours, whole. The bootstrap, and what is laid over it, as protobuf merges. */
export function bootstrapTexts({ own, override }: BootstrapFiles, generated: Record<string, unknown>): ConfigText[] {
  const json = generated as JsonObject;
  const base = own
    ? { ...own, json: { node: json.node!, admin: json.admin!, ...(own.json as JsonObject) } }
    : { json, locate: () => undefined };
  return override ? [base, override] : [base];
}

function loadPlain(file: string): ConfigText {
  const text = read(file);
  const action = /\{\{[^}\n]*(?:\}\})?/.exec(text);
  if (action) {
    throw new ConfigError(`"${action[0].slice(0, 40)}" is an action of a Go template, which only Istio's agent can run`, {
      position: { file, line: text.slice(0, action.index).split("\n").length },
      hint: "write plain JSON or YAML; node and admin are filled in where it has none",
    });
  }
  return parseConfigText(text, file);
}

/** A proxy whose admin interface is elsewhere is never ready. */
function requireAdmin(text: ConfigText, adminPort: number): void {
  const { admin } = text.json as JsonObject;
  if (admin === undefined || portOf(admin) === adminPort) return;
  throw new ConfigError(`is not port ${adminPort} (proxyAdminPort of the ProxyConfig), by which the agent looks after its proxy`, {
    field: "admin.address",
    position: text.locate(["admin", "address"]),
  });
}

function portOf(admin: JsonValue): JsonValue | undefined {
  const address = field(admin, "address");
  const socket = field(address, "socket_address") ?? field(address, "socketAddress");
  return field(socket, "port_value") ?? field(socket, "portValue");
}

function field(value: JsonValue | undefined, name: string): JsonValue | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value[name] : undefined;
}

/** Tracers on the machine that this one is a guest of. */
function withHostIp(text: string, hostIp: string): string {
  if (!hostIp.includes(":")) return text.replaceAll("$(HOST_IP)", hostIp);
  return text.replaceAll("[$(HOST_IP)]", `[${hostIp}]`).replaceAll("$(HOST_IP)", `[${hostIp}]`);
}

function read(file: string): string {
  try {
    const text = readFileSync(file, "utf8");
    if (text.length <= maxBytes) return text;
  } catch (cause) {
    throw new ConfigError(`${file}: the bootstrap can't be read: ${(cause as NodeJS.ErrnoException).code}`, { cause });
  }
  throw new ConfigError(`${file}: the bootstrap has more than ${maxBytes} bytes`);
}

/** The files of a machine's settings, as they are now. */
import { readFile } from "node:fs/promises";
import { hostname } from "node:os";
import { machineAddresses } from "../machine-addresses.ts";
import { parseEnvironmentFile } from "./environment-file.ts";
import { type MachineDefaults, type MachineEnvironment, MachineError, machineEnvironment } from "./machine-environment.ts";

type Variables = Readonly<Record<string, string | undefined>>;

/** Relative to the service's directory, which is `/`, or a gateway's own. The second overrides the first. */
const settings = [
  { variable: "ISTIO_SIDECAR_CONFIG", file: "./var/lib/istio/envoy/sidecar.env" },
  { variable: "ISTIO_CLUSTER_CONFIG", file: "./var/lib/istio/envoy/cluster.env" },
] as const;

/** Throws EnvironmentFileError for a file that can't be understood, MachineError for one that can't be read. `defaults` hold where nothing else is said. */
export async function loadMachineEnvironment(env: Variables, defaults?: MachineDefaults): Promise<MachineEnvironment> {
  let given: Variables = { ...defaults?.variables, ...env };
  for (const { variable, file } of settings) {
    const path = given[variable] || file;
    given = { ...given, ...parseEnvironmentFile(await readIfThere(path), path, given) };
  }
  const addresses = machineAddresses().map(({ address }) => address);
  return machineEnvironment(given, { hostName: hostname(), addresses }, defaults?.proxyConfig);
}

async function readIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT") return "";
    // Istio goes on without it, and nobody knows why nothing of it holds.
    throw new MachineError(code === "EACCES" ? `${path} can't be read by the user of this service: chown istio-proxy ${path}` : message, {
      cause,
    });
  }
}

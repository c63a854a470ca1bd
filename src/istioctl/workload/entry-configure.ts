/** `istioctl x workload entry configure`: what a machine needs to join, in a directory. Source: Istio istioctl/pkg/workload. */
import { mkdir, readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import { Command } from "commander";
import { parseAllDocuments } from "yaml";
import { decodeObject } from "../../api/documents/decode-object.ts";
import type { ObjectOf } from "../../api/kinds/index.ts";
import {
  clusterEnvFile,
  isRevisioned,
  istiodHost,
  type MachineOptions,
  machineConfig,
  meshFile,
  serviceAccountOf,
} from "../../api/machine/machine-files.ts";
import { isPlainObject } from "../../api/schema/decode.ts";
import { writeTogether } from "../../lib/write-whole.ts";
import { CliError } from "../cli-error.ts";
import type { CommandContext } from "../command.ts";
import { type KubeClient, KubeError, type KubeObject, objectPath } from "../kube/kube-client.ts";
import { parseBoolean } from "../proxy-config/boolean-flag.ts";

interface ConfigureOptions {
  readonly file?: string;
  readonly name?: string;
  readonly namespace?: string;
  readonly output?: string;
  readonly clusterID?: string;
  readonly tokenDuration: string;
  readonly ingressService: string;
  readonly ingressIP?: string;
  readonly autoregister: boolean;
  readonly captureDns: boolean;
  readonly internalIP?: string;
  readonly externalIP?: string;
  readonly revision: string;
}

export function entryConfigureCommand(context: CommandContext): Command {
  return new Command("configure")
    .summary("Generates all the required configuration files for a workload instance running on a VM or non-Kubernetes environment")
    .option("-f, --file <file>", "a WorkloadGroup; else it is read from the API server by --name and --namespace")
    .option("--name <name>", "name of the workload group")
    .option("-n, --namespace <name>", "namespace of the workload group")
    .option("-o, --output <dir>", "directory for the files")
    .option("--clusterID <id>", "identity of the cluster; default: what the control plane says")
    .option("--tokenDuration <seconds>", "how long the token is good", "3600")
    .option("--ingressService <service.namespace>", "gateway by which machines reach the control plane", "istio-eastwestgateway")
    .option("--ingressIP <address>", "address of that gateway")
    .option("--autoregister [bool]", "make a WorkloadEntry when the machine connects", parseBoolean("--autoregister"), false)
    .option("--capture-dns [bool]", "have the agent answer name look-ups", parseBoolean("--capture-dns"), true)
    .option("--internalIP <address>", "address by which the mesh calls the workload")
    .option("--externalIP <address>", "the same, when the machine does not know it")
    .option("-r, --revision <name>", "control plane revision", "")
    .action((options: ConfigureOptions) => configure(options, context));
}

async function configure(options: ConfigureOptions, context: CommandContext): Promise<void> {
  const namespace = options.namespace ?? context.namespaceFlag();
  if (options.internalIP && options.externalIP) throw new CliError("the flags --internalIP and --externalIP are mutually exclusive");
  if (!options.file && (!options.name || !namespace))
    throw new CliError("expecting a WorkloadGroup artifact file or the name and namespace of an existing WorkloadGroup");
  if (!options.output) throw new CliError("expecting an output directory");
  if (!/^\d{1,9}$/.test(options.tokenDuration))
    throw new CliError(`--tokenDuration: "${options.tokenDuration}" is no number of seconds`, { exitCode: 64 });
  for (const [flag, address] of [
    ["--internalIP", options.internalIP],
    ["--externalIP", options.externalIP],
  ] as const)
    if (address && isIP(address) === 0) throw new CliError(`${flag}: "${address}" is no IP address`, { exitCode: 64 });

  const kube = await context.kube();
  const group = options.file ? await readGroup(options.file) : await fetchGroup(kube, namespace!, options.name!);
  const istioNamespace = context.istioNamespace();
  const suffix = isRevisioned(options.revision) ? `-${options.revision}` : "";
  const clusterId = options.clusterID ?? (await fetchClusterId(kube, istioNamespace, `istio-sidecar-injector${suffix}`));
  const machine: MachineOptions = {
    group,
    meshYaml: await fetchConfigMap(kube, istioNamespace, `istio${suffix}`, "mesh"),
    istioNamespace,
    revision: options.revision,
    clusterId,
    registers: options.autoregister,
    capturesDns: options.captureDns,
    internalIp: options.internalIP,
    externalIp: options.externalIP,
  };
  const config = machineConfig(machine);
  const root = await fetchConfigMap(kube, group.metadata.namespace, "istio-ca-root-cert", "root-cert.pem");
  const token = await createToken(kube, group, Number(options.tokenDuration));
  const hosts = await hostsFile(kube, options, machine, context);

  // Everything is known before the first file is written. The token is a password: Istio leaves it for everybody to read, and so may be a file that is replaced.
  const directory = options.output;
  const file = (name: string, content: string, mode = 0o644) => ({ path: join(directory, name), content, mode });
  try {
    await mkdir(directory, { recursive: true });
    await writeTogether([
      file("mesh.yaml", meshFile(config)),
      file("cluster.env", clusterEnvFile(machine, config)),
      file("root-cert.pem", root),
      file("istio-token", token, 0o600),
      file("hosts", hosts),
    ]);
  } catch (cause) {
    throw new CliError(`--output: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  context.err(
    `Warning: a security token for namespace ${JSON.stringify(group.metadata.namespace)} and service account ${JSON.stringify(serviceAccountOf(group))} has been generated and stored at ${JSON.stringify(join(directory, "istio-token"))}\n`,
  );
  context.out(`Configuration generation into directory ${directory} was successful\n`);
}

/** A file need not say its apiVersion. */
async function readGroup(file: string): Promise<ObjectOf<"WorkloadGroup">> {
  let raw: unknown;
  try {
    // The first document that says anything: what kubectl takes may hold several.
    const documents = parseAllDocuments(await readFile(file, "utf8"));
    const [error] = documents.flatMap(({ errors }) => errors);
    if (error) throw error;
    raw = documents.map((document) => document.toJS() as unknown).find((document) => document !== null);
  } catch (cause) {
    throw new CliError(`${file}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  if (!isPlainObject(raw) || (raw.kind !== undefined && raw.kind !== "WorkloadGroup")) throw new CliError(`${file}: is no WorkloadGroup`);
  return decodeGroup({ apiVersion: "networking.istio.io/v1", kind: "WorkloadGroup", ...raw }, file);
}

async function fetchGroup(kube: KubeClient, namespace: string, name: string): Promise<ObjectOf<"WorkloadGroup">> {
  const path = objectPath("networking.istio.io/v1", namespace, "workloadgroups", name);
  return decodeGroup(
    await orExplain(kube.get(path), `workloadgroup ${name} not found in namespace ${namespace}`),
    `WorkloadGroup ${namespace}/${name}`,
  );
}

function decodeGroup(raw: KubeObject, source: string): ObjectOf<"WorkloadGroup"> {
  const { object, errors } = decodeObject(raw);
  if (!object) throw new CliError(`${source}: ${errors[0]?.describe() ?? "is no WorkloadGroup"}`);
  return object as ObjectOf<"WorkloadGroup">;
}

async function fetchConfigMap(kube: KubeClient, namespace: string, name: string, key: string): Promise<string> {
  const map = await orExplain(
    kube.get(objectPath("v1", namespace, "configmaps", name)),
    `configmap ${name} was not found in namespace ${namespace}`,
  );
  const value = isPlainObject(map.data) ? map.data[key] : undefined;
  return typeof value === "string" ? value : "";
}

async function fetchClusterId(kube: KubeClient, namespace: string, name: string): Promise<string> {
  const failed = "failed to automatically determine the --clusterID";
  const map = await orExplain(kube.get(objectPath("v1", namespace, "configmaps", name)), failed);
  let values: unknown;
  try {
    values = JSON.parse(String((isPlainObject(map.data) ? map.data.values : undefined) ?? "{}"));
  } catch (cause) {
    throw new CliError(`${failed}: configmap ${name} holds no JSON`, { cause });
  }
  const clusterName = ["global", "multiCluster", "clusterName"].reduce<unknown>(
    (at, field) => (isPlainObject(at) ? at[field] : undefined),
    values,
  );
  return typeof clusterName === "string" ? clusterName : "";
}

async function createToken(kube: KubeClient, group: ObjectOf<"WorkloadGroup">, seconds: number): Promise<string> {
  const account = serviceAccountOf(group);
  const { namespace } = group.metadata;
  const request = {
    apiVersion: "authentication.k8s.io/v1",
    kind: "TokenRequest",
    spec: { audiences: ["istio-ca"], expirationSeconds: seconds },
  };
  const failed = `could not create a token under service account ${account} in namespace ${namespace}`;
  const answer = await orExplain(kube.post(objectPath("v1", namespace, "serviceaccounts", account, "token"), request), failed);
  const token = isPlainObject(answer.status) ? answer.status.token : undefined;
  if (typeof token !== "string") throw new CliError(`${failed}: the answer has none`);
  return token;
}

/** A line for /etc/hosts: nothing else knows the control plane's name before the agent runs. Empty when no address is known. */
async function hostsFile(kube: KubeClient, options: ConfigureOptions, machine: MachineOptions, context: CommandContext): Promise<string> {
  const host = istiodHost(machine.istioNamespace, machine.revision);
  const address =
    isIP(options.ingressIP ?? "") !== 0
      ? options.ingressIP
      : await fetchIngressAddress(kube, options.ingressService, machine.istioNamespace);
  if (address) return `${address} ${host}\n`;
  context.err(
    `Warning: no address of the gateway to ${host} is known: name it with --ingressIP, or the machine will not find the control plane\n`,
  );
  return "";
}

async function fetchIngressAddress(kube: KubeClient, service: string, istioNamespace: string): Promise<string | undefined> {
  const [name = "", namespace = istioNamespace] = service.split(".");
  let found: KubeObject;
  try {
    found = await kube.get(objectPath("v1", namespace, "services", name));
  } catch (error) {
    if (error instanceof KubeError) return undefined;
    throw error;
  }
  const balancer = isPlainObject(found.status) && isPlainObject(found.status.loadBalancer) ? found.status.loadBalancer.ingress : undefined;
  const addresses =
    Array.isArray(balancer) && balancer.length > 0 ? balancer.map((one: unknown) => (isPlainObject(one) ? one.ip : undefined)) : [];
  const external = isPlainObject(found.spec) && Array.isArray(found.spec.externalIPs) ? found.spec.externalIPs : [];
  const [first] = addresses.length > 0 ? addresses : external;
  return typeof first === "string" && isIP(first) !== 0 ? first : undefined;
}

async function orExplain(call: Promise<KubeObject>, what: string): Promise<KubeObject> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof KubeError) throw new CliError(`${what}: ${error.message}`, { cause: error });
    throw error;
  }
}

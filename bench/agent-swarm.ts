/**
 * Many machines' agents in one process, as far as a control plane can tell: each with a key of its own, a certificate had for a token, and a
 * delta stream by that certificate, over connections of its own, on which it registers itself and takes clusters, endpoints, listeners and
 * routes. Told to begin by SIGUSR2; the token comes by SWARM_TOKEN, the rest of the task by the command line.
 */
import { createSecureContext, type SecureContext } from "node:tls";
import { create, fromBinary, type JsonObject, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { makeCertificateRequest } from "../src/agent/certificates/certificate-request.ts";
import { DeltaDiscoveryRequestSchema, DeltaDiscoveryResponseSchema } from "../src/api/gen/envoy/service/discovery/v3/discovery_pb.js";
import { IstioCertificateRequestSchema, IstioCertificateResponseSchema } from "../src/api/gen/istio/v1/auth/ca_pb.js";
import { typeUrls } from "../src/api/type-urls.ts";
import { LightGrpc } from "./light-grpc.ts";

export interface SwarmTask {
  /** `127.0.0.1:15012` */
  readonly target: string;
  /** PEM. */
  readonly root: string;
  readonly token: string;
  /** Number of the first agent; others' are in other processes. */
  readonly first: number;
  readonly agents: number;
}

export interface SwarmReport {
  /** From each agent's call to its certificate. */
  readonly certificateMs: readonly number[];
  /** From each agent's stream to clusters and listeners. */
  readonly configuredMs: readonly number[];
  readonly failures: number;
}

const serverName = "istiod.istio-system.svc";
const account = "swarm";
let failures = 0;

/** Agents come again, and so do these. */
async function untilDone<T>(attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      failures++;
      if (failures < 10) process.stderr.write(`${(error as Error).message}\n`);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

/** An agent that has all that it can have without its control plane: a key, its request, and what it connects by. */
interface Prepared {
  readonly csr: string;
  readonly privateKey: string;
  readonly secureContext: SecureContext;
}

async function prepare({ root, agents }: SwarmTask): Promise<Prepared[]> {
  const identity = `spiffe://cluster.local/ns/default/sa/${account}`;
  const prepared: Prepared[] = [];
  for (let index = 0; index < agents; index++) {
    const { csr, privateKey } = await makeCertificateRequest(identity, { type: "ec", curve: "P-256" });
    prepared.push({ csr, privateKey, secureContext: createSecureContext({ ca: root }) });
  }
  return prepared;
}

async function certificateFor({ target, token }: SwarmTask, { csr, secureContext }: Prepared): Promise<string> {
  using connection = new LightGrpc({ target, secureContext, serverName });
  const request = toBinary(IstioCertificateRequestSchema, create(IstioCertificateRequestSchema, { csr, validityDuration: 86_400n }));
  const path = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
  const { certChain } = fromBinary(
    IstioCertificateResponseSchema,
    await connection.unary(path, request, { authorization: `Bearer ${token}` }),
  );
  return certChain.slice(0, -1).join("");
}

/** Resolves when clusters and listeners are there; the stream stays. */
function configure(task: SwarmTask, index: number, chain: string, { privateKey, secureContext }: Prepared): Promise<void> {
  const address = `10.88.${index >> 8}.${index & 255}`;
  const metadata: JsonObject = {
    NAME: `vm-${index}`,
    NAMESPACE: "default",
    SERVICE_ACCOUNT: account,
    INSTANCE_IPS: address,
    AUTO_REGISTER_GROUP: account,
    CLUSTER_ID: "Kubernetes",
    LABELS: { app: account },
  };
  const node = { id: `sidecar~${address}~vm-${index}.default~default.svc.cluster.local`, metadata };
  // To make another one for it would take as long as the handshake.
  secureContext.context.setCert(chain);
  secureContext.context.setKey(privateKey);
  const connection = new LightGrpc({ target: task.target, secureContext, serverName });
  const missing = new Set<string>([typeUrls.cds, typeUrls.lds]);
  return new Promise((resolve, reject) => {
    const send = (request: MessageInitShape<typeof DeltaDiscoveryRequestSchema>) =>
      stream.write(toBinary(DeltaDiscoveryRequestSchema, create(DeltaDiscoveryRequestSchema, request)));
    const ask = (typeUrl: string, names: readonly string[] = []) => send({ typeUrl, resourceNamesSubscribe: [...names] });
    const onMessage = (bytes: Buffer) => {
      const { typeUrl, nonce, resources } = fromBinary(DeltaDiscoveryResponseSchema, bytes);
      send({ typeUrl, responseNonce: nonce });
      const isFirst = missing.delete(typeUrl);
      const outbound = resources.map(({ name }) => name).filter((name) => name.startsWith("outbound|"));
      if (isFirst && typeUrl === typeUrls.cds) ask(typeUrls.eds, outbound);
      if (isFirst && typeUrl === typeUrls.lds) ask(typeUrls.rds, ["9080"]);
      if (missing.size === 0) resolve();
    };
    const path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
    const stream = connection.stream(path, onMessage, (error) => {
      connection[Symbol.dispose]();
      reject(error);
    });
    send({ node, typeUrl: typeUrls.cds });
    ask(typeUrls.lds);
  });
}

if (import.meta.main) {
  const task: SwarmTask = { ...(JSON.parse(process.argv[2]!) as SwarmTask), token: process.env.SWARM_TOKEN ?? "" };
  const prepared = await prepare(task);
  // Until this process is ended: a signal that is waited for does not keep it, nor does anything else before there are streams.
  setInterval(() => undefined, 60_000);
  process.once("SIGTERM", () => process.exit());
  const begun = new Promise((resolve) => process.once("SIGUSR2", resolve));
  process.stdout.write("prepared\n");
  await begun;
  const certificateMs: number[] = [];
  const configuredMs: number[] = [];
  await Promise.all(
    prepared.map(async (agent, index) => {
      const asked = performance.now();
      const chain = await untilDone(() => certificateFor(task, agent));
      const received = performance.now();
      // What a process has used by the last of them is read when this is.
      if (certificateMs.push(received - asked) === task.agents) process.stdout.write("certified\n");
      await untilDone(() => configure(task, task.first + index, chain, agent));
      configuredMs.push(performance.now() - received);
    }),
  );
  const report: SwarmReport = { certificateMs, configuredMs, failures };
  process.stdout.write(`report ${JSON.stringify(report)}\n`);
}

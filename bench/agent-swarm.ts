/**
 * Many machines' agents in one process, as far as a control plane can tell: each with a key of its own, a certificate had for a token, and a
 * delta stream by that certificate, over connections of its own, on which it registers itself and takes clusters, endpoints, listeners and
 * routes. Told to begin by SIGUSR2; the token comes by SWARM_TOKEN, the rest of the task by the command line.
 */
import { create, fromBinary, type JsonObject, toBinary } from "@bufbuild/protobuf";
import { type ChannelOptions, Client, type ClientDuplexStream, credentials, Metadata } from "@grpc/grpc-js";
import { makeCertificateRequest } from "../src/agent/certificates/certificate-request.ts";
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
} from "../src/api/gen/envoy/service/discovery/v3/discovery_pb.js";
import {
  type IstioCertificateRequest,
  IstioCertificateRequestSchema,
  type IstioCertificateResponse,
  IstioCertificateResponseSchema,
} from "../src/api/gen/istio/v1/auth/ca_pb.js";
import { typeUrls } from "../src/api/type-urls.ts";
import { ownChannel } from "../src/lib/grpc-channel.ts";

export interface SwarmTask {
  /** `127.0.0.1:15012` */
  readonly target: string;
  /** PEM. */
  readonly root: string;
  readonly token: string;
  readonly agents: number;
}

export interface SwarmReport {
  /** From each agent's call to its certificate. */
  readonly certificateMs: readonly number[];
  /** From each agent's stream to clusters and listeners. */
  readonly configuredMs: readonly number[];
  readonly failures: number;
}

const options: ChannelOptions = { ...ownChannel, "grpc.ssl_target_name_override": "istiod.istio-system.svc" };
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

async function certificateFor(task: SwarmTask, csr: string): Promise<string> {
  const client = new Client(task.target, credentials.createSsl(Buffer.from(task.root)), options);
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer ${task.token}`);
  try {
    const { certChain } = await new Promise<IstioCertificateResponse>((resolve, reject) => {
      client.makeUnaryRequest<IstioCertificateRequest, IstioCertificateResponse>(
        "/istio.v1.auth.IstioCertificateService/CreateCertificate",
        (value) => Buffer.from(toBinary(IstioCertificateRequestSchema, value)),
        (bytes) => fromBinary(IstioCertificateResponseSchema, bytes),
        create(IstioCertificateRequestSchema, { csr, validityDuration: 86_400n }),
        metadata,
        (error, response) => (error ? reject(error) : resolve(response!)),
      );
    });
    return certChain.slice(0, -1).join("");
  } finally {
    client.close();
  }
}

/** Resolves when clusters and listeners are there; the stream stays. */
function configure(task: SwarmTask, index: number, chain: string, key: string): Promise<void> {
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
  const client = new Client(task.target, credentials.createSsl(Buffer.from(task.root), Buffer.from(key), Buffer.from(chain)), options);
  const stream: ClientDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse> = client.makeBidiStreamRequest(
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
    (value: DeltaDiscoveryRequest) => Buffer.from(toBinary(DeltaDiscoveryRequestSchema, value)),
    (bytes: Buffer) => fromBinary(DeltaDiscoveryResponseSchema, bytes),
  );
  const missing = new Set<string>([typeUrls.cds, typeUrls.lds]);
  return new Promise((resolve, reject) => {
    const ask = (typeUrl: string, names: readonly string[] = []) =>
      stream.write(create(DeltaDiscoveryRequestSchema, { typeUrl, resourceNamesSubscribe: [...names] }));
    stream.on("error", (error) => {
      client.close();
      reject(error);
    });
    stream.on("data", ({ typeUrl, nonce, resources }: DeltaDiscoveryResponse) => {
      stream.write(create(DeltaDiscoveryRequestSchema, { typeUrl, responseNonce: nonce }));
      const isFirst = missing.delete(typeUrl);
      const outbound = resources.map(({ name }) => name).filter((name) => name.startsWith("outbound|"));
      if (isFirst && typeUrl === typeUrls.cds) ask(typeUrls.eds, outbound);
      if (isFirst && typeUrl === typeUrls.lds) ask(typeUrls.rds, ["9080"]);
      if (missing.size === 0) resolve();
    });
    stream.write(create(DeltaDiscoveryRequestSchema, { node, typeUrl: typeUrls.cds }));
    ask(typeUrls.lds);
  });
}

if (import.meta.main) {
  const task: SwarmTask = { ...(JSON.parse(process.argv[2]!) as SwarmTask), token: process.env.SWARM_TOKEN ?? "" };
  const identity = `spiffe://cluster.local/ns/default/sa/${account}`;
  const requests = [];
  for (let index = 0; index < task.agents; index++) requests.push(await makeCertificateRequest(identity, { type: "ec", curve: "P-256" }));
  // Until this process is ended: a signal that is waited for does not keep it, nor does anything else before there are streams.
  setInterval(() => undefined, 60_000);
  process.once("SIGTERM", () => process.exit());
  const begun = new Promise((resolve) => process.once("SIGUSR2", resolve));
  process.stdout.write("prepared\n");
  await begun;
  const certificateMs: number[] = [];
  const configuredMs: number[] = [];
  await Promise.all(
    requests.map(async ({ csr, privateKey }, index) => {
      const asked = performance.now();
      const chain = await untilDone(() => certificateFor(task, csr));
      const received = performance.now();
      certificateMs.push(received - asked);
      await untilDone(() => configure(task, index, chain, privateKey));
      configuredMs.push(performance.now() - received);
    }),
  );
  const report: SwarmReport = { certificateMs, configuredMs, failures };
  process.stdout.write(`report ${JSON.stringify(report)}\n`);
}

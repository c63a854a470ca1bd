/**
 * The quickstart with Envoys as its gateway and its sidecars beside the quickstart as it is: the same pages, by the same versions of
 * the services, over the same mutual TLS.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { WorkerThread } from "../../src/proxy/worker-thread.ts";
import { meshNodes } from "../../src/quickstart/mesh-agent.ts";
import { type QuickstartPorts, quickstartPorts } from "../../src/quickstart/ports.ts";
import { configurationFiles } from "../../src/quickstart/sample-mesh.ts";
import { startSampleServers } from "../../src/quickstart/sample-servers.ts";
import { startControlPlane, type TestControlPlane } from "../support/control-plane.ts";
import { envoyBinary } from "../support/envoy.ts";
import { exchange, type Outcome, type RequestSpec } from "../support/exchange.ts";
import { type Expectation, problemsOf } from "../support/expectation.ts";
import { maskPort } from "../support/mask.ts";
import { makeMeshCa } from "../support/mesh-ca.ts";
import { meshBootstrap } from "../support/mesh-proxy.ts";
import { freePortRow } from "../support/ports.ts";
import { eventually, startOurProxy, startRealEnvoy } from "../support/proxies.ts";
import { startSdsServer } from "../support/sds-server.ts";

interface QuickstartRequest extends RequestSpec {
  /** Workload whose sidecar is asked; absent: the gateway. */
  readonly from?: string;
  readonly expect: Expectation;
}

const requests = parse(readFileSync(join(import.meta.dirname, "quickstart.yaml"), "utf8")) as readonly QuickstartRequest[];
const sideNames = ["envoy", "topsail"] as const;
type SideName = (typeof sideNames)[number];

interface Side {
  readonly ports: QuickstartPorts;
  readonly controlPlane: TestControlPlane;
  readonly files: Readonly<Record<string, string>>;
}

const uuid = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;

describe.skipIf(!envoyBinary)("The quickstart's proxies", () => {
  const stack = new AsyncDisposableStack();
  const sides = new Map<SideName, Side>();

  beforeAll(async () => {
    const ca = makeMeshCa();
    const nodes = meshNodes();
    const sdsPaths = new Map<string, string>();
    for (const { namespace, account } of nodes) {
      const uri = `spiffe://cluster.local/ns/${namespace}/sa/${account}`;
      if (!sdsPaths.has(uri)) sdsPaths.set(uri, stack.use(await startSdsServer(ca.issue(uri), ca.root)).path);
    }
    const workerThreads = [stack.use(new WorkerThread("worker_0"))];
    const starters = { envoy: startRealEnvoy, topsail: (bootstrap: unknown) => startOurProxy(bootstrap, { workerThreads }) };
    // One after the other, or both might be told the same ports.
    for (const name of sideNames) {
      const ports = quickstartPorts(await freePortRow(12));
      const { "mesh-config.yaml": meshYaml = "", ...files } = configurationFiles(ports);
      const controlPlane = stack.use(await startControlPlane("", { files, meshYaml }));
      stack.use(await startSampleServers(ports));
      const bootstraps = nodes.map((node) =>
        meshBootstrap({
          ...node,
          xds: controlPlane.istiod.grpcPort,
          isDelta: true,
          sdsPath: sdsPaths.get(`spiffe://cluster.local/ns/${node.namespace}/sa/${node.account}`)!,
          ...(node.type === "sidecar" && { metadata: { INTERCEPTION_MODE: "NONE" } }),
        }),
      );
      await Promise.all(bootstraps.map(async (bootstrap) => stack.use(await starters[name](bootstrap))));
      sides.set(name, { ports, controlPlane, files });
    }
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  async function ask(name: SideName, request: QuickstartRequest): Promise<Outcome> {
    const { ports } = sides.get(name)!;
    const portNames = Object.keys(ports) as (keyof QuickstartPorts)[];
    const mask = (text: string) =>
      portNames.reduce((masked, port) => maskPort(masked, ports[port], `<${port}>`), text.replace(uuid, "<uuid>"));
    const spec = { ...request, host: (request.host ?? "localhost").replace("{{http}}", String(ports.http)) };
    const workload = meshNodes().find((node) => node.name === request.from);
    const port = workload ? ports.outbound : ports.http;
    const { outcome, connection } = await exchange(port, spec, "quickstart", mask, workload?.address);
    connection?.[Symbol.dispose]();
    return outcome;
  }

  async function compare(request: QuickstartRequest): Promise<void> {
    const [envoy, topsail] = [await ask("envoy", request), await ask("topsail", request)];
    for (const [name, outcome] of Object.entries({ envoy, topsail }))
      expect(problemsOf({ outcomes: [outcome], seen: [] }, request.expect), name).toEqual([]);
    expect(topsail).toEqual(envoy);
  }

  it.each(requests.map((request, index) => [`${index}: ${request.line} ${request.host ?? ""}`, request] as const))("%s", (_, request) =>
    compare(request),
  );

  it.each([
    ["reviews.yaml", "v2", "v3", { line: "GET /productpage", expect: { status: 200, body: "reviews-v3" } }],
    ["customers.yaml", "v1", "v2", { host: "web-frontend.localhost", expect: { status: 200, body: "<th>CITY</th>" } }],
  ] as const)("follows an edit of %s from %s to %s", async (file, from, to, request) => {
    for (const name of sideNames) {
      const { controlPlane, files } = sides.get(name)!;
      const weighted = (version: string, weight: number) => new RegExp(`(subset: ${version}\\n(?:.*\\n){2,3}?\\s+weight: )${weight}\\b`);
      const edited = files[file]!.replace(weighted(from, 100), "$10").replace(weighted(to, 0), "$1100");
      expect(edited).not.toBe(files[file]);
      await controlPlane.write(file, edited);
      await eventually(async () => {
        const outcome = await ask(name, request);
        return problemsOf({ outcomes: [outcome], seen: [] }, request.expect).length === 0 || undefined;
      }, `${to} in ${name}`);
    }
    await compare(request);
  });
});

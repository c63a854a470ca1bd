/**
 * Every configuration of mesh/ is in force at once in one control plane of ours, to which Envoy and our proxy are attached, as gateways and
 * as sidecars, over both variants of xDS. Envoy refuses nothing of it, and both answer the same requests in the same way: as expected.
 *
 * A file is a stream of YAML documents: those with a `kind` are the configuration, the first says what is asked of it and what must come
 * of it (test/support/expectation.ts). A document that names {{side}} is there for each of the sides.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseAllDocuments, stringify } from "yaml";
import { quickstartPorts } from "../../src/quickstart/ports.ts";
import { configurationFiles, gatewayLabels, gatewayNamespace } from "../../src/quickstart/sample-mesh.ts";
import { makeCertificate, type TestCertificate } from "../support/certificate.ts";
import { startControlPlane, type TestControlPlane } from "../support/control-plane.ts";
import { envoyBinary } from "../support/envoy.ts";
import { describeWithoutPeer, type Exchange, exchange, type RequestSpec } from "../support/exchange.ts";
import { type Effect, type Expectation, problemsOf } from "../support/expectation.ts";
import { maskPort } from "../support/mask.ts";
import { makeMeshCa } from "../support/mesh-ca.ts";
import { meshBootstrap } from "../support/mesh-proxy.ts";
import { freePortRow } from "../support/ports.ts";
import { eventually, type RunningProxy, startOurProxy, startRealEnvoy } from "../support/proxies.ts";
import { RawConnection } from "../support/raw-client.ts";
import { startSdsServer } from "../support/sds-server.ts";
import { startTcpUpstream, startUpstream, type TestTcpUpstream, type TestUpstream } from "../support/upstream.ts";
import { expectedOf } from "./known-differences.ts";

interface MeshRequest extends RequestSpec {
  /** A port's name in double braces, by default `http`. */
  readonly port?: string;
  /** Asked of this pair alone. */
  readonly variant?: Variant;
  readonly expect?: Expectation;
}

interface MeshFile {
  readonly about: string;
  readonly requests: readonly MeshRequest[];
}

const directory = join(import.meta.dirname, "mesh");
const files = readdirSync(directory).sort();
const portNames = [
  "http",
  "http2",
  "redirect",
  "https",
  "https2",
  "tls",
  "tcp-port",
  "tcp-tls",
  "egress",
  "ingress",
  "out",
  "out-tcp",
  "out-tls",
  "out-proxy",
  "out-rest",
] as const;

/** The proxies under test. Each has an address of loopback to itself. */
const sides = [
  { name: "envoy-delta", address: "127.0.3.1", start: startRealEnvoy, isDelta: true },
  { name: "topsail-delta", address: "127.0.3.2", start: startOurProxy, isDelta: true },
  { name: "envoy-sotw", address: "127.0.3.3", start: startRealEnvoy, isDelta: false },
  { name: "topsail-sotw", address: "127.0.3.4", start: startOurProxy, isDelta: false },
] as const;
type SideName = (typeof sides)[number]["name"];
const pairs = [
  ["delta", "envoy-delta", "topsail-delta"],
  ["state of the world", "envoy-sotw", "topsail-sotw"],
] as const;
type Variant = (typeof pairs)[number][0];

function fill(text: string, values: ReadonlyMap<string, string>): string {
  return text.replace(/"?\{\{([\w.:-]+)\}\}"?/g, (all, key: string) => {
    const value = values.get(key);
    if (value === undefined) return all;
    const isWhole = all.startsWith('"') && all.endsWith('"');
    return value.includes("\n") ? JSON.stringify(value) : isWhole ? value : all.replace(`{{${key}}}`, value);
  });
}

function readFile(name: string, values: ReadonlyMap<string, string>): { file: MeshFile; configuration: string } {
  const [head, ...rest] = parseAllDocuments(fill(readFileSync(join(directory, name), "utf8"), values));
  const texts = rest.flatMap((document) => {
    const text = stringify(document);
    return text.includes("{{side}}") ? sides.map((side) => fill(text, valuesOf(side))) : [text];
  });
  return { file: (head as { toJS(): unknown }).toJS() as MeshFile, configuration: texts.join("---\n") };
}

function valuesOf({ name, address, isDelta }: (typeof sides)[number]): ReadonlyMap<string, string> {
  return new Map([
    ["side", name],
    ["address", address],
    ["mode", isDelta ? "REGISTRY_ONLY" : "ALLOW_ANY"],
  ]);
}

const labelOf = ({ line = "GET /", host, headers, port, tls, raw }: MeshRequest) =>
  [raw ?? line, host, port, tls && JSON.stringify(tls), headers && JSON.stringify(headers)].filter(Boolean).join(" ");

describe.skipIf(!envoyBinary)("Envoy and our proxy attached to our control plane", () => {
  const stack = new AsyncDisposableStack();
  const values = new Map<string, string>();
  const proxies = new Map<string, RunningProxy>();
  const certificates: Record<string, TestCertificate> = {};
  let controlPlane: TestControlPlane;
  let upstreams: TestUpstream[];
  let tcp: TestTcpUpstream;

  beforeAll(async () => {
    for (const host of ["a.example", "b.example"]) {
      certificates[host] = makeCertificate(host);
      values.set(`crt:${host}`, certificates[host].certificate);
      values.set(`key:${host}`, certificates[host].key);
    }
    const serverTls = certificates["a.example"]!;
    upstreams = [
      stack.use(await startUpstream("up")),
      stack.use(await startUpstream("up2")),
      stack.use(await startUpstream("tls-up", { key: serverTls.key, cert: serverTls.certificate })),
    ];
    tcp = stack.use(await startTcpUpstream());
    for (const upstream of upstreams) values.set(upstream.name, String(upstream.port));
    values.set("tcp", String(tcp.port));
    const sockets = mkdtempSync(join(tmpdir(), "topsail-sockets-"));
    stack.defer(() => rmSync(sockets, { recursive: true, force: true }));
    values.set("directory", sockets);
    const first = await freePortRow(portNames.length);
    for (const [index, name] of portNames.entries()) values.set(name, String(first + index));
    const configuration = Object.fromEntries(files.map((name) => [name, readFile(name, values).configuration]));
    // The quickstart's own as well, its gateway on ports of its own.
    for (const [name, text] of Object.entries(configurationFiles(quickstartPorts(await freePortRow(11))))) {
      if (name.endsWith(".yaml") && name !== "mesh-config.yaml") configuration[`quickstart-${name}`] = text;
    }
    const meshYaml = `proxyListenPort: ${values.get("egress")}\nproxyInboundListenPort: ${values.get("ingress")}\n`;
    controlPlane = stack.use(await startControlPlane("", { files: configuration, meshYaml }));
    expect(await controlPlaneJson("problems")).toEqual([]);
    const ca = makeMeshCa();
    const sds = stack.use(await startSdsServer(ca.issue("spiffe://cluster.local/ns/mesh/sa/client"), ca.root));
    await Promise.all(
      sides.flatMap((side) =>
        (["router", "sidecar"] as const).map(async (type) => {
          const node = {
            type,
            name: `${side.name}-${type}`,
            address: side.address,
            labels: type === "router" ? { ...gatewayLabels, side: side.name } : { app: "client", side: side.name },
            namespace: type === "router" ? gatewayNamespace : "mesh",
            xds: controlPlane.istiod.grpcPort,
            isDelta: side.isDelta,
            sdsPath: sds.path,
          };
          proxies.set(node.name, stack.use(await side.start(meshBootstrap(node))));
        }),
      ),
    );
  }, 120_000);
  afterAll(() => stack.disposeAsync());

  // biome-ignore lint/suspicious/noExplicitAny: pages of all shapes, looked into at once.
  async function controlPlaneJson(page: string): Promise<any> {
    const response = await fetch(`${controlPlane.debugUrl}/debug/${page}`);
    return response.json();
  }

  function mask(text: string): string {
    let masked = text;
    for (const name of portNames) masked = maskPort(masked, values.get(name)!, `<${name}>`);
    for (const { name, port } of upstreams) masked = maskPort(masked, port, `<${name}>`);
    for (const side of sides) {
      masked = masked.replaceAll(side.address, "<proxy>").replaceAll(side.name, "<side>");
    }
    return masked;
  }

  async function ask(name: SideName, request: MeshRequest, caseId: string): Promise<Effect> {
    const before = upstreams.map(({ seen }) => seen.length);
    const exchanges: Exchange[] = [];
    const { address } = sides.find((side) => side.name === name)!;
    const port = Number(fill(request.port ?? "{{http}}", values));
    const spec = JSON.parse(fill(JSON.stringify(request), values)) as MeshRequest;
    for (let i = 0; i < (request.repeat ?? 1); i++) exchanges.push(await exchange(port, spec, `${name}-${caseId}`, mask, address));
    for (const { connection } of exchanges) connection?.[Symbol.dispose]();
    const seen = upstreams.flatMap((upstream, index) =>
      upstream.seen.slice(before[index]).map((one) => ({ upstream: upstream.name, request: describeWithoutPeer(one, mask) })),
    );
    return { outcomes: exchanges.map(({ outcome }) => outcome), seen };
  }

  /** Of repeated requests, what can happen. */
  function comparable({ outcomes, seen }: Effect, request: MeshRequest): unknown {
    if (!request.repeat) return { outcome: outcomes[0], seen };
    const distinct = (list: readonly unknown[]) => [...new Set(list.map((one) => JSON.stringify(one)))].sort();
    return { outcomes: distinct(outcomes), seen: distinct(seen) };
  }

  const all = files.map((name) => [name, readFile(name, new Map()).file.requests] as const);

  it("has at least 25 configurations and 120 requests", () => {
    expect(files.length).toBeGreaterThanOrEqual(25);
    expect(all.flatMap(([, requests]) => requests).length).toBeGreaterThanOrEqual(120);
  });

  describe.each(all.filter(([, requests]) => requests.length > 0))("%s", (name, requests) => {
    it.each(requests.map((request, index) => [`${index}: ${labelOf(request)}`.slice(0, 160), index] as const))("%s", async (_, index) => {
      for (const [variant, envoy, topsail] of pairs) {
        if ((requests[index]!.variant ?? variant) !== variant) continue;
        const theirs = await ask(envoy, requests[index]!, `${name}-${index}`);
        const ours = await ask(topsail, requests[index]!, `${name}-${index}`);
        expect(problemsOf(theirs, requests[index]!.expect), envoy).toEqual([]);
        expect(problemsOf(ours, requests[index]!.expect), topsail).toEqual([]);
        expect(comparable(ours, requests[index]!), variant).toEqual(expectedOf(name, index, comparable(theirs, requests[index]!)));
      }
    });
  });

  it.each(sides.map(({ name }) => name))("serves a Sidecar's Unix socket in %s, by the Host's port", async (name) => {
    const ask = (host: string) =>
      new Promise<IncomingMessage>((resolve, reject) => {
        const socketPath = join(values.get("directory")!, name);
        httpRequest({ socketPath, headers: { host }, agent: false }, (response) => resolve(response.resume()))
          .on("error", reject)
          .end();
      });
    const known = await ask(`beside.mesh.example:${values.get("out")}`);
    expect([known.statusCode, known.headers["x-upstream"]]).toEqual([200, "up"]);
    if (valuesOf(sides.find((side) => side.name === name)!).get("mode") === "REGISTRY_ONLY") {
      expect((await ask("beside.mesh.example:1")).statusCode).toBe(502);
    }
  });

  it("changes a certificate for new connections at once, in all of them", async () => {
    const renewed = makeCertificate("renewed.example");
    const connections = await Promise.all(
      sides.map(({ address }) => RawConnection.open(Number(values.get("https")), { servername: "a.example" }, address)),
    );
    expect(connections.map(({ peerCertificate }) => peerCertificate.subject.CN)).toEqual(sides.map(() => "a.example"));
    const changed = new Map(values);
    changed.set("crt:a.example", renewed.certificate);
    changed.set("key:a.example", renewed.key);
    const startedAt = performance.now();
    await controlPlane.write("tls-simple.yaml", readFile("tls-simple.yaml", changed).configuration);
    for (const { address, name } of sides) {
      await eventually(
        async () => {
          using connection = await RawConnection.open(Number(values.get("https")), { servername: "a.example" }, address);
          return connection.peerCertificate.subject.CN === "renewed.example" || undefined;
        },
        `the new certificate in ${name}`,
        5000,
      );
    }
    expect(performance.now() - startedAt).toBeLessThan(5000);
    // What was open stays so and answers.
    for (const connection of connections) {
      connection.write("GET / HTTP/1.1\r\nhost: a.example\r\n\r\n");
      expect(await connection.until((received) => received.includes("up GET /"))).toBe(true);
      connection[Symbol.dispose]();
    }
    await controlPlane.write("tls-simple.yaml", readFile("tls-simple.yaml", values).configuration);
  });

  it("follows every change of the configuration in the same way", async () => {
    const service = (status: number) => ({
      apiVersion: "networking.istio.io/v1",
      kind: "VirtualService",
      metadata: { name: "changing", namespace: "mesh" },
      spec: { hosts: ["changing.example"], gateways: ["main"], http: [{ directResponse: { status } }] },
    });
    for (const status of [201, 202, 404]) {
      await controlPlane.write("changing.yaml", status === 404 ? "" : stringify(service(status)));
      for (const { name } of sides) {
        await eventually(
          async () => {
            const { outcomes } = await ask(name, { host: "changing.example" }, "changing");
            return outcomes[0]!.responses[0]?.status.includes(String(status)) || undefined;
          },
          `status ${status} in ${name}`,
          5000,
        );
      }
    }
  });

  it("has nothing refused: no NACK in the control plane, no rejected update in any proxy", async () => {
    const metrics = await (await fetch(`${controlPlane.debugUrl}/metrics`)).text();
    expect(metrics.match(/^pilot_total_xds_rejects\{.*$/gm) ?? []).toEqual([]);
    const proxiesSeen = (await controlPlaneJson("syncz")) as Record<string, unknown>[];
    expect(proxiesSeen.length).toBe(8);
    for (const proxy of proxiesSeen) expect(Object.keys(proxy).filter((key) => key.endsWith("_error"))).toEqual([]);
    for (const [name, proxy] of proxies) {
      const stats = await proxy.admin("/stats?filter=update_rejected");
      const rejected = stats.split("\n").filter((line) => line !== "" && !line.endsWith(": 0"));
      expect(rejected, `${name}: ${proxy.log().slice(-2000)}`).toEqual([]);
      const updates = await proxy.admin("/stats?filter=(cds|lds).update_success");
      expect(updates, name).toMatch(/cds\.update_success: [1-9]/);
      expect(updates, name).toMatch(/lds\.update_success: [1-9]/);
    }
  });
});

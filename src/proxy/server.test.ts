import * as http from "node:http";
import type { AddressInfo } from "node:net";
import * as net from "node:net";
import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { afterEach, describe, expect, it } from "vitest";
import { adsBootstrap, socket, startProxyServer, type TestProxy } from "../../test/support/proxy-server.ts";
import { pack, type ScriptedStream, startScriptedAdsServer } from "../../test/support/scripted-ads-server.ts";
import { envoyTypes } from "../api/envoy/type-registry.ts";
import { ClusterSchema } from "../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema } from "../api/gen/envoy/config/listener/v3/listener_pb.js";
import { RouteConfigurationSchema } from "../api/gen/envoy/config/route/v3/route_pb.js";
import { typeUrls } from "../api/type-urls.ts";

const stacks: AsyncDisposableStack[] = [];
afterEach(async () => {
  for (const stack of stacks.splice(0)) await stack.disposeAsync();
});

function stackOf(): AsyncDisposableStack {
  const stack = new AsyncDisposableStack();
  stacks.push(stack);
  return stack;
}

async function startUpstream(body: string): Promise<number> {
  const server = http.createServer((_request, response) => response.end(body));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stackOf().defer(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** A port that nothing listens on at the moment. */
async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const hcmType = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const routerType = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const ads = { ads: {}, resource_api_version: "V3" };

function hcm(routes: object, filters: object[] = [{ name: "router", typed_config: { "@type": routerType } }]) {
  return { name: "hcm", typed_config: { "@type": hcmType, stat_prefix: "in", http_filters: filters, ...routes } };
}

const json = (value: unknown) => value as JsonValue;
const listener = (name: string, port: number, filter: object) =>
  pack(
    ListenerSchema,
    fromJson(ListenerSchema, json({ name, address: socket(port), filter_chains: [{ filters: [filter] }] }), { registry: envoyTypes }),
  );
const rdsListener = (name: string, port: number, timeout?: string) =>
  listener(
    name,
    port,
    hcm({ rds: { route_config_name: "routes", config_source: { ...ads, ...(timeout && { initial_fetch_timeout: timeout }) } } }),
  );
const edsCluster = (name: string, options: object = {}) =>
  pack(
    ClusterSchema,
    fromJson(ClusterSchema, json({ name, type: "EDS", connect_timeout: "1s", eds_cluster_config: { eds_config: ads }, ...options })),
  );
const assignment = (name: string, ...ports: number[]) =>
  pack(
    ClusterLoadAssignmentSchema,
    fromJson(
      ClusterLoadAssignmentSchema,
      json({ cluster_name: name, endpoints: [{ lb_endpoints: ports.map((port) => ({ endpoint: { address: socket(port) } })) }] }),
    ),
  );
const routes = (cluster: string) =>
  pack(
    RouteConfigurationSchema,
    fromJson(
      RouteConfigurationSchema,
      json({ name: "routes", virtual_hosts: [{ name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster } }] }] }),
    ),
  );

interface Mesh {
  readonly proxy: TestProxy;
  readonly stream: ScriptedStream;
  readonly nextStream: () => Promise<ScriptedStream>;
}

async function startMesh(options: { isDelta?: boolean; fetchTimeout?: string } = {}): Promise<Mesh> {
  const stack = stackOf();
  const server = stack.use(await startScriptedAdsServer());
  const proxy = stack.use(await startProxyServer(adsBootstrap(server.port, options)));
  return { proxy, stream: await server.nextStream(), nextStream: () => server.nextStream() };
}

/** Answers everything so that listener `l` on `port` serves cluster `c` at `upstream`. */
async function bringUp({ proxy, stream }: Mesh, port: number, upstream: number): Promise<void> {
  await stream.next(typeUrls.cds);
  stream.respond(typeUrls.cds, "c1", [edsCluster("c")]);
  await stream.next(typeUrls.eds);
  stream.respond(typeUrls.eds, "e1", [assignment("c", upstream)]);
  await stream.next(typeUrls.lds);
  stream.respond(typeUrls.lds, "l1", [rdsListener("l", port)]);
  await stream.next(typeUrls.rds);
  stream.respond(typeUrls.rds, "r1", [routes("c")]);
  await proxy.server.live;
}

async function call(port: number): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/`);
  return `${response.status} ${await response.text()}`;
}

async function until(passes: () => Promise<boolean>): Promise<void> {
  while (!(await passes())) await new Promise((resolve) => setTimeout(resolve, 10));
}

function canConnect(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socketToPort = net.connect(port, "127.0.0.1", () => {
      socketToPort.destroy();
      resolve(true);
    });
    socketToPort.on("error", () => resolve(false));
  });
}

describe("ProxyServer under a control plane", () => {
  it("asks for clusters, endpoints, listeners and routes in that order, and binds nothing before the last has come", async () => {
    const [mesh, port, upstream] = [await startMesh(), await freePort(), await startUpstream("hello")];
    const { proxy, stream } = mesh;
    await stream.next(typeUrls.cds);
    expect((await proxy.admin("/ready")).body).toBe("PRE_INITIALIZING\n");
    const clusterNonce = stream.respond(typeUrls.cds, "c1", [edsCluster("c")]);
    await stream.next(typeUrls.eds);
    expect(stream.unread(typeUrls.cds)).toBe(0); // the ACK waits for the endpoints
    stream.respond(typeUrls.eds, "e1", [assignment("c", upstream)]);
    expect(await stream.next(typeUrls.cds)).toMatchObject({ versionInfo: "c1", responseNonce: clusterNonce });
    await stream.next(typeUrls.lds);
    expect((await proxy.admin("/ready")).body).toBe("INITIALIZING\n");
    stream.respond(typeUrls.lds, "l1", [rdsListener("l", port)]);
    await stream.next(typeUrls.rds);
    expect(await canConnect(port)).toBe(false);
    stream.respond(typeUrls.rds, "r1", [routes("c")]);
    await proxy.server.live;
    expect((await proxy.admin("/ready")).body).toBe("LIVE\n");
    expect(await call(port)).toBe("200 hello");
    expect(stream.requests.map(({ typeUrl }) => typeUrl).filter((type, index, all) => all.indexOf(type) === index)).toEqual([
      typeUrls.cds,
      typeUrls.eds,
      typeUrls.lds,
      typeUrls.rds,
    ]);
  });

  it("takes the good listeners of a response, rejects it for the bad one, and shows why", async () => {
    const [mesh, port, upstream] = [await startMesh(), await freePort(), await startUpstream("hello")];
    const { proxy, stream } = mesh;
    await bringUp(mesh, port, upstream);
    await stream.next(typeUrls.lds);
    const other = await freePort();
    const bad = listener("bad", await freePort(), hcm({ route_config: { name: "x" } }, [{ name: "no.such.filter" }]));
    stream.respond(typeUrls.lds, "l2", [rdsListener("l", port), bad, rdsListener("good", other)]);
    const answer = await stream.next(typeUrls.lds);
    expect(answer.versionInfo).toBe("l1");
    expect(answer.errorDetail?.message).toBe(
      "Error adding/updating listener(s) bad: Didn't find a registered implementation for 'no.such.filter' with type URL: ''",
    );
    expect(await call(other)).toBe("200 hello");
    const dump = JSON.parse((await proxy.admin("/config_dump?resource=dynamic_listeners")).body) as {
      configs: { name: string; error_state?: { details: string; version_info: string }; active_state?: { version_info: string } }[];
    };
    expect(dump.configs.find(({ name }) => name === "bad")?.error_state).toMatchObject({
      details: "Didn't find a registered implementation for 'no.such.filter' with type URL: ''",
      version_info: "l2",
    });
    expect(dump.configs.find(({ name }) => name === "good")?.active_state?.version_info).toBe("l2");
  });

  it("rejects a cluster that breaks a constraint of the protos, and keeps the old one", async () => {
    const [mesh, port, upstream] = [await startMesh(), await freePort(), await startUpstream("hello")];
    const { stream } = mesh;
    await bringUp(mesh, port, upstream);
    await stream.next(typeUrls.cds);
    stream.respond(typeUrls.cds, "c2", [edsCluster("c", { connect_timeout: "0s" })]);
    expect((await stream.next(typeUrls.cds)).errorDetail?.message).toBe(
      "Error adding/updating cluster(s) c: Proto constraint validation failed (ClusterValidationError.ConnectTimeout: value must be greater than 0s)",
    );
    expect(await call(port)).toBe("200 hello");
  });

  it("moves traffic with new endpoints, empties a cluster that has none, and answers 503 without the cluster", async () => {
    const [mesh, port] = [await startMesh(), await freePort()];
    const [first, second] = [await startUpstream("first"), await startUpstream("second")];
    const { stream } = mesh;
    await bringUp(mesh, port, first);
    expect(await call(port)).toBe("200 first");
    await stream.next(typeUrls.eds);
    stream.respond(typeUrls.eds, "e2", [assignment("c", second)]);
    await stream.next(typeUrls.eds);
    expect(await call(port)).toBe("200 second");
    stream.respond(typeUrls.eds, "e3", [assignment("c")]);
    await stream.next(typeUrls.eds);
    expect(await call(port)).toBe("503 no healthy upstream");
    await stream.next(typeUrls.cds);
    stream.respond(typeUrls.cds, "c2", []);
    await stream.next(typeUrls.cds);
    await until(async () => (await call(port)) === "503 ");
  });

  it("takes routes that have changed a little, and refuses what is wrong with them as it would refuse all of them", async () => {
    const [mesh, port, upstream] = [await startMesh(), await freePort(), await startUpstream("hello")];
    const { proxy, stream } = mesh;
    await bringUp(mesh, port, upstream);
    const direct = (index: number, body: string) => ({
      match: { path: `/${index}` },
      direct_response: { status: 200, body: { inline_string: body } },
    });
    const hosts = (change: object = {}, ...others: object[]) => [
      {
        name: "all",
        domains: ["*"],
        routes: Array.from({ length: 9 }, (_, index) => ({ ...direct(index, "before"), ...(index === 4 && change) })),
      },
      ...others,
    ];
    const answer = async (version: string, virtual_hosts: object[]) => {
      const config = fromJson(RouteConfigurationSchema, json({ name: "routes", virtual_hosts }));
      stream.respond(typeUrls.rds, version, [pack(RouteConfigurationSchema, config)]);
      return (await stream.next(typeUrls.rds)).errorDetail?.message;
    };
    const bodies = () => Promise.all([3, 4, 5].map(async (index) => (await fetch(`http://127.0.0.1:${port}/${index}`)).text()));
    await stream.next(typeUrls.rds);
    expect(await answer("r2", hosts())).toBeUndefined();
    expect(await answer("r3", hosts(direct(4, "changed")))).toBeUndefined();
    expect(await bodies()).toEqual(["before", "changed", "before"]);

    expect(await answer("r4", hosts({ match: { safe_regex: { regex: "(" } } }))).toContain("Invalid regex '('");
    const place = "RouteConfigurationValidationError.VirtualHosts[0]: embedded message failed validation | caused by ";
    expect(await answer("r5", hosts({ direct_response: { status: 1 } }))).toContain(`${place}VirtualHostValidationError.Routes[4]`);
    const twice = { name: "other", domains: ["*"], routes: [] };
    expect(await answer("r6", hosts({}, twice))).toBe("Only a single wildcard domain is permitted in route routes");
    expect(await bodies()).toEqual(["before", "changed", "before"]);
    expect(JSON.parse((await proxy.admin("/config_dump?resource=dynamic_route_configs")).body).configs[0].version_info).toBe("r3");

    expect(await answer("r7", hosts())).toBeUndefined();
    expect(await bodies()).toEqual(["before", "before", "before"]);
  });

  it("leaves alone what a response repeats, and shows statistics of clusters that nobody has asked for", async () => {
    const [mesh, port, upstream] = [await startMesh(), await freePort(), await startUpstream("hello")];
    const { proxy, stream } = mesh;
    await bringUp(mesh, port, upstream);
    expect(await call(port)).toBe("200 hello");
    await stream.next(typeUrls.cds);
    await stream.next(typeUrls.eds);
    stream.respond(typeUrls.cds, "c2", [edsCluster("c"), edsCluster("unused")]);
    await stream.next(typeUrls.eds);
    stream.respond(typeUrls.eds, "e2", [assignment("c", upstream), assignment("unused", upstream, upstream + 1)]);
    await stream.next(typeUrls.cds);
    expect(await call(port)).toBe("200 hello");
    const stats = new Map((await proxy.admin("/stats")).body.split("\n").map((line) => line.split(": ") as [string, string]));
    const shown = (...names: string[]) => names.map((name) => stats.get(name));
    expect(shown("cluster_manager.cluster_added", "cluster_manager.cluster_modified", "cluster.c.upstream_cx_total")).toEqual([
      "3",
      "0",
      "1",
    ]);
    expect(shown("cluster.c.membership_change", "cluster.c.update_success", "cluster.c.membership_total")).toEqual(["0", "2", "1"]);
    const unused = [
      "membership_healthy",
      "max_host_weight",
      "upstream_rq_total",
      "circuit_breakers.high.rq_open",
      "upstream_cx_connect_ms",
    ];
    expect(shown(...unused.map((name) => `cluster.unused.${name}`))).toEqual(["2", "1", "0", "0", "No recorded values"]);
    const sorted = [...stats].filter(([, value]) => /^\d/.test(value ?? "")).map(([name]) => name);
    expect(sorted).toEqual([...sorted].sort());
  });

  it("closes the socket of a listener that is gone", async () => {
    const [mesh, port, upstream] = [await startMesh(), await freePort(), await startUpstream("hello")];
    const { stream } = mesh;
    await bringUp(mesh, port, upstream);
    await stream.next(typeUrls.lds);
    stream.respond(typeUrls.lds, "l2", []);
    await stream.next(typeUrls.lds);
    await until(async () => !(await canConnect(port)));
  });

  it("asks again for the endpoints of a changed cluster, and serves meanwhile", async () => {
    const [mesh, port, upstream] = [await startMesh(), await freePort(), await startUpstream("hello")];
    const { stream } = mesh;
    await bringUp(mesh, port, upstream);
    await stream.next(typeUrls.eds);
    await stream.next(typeUrls.cds);
    const nonce = stream.respond(typeUrls.cds, "c2", [edsCluster("c", { connect_timeout: "2s" })]);
    const again = await stream.next(typeUrls.eds);
    expect(again).toMatchObject({ resourceNames: ["c"], responseNonce: "nonce-2" });
    expect(await call(port)).toBe("200 hello");
    expect(stream.unread(typeUrls.cds)).toBe(0);
    stream.respond(typeUrls.eds, "e1", [assignment("c", upstream)]);
    expect(await stream.next(typeUrls.cds)).toMatchObject({ versionInfo: "c2", responseNonce: nonce });
    expect(await call(port)).toBe("200 hello");
  });

  it("goes live without a silent server once the fetch timeouts are over", async () => {
    const { proxy } = await startMesh({ fetchTimeout: "0.05s" });
    await proxy.server.live;
    expect((await proxy.admin("/ready")).body).toBe("LIVE\n");
  });

  it("serves 404 when the routes do not come in time", async () => {
    const [mesh, port] = [await startMesh(), await freePort()];
    const { proxy, stream } = mesh;
    await stream.next(typeUrls.cds);
    stream.respond(typeUrls.cds, "c1", []);
    await stream.next(typeUrls.lds);
    stream.respond(typeUrls.lds, "l1", [rdsListener("l", port, "0.05s")]);
    await proxy.server.live;
    expect(await call(port)).toBe("404 ");
  });

  it("goes on serving while the control plane is away, and takes its changes when it is back", async () => {
    const [mesh, port] = [await startMesh(), await freePort()];
    const [first, second] = [await startUpstream("first"), await startUpstream("second")];
    await bringUp(mesh, port, first);
    mesh.stream.end();
    expect(await call(port)).toBe("200 first");
    const stream = await mesh.nextStream();
    expect(await stream.next(typeUrls.eds)).toMatchObject({ resourceNames: ["c"], versionInfo: "e1", responseNonce: "" });
    stream.respond(typeUrls.eds, "e2", [assignment("c", second)]);
    await stream.next(typeUrls.eds);
    expect(await call(port)).toBe("200 second");
  });

  it("answers a response of an unknown type and bytes that are no resource without dying", async () => {
    const [mesh, port, upstream] = [await startMesh(), await freePort(), await startUpstream("hello")];
    const { stream } = mesh;
    await bringUp(mesh, port, upstream);
    await stream.next(typeUrls.cds);
    stream.respond("type.googleapis.com/no.such.Type", "x", []);
    stream.respond(typeUrls.cds, "c2", [{ ...edsCluster("c"), value: new Uint8Array([0xff, 0xff, 0xff]) }]);
    expect((await stream.next(typeUrls.cds)).errorDetail?.message).toMatch(/^Error adding\/updating cluster\(s\) /);
  });

  it("speaks delta: named removals, and no answer awaited for what is known", async () => {
    const [mesh, port, upstream] = [await startMesh({ isDelta: true }), await freePort(), await startUpstream("hello")];
    const { proxy, stream } = mesh;
    await stream.nextDelta(typeUrls.cds);
    stream.respondDelta(typeUrls.cds, "1", [{ name: "c", content: edsCluster("c") }]);
    expect(await stream.nextDelta(typeUrls.eds)).toMatchObject({ resourceNamesSubscribe: ["c"] });
    stream.respondDelta(typeUrls.eds, "1", [{ name: "c", content: assignment("c", upstream) }]);
    await stream.nextDelta(typeUrls.lds);
    stream.respondDelta(typeUrls.lds, "1", [{ name: "l", content: rdsListener("l", port) }]);
    expect(await stream.nextDelta(typeUrls.rds)).toMatchObject({ resourceNamesSubscribe: ["routes"] });
    stream.respondDelta(typeUrls.rds, "1", [{ name: "routes", content: routes("c") }]);
    await proxy.server.live;
    expect(await call(port)).toBe("200 hello");
    await stream.nextDelta(typeUrls.cds);
    stream.respondDelta(typeUrls.cds, "2", [{ name: "c", content: edsCluster("c", { connect_timeout: "3s" }) }]);
    await stream.nextDelta(typeUrls.cds); // acknowledged although EDS said nothing
    expect(await call(port)).toBe("200 hello");
    stream.respondDelta(typeUrls.lds, "2", [], ["l"]);
    await until(async () => !(await canConnect(port)));
  });
});

describe("ProxyServer with a static bootstrap", () => {
  const staticBootstrap = (port: number, upstream: number) => ({
    admin: { address: socket(0) },
    static_resources: {
      listeners: [
        {
          name: "l",
          address: socket(port),
          filter_chains: [
            {
              filters: [
                hcm({
                  route_config: {
                    name: "r",
                    virtual_hosts: [{ name: "v", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "c" } }] }],
                  },
                }),
              ],
            },
          ],
        },
      ],
      clusters: [
        {
          name: "c",
          connect_timeout: "1s",
          load_assignment: { cluster_name: "c", endpoints: [{ lb_endpoints: [{ endpoint: { address: socket(upstream) } }] }] },
        },
      ],
    },
  });

  it("names the listener and the reason when a port is taken", async () => {
    const taken = await startUpstream("somebody else");
    const proxy = stackOf().use(await startProxyServer(staticBootstrap(taken, taken)));
    await expect(proxy.server.live).rejects.toThrow(/error adding listener.*Address already in use/);
  });

  it("refuses to start on a configuration that a worker could not run", async () => {
    const bootstrap = staticBootstrap(await freePort(), 1);
    const broken = JSON.parse(JSON.stringify(bootstrap).replace('"prefix":"/"', '"safe_regex":{"regex":"("}')) as unknown;
    await expect(startProxyServer(broken)).rejects.toThrow(/missing/);
  });

  it("drains: readiness fails, connections close, and it is done when nothing is left", async () => {
    const [port, upstream] = [await freePort(), await startUpstream("hello")];
    const proxy = stackOf().use(await startProxyServer(staticBootstrap(port, upstream)));
    await proxy.server.live;
    expect(await call(port)).toBe("200 hello");
    const drained = proxy.server.drain(10_000);
    expect(await proxy.admin("/ready")).toEqual({ status: 503, body: "DRAINING\n" });
    await drained;
    expect(await canConnect(port)).toBe(false);
  });

  it("answers what is no path, no method and no HTTP on its admin port", async () => {
    const proxy = stackOf().use(await startProxyServer(staticBootstrap(await freePort(), 1)));
    expect((await proxy.admin("/nope")).status).toBe(404);
    expect(await proxy.admin("/quitquitquit")).toEqual({ status: 405, body: "Method GET not allowed, POST required." });
    expect((await proxy.admin("/stats?filter=(")).body).toBe("Invalid re2 regex: missing ): (");
    const answer = await new Promise<string>((resolve) => {
      const raw = net.connect(proxy.server.adminAddress!.port, "127.0.0.1", () => raw.write("\x00\x01garbage\r\n\r\n"));
      raw.on("data", (bytes) => resolve(bytes.toString("latin1")));
      raw.on("close", () => resolve(""));
    });
    expect(answer).toMatch(/^HTTP\/1.1 400 /);
    expect((await proxy.admin("/server_info")).status).toBe(200);
  });
});

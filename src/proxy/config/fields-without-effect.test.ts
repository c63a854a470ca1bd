import { create, fromBinary, fromJson, toBinary } from "@bufbuild/protobuf";
import { afterEach, describe, expect, it } from "vitest";
import { envoyBinary, startEnvoy } from "../../../test/support/envoy.ts";
import { clustersOf, listenersOf, pushContextOf, routerNode, sidecarNode } from "../../../test/support/mesh.ts";
import { adsBootstrap, startProxyServer } from "../../../test/support/proxy-server.ts";
import { pack, startScriptedAdsServer } from "../../../test/support/scripted-ads-server.ts";
import { envoyTypes } from "../../api/envoy/type-registry.ts";
import { ClusterSchema } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ListenerSchema } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import { RouteConfigurationSchema } from "../../api/gen/envoy/config/route/v3/route_pb.js";
import { typeUrls } from "../../api/type-urls.ts";
import { warningsOf } from "./fields-without-effect.ts";
import { unknownFieldsOf } from "./unknown-fields.ts";

const stacks: AsyncDisposableStack[] = [];
afterEach(async () => {
  for (const stack of stacks.splice(0)) await stack.disposeAsync();
});

const options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const http2 = {
  "@type": `type.googleapis.com/${options}`,
  explicit_http_config: { http2_protocol_options: {} },
};

const cluster = (json: Record<string, unknown>) =>
  fromJson(ClusterSchema, { name: "up", connect_timeout: "1s", ...json } as never, { registry: envoyTypes });

describe("fields without effect", () => {
  it("are named with their cluster", () => {
    const warnings = warningsOf(
      ClusterSchema,
      cluster({ lb_subset_config: {}, upstream_connection_options: { set_local_interface_name_on_upstream_connections: true } }),
    );
    expect(warnings).toEqual([
      "cluster 'up': Cluster.lb_subset_config has no effect in this proxy",
      "cluster 'up': UpstreamConnectionOptions.set_local_interface_name_on_upstream_connections has no effect in this proxy",
    ]);
  });

  it("are named once a route configuration, with the first place and how many more there are", () => {
    const route = (name: string) => ({ name, match: { prefix: "/" }, route: { cluster: "up", hedge_policy: {} } });
    const message = fromJson(RouteConfigurationSchema, {
      name: "8080",
      virtual_hosts: [{ name: "all", domains: ["*"], routes: [route("a"), route("b"), route("c")] }],
    });
    expect(warningsOf(RouteConfigurationSchema, message)).toEqual([
      "route configuration '8080': RouteAction.hedge_policy has no effect in this proxy (virtual host 'all', route 'a', and 2 more)",
    ]);
  });

  it("say nothing of what works", () => {
    const works = cluster({
      lb_policy: "LEAST_REQUEST",
      circuit_breakers: {},
      upstream_connection_options: { tcp_keepalive: { keepalive_time: 5 } },
    });
    expect(warningsOf(ClusterSchema, works)).toEqual([]);
  });

  it("are none in what our control plane sends by itself", () => {
    const push = pushContextOf(`
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: default}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 9080}, {name: tcp, port: 9082}, {name: other, port: 9083}]}
`);
    const warnings = [routerNode(), sidecarNode({ labels: { app: "web" } })].flatMap((node) => [
      ...[...clustersOf(node, push).values()].flatMap((message) => warningsOf(ClusterSchema, message)),
      ...[...listenersOf(node, push).values()].flatMap((message) => warningsOf(ListenerSchema, message)),
    ]);
    expect(warnings).toEqual([]);
  });

  it("are logged once, however many workers and pushes there are", async () => {
    const stack = new AsyncDisposableStack();
    stacks.push(stack);
    const server = stack.use(await startScriptedAdsServer());
    const proxy = stack.use(await startProxyServer(adsBootstrap(server.port), { concurrency: 2 }));
    const stream = await server.nextStream();
    await stream.next(typeUrls.cds);
    const make = (seconds: number) => pack(ClusterSchema, cluster({ lb_subset_config: {}, connect_timeout: `${seconds}s` }));
    for (const version of [1, 2]) {
      stream.respond(typeUrls.cds, String(version), [make(version)]);
      await stream.next(typeUrls.cds);
    }
    expect(proxy.log.filter((line) => line.includes("lb_subset_config"))).toHaveLength(1);
  });
});

/** A cluster with field 9999 where `up` has it, and field 9998 inside its connect_timeout. */
function withUnknownFields(outer = true) {
  const bytes = (field: number) => Buffer.from([...varint((field << 3) | 0), 1]);
  const timeout = Buffer.concat([Buffer.from([8, 1]), bytes(9998)]);
  const known = toBinary(ClusterSchema, create(ClusterSchema, { name: "up" }));
  return {
    typeUrl: typeUrls.cds,
    value: Buffer.concat([known, outer ? bytes(9999) : Buffer.alloc(0), Buffer.from([(4 << 3) | 2, timeout.length]), timeout]),
  };
}

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...varint(value >> 7)];
}

const nackText = "Protobuf message (type envoy.config.cluster.v3.Cluster(root) with unknown field set {9999}) has unknown fields";

describe("unknown fields of dynamic resources", () => {
  it("are found in every message", () => {
    expect(unknownFieldsOf(ClusterSchema, fromBinary(ClusterSchema, withUnknownFields().value))).toEqual([
      "type envoy.config.cluster.v3.Cluster(root) with unknown field set {9999}",
      "type google.protobuf.Duration(envoy.config.cluster.v3.Cluster) with unknown field set {9998}",
    ]);
  });

  async function answerTo(start: (port: number) => Promise<AsyncDisposable>, resource = withUnknownFields()) {
    const stack = new AsyncDisposableStack();
    stacks.push(stack);
    const server = stack.use(await startScriptedAdsServer());
    const proxy = stack.use(await start(server.port));
    const stream = await server.nextStream();
    await stream.next(typeUrls.cds);
    stream.respond(typeUrls.cds, "1", [resource as never]);
    return { reason: (await stream.next(typeUrls.cds)).errorDetail?.message, proxy };
  }

  it("are accepted and counted", async () => {
    const { reason, proxy } = await answerTo((port) => startProxyServer(adsBootstrap(port)));
    expect(reason).toBeUndefined();
    const stats = await (proxy as Awaited<ReturnType<typeof startProxyServer>>).admin("/stats?filter=dynamic_unknown");
    expect(stats.body).toBe("server.dynamic_unknown_fields: 2\n");
  });

  const topsail = (port: number) => startProxyServer(adsBootstrap(port), { rejectUnknownDynamicFields: true });
  const envoy = async (port: number) => {
    const bootstrap = adsBootstrap(port);
    for (const entry of bootstrap.static_resources.clusters)
      Object.assign(entry, { typed_extension_protocol_options: { [options]: http2 } });
    return startEnvoy(["--reject-unknown-dynamic-fields", "--config-yaml", JSON.stringify(bootstrap)]);
  };

  it("are refused with --reject-unknown-dynamic-fields", async () => {
    const { reason } = await answerTo(topsail);
    expect(reason).toBe(nackText);
  });

  it.skipIf(!envoyBinary)("are refused in Envoy's words, also inside", async () => {
    expect((await answerTo(envoy)).reason).toBe(nackText);
    const inside = withUnknownFields(false);
    expect((await answerTo(topsail, inside)).reason).toBe((await answerTo(envoy, inside)).reason);
  });
});

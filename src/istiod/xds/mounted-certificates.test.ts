import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { clustersOf, listenersOf, pushContextOf, sidecarNode } from "../../../test/support/mesh.ts";
import type { TransportSocket } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import {
  type CommonTlsContext,
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";

const host = "web.shop.svc.cluster.local";
const mesh = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: web, namespace: shop}, spec: {address: 10.9.1.1, labels: {app: web}, serviceAccount: web}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: shop}
spec: {hosts: [outside.test], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 10.9.1.2}]}
---
`;
const rule = (tls: string, of = host) =>
  `{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: r, namespace: shop}, spec: {host: ${of}, trafficPolicy: {tls: ${tls}}}}\n---\n`;

const client = { TLS_CLIENT_CERT_CHAIN: "/c", TLS_CLIENT_KEY: "/k", TLS_CLIENT_ROOT_CERT: "/r" };
const server = { TLS_SERVER_CERT_CHAIN: "/sc", TLS_SERVER_KEY: "/sk", TLS_SERVER_ROOT_CERT: "/sr" };

function summary(common: CommonTlsContext | undefined) {
  const validation = common?.validationContextType;
  const names =
    validation?.case === "combinedValidationContext"
      ? validation.value.defaultValidationContext
      : validation?.case === "validationContext"
        ? validation.value
        : undefined;
  const sds = validation?.case === "combinedValidationContext" ? validation.value.validationContextSdsSecretConfig?.name : undefined;
  const [pair] = common?.tlsCertificates ?? [];
  return {
    certificate:
      common?.tlsCertificateSdsSecretConfigs[0]?.name ?? `${pair?.certificateChain?.specifier.value} ${pair?.privateKey?.specifier.value}`,
    roots: sds ?? names?.trustedCa?.specifier.value,
    names: names?.matchTypedSubjectAltNames.map(({ matcher }) => matcher?.matchPattern.value),
    alpn: common?.alpnProtocols.join(),
  };
}

function towards(name: string, yaml: string, metadata: Record<string, string>) {
  const cluster = clustersOf(sidecarNode({ metadata }), pushContextOf(yaml)).get(name)!;
  const [match] = cluster.transportSocketMatches;
  const socket: TransportSocket | undefined = cluster.transportSocket ?? match?.transportSocket;
  const context = socket?.configType.case === "typedConfig" ? anyUnpack(socket.configType.value, UpstreamTlsContextSchema) : undefined;
  if (!context) return undefined;
  return { sni: context.sni, toAll: match === undefined, ...summary(context.commonTlsContext) };
}

describe("a client with certificates in files", () => {
  const identity = "spiffe://cluster.local/ns/shop/sa/web";
  const web = `outbound|80||${host}`;

  it("uses them for mutual TLS that nobody asked for, to all endpoints, without the mesh's protocols", () => {
    expect(towards(web, mesh, {})).toMatchObject({ toAll: false, certificate: "default", roots: "ROOTCA", alpn: "istio" });
    const expected = { sni: `outbound_.80_._.${host}`, toAll: true, certificate: "/c /k", roots: "/r", names: [identity], alpn: "" };
    expect(towards(web, mesh, client)).toEqual(expected);
  });

  it("has them from its agent, if that serves files", () => {
    expect(towards(web, mesh, { ...client, "file-credential": "true" })).toMatchObject({
      certificate: "file-cert:/c~/k",
      roots: "file-root:/r",
    });
  });

  it("has them in place of a rule's, with the rule's names", () => {
    const mutual = { certificate: "/c /k", roots: "/r", sni: "s", names: ["n"], toAll: true };
    for (const mode of ["ISTIO_MUTUAL", "MUTUAL"])
      expect(towards(web, mesh + rule(`{mode: ${mode}, sni: s, subjectAltNames: [n]}`), client)).toMatchObject(mutual);
    expect(towards(web, mesh + rule("{mode: SIMPLE, caCertificates: /ca}"), client)).toMatchObject({
      roots: "/ca",
      certificate: "undefined undefined",
    });
    expect(towards(web, mesh + rule("{mode: DISABLE}"), client)).toBeUndefined();
  });

  it("has a rule's for services outside of the mesh", () => {
    const files = rule("{mode: MUTUAL, clientCertificate: /oc, privateKey: /ok, caCertificates: /or}", "outside.test");
    expect(towards("outbound|80||outside.test", mesh + files, client)).toMatchObject({ certificate: "/oc /ok", roots: "/or" });
    expect(towards("outbound|80||outside.test", mesh, client)).toBeUndefined();
  });

  it("needs a chain to count as one", () => {
    expect(towards(web, mesh, { TLS_CLIENT_KEY: "/k", TLS_CLIENT_ROOT_CERT: "/r" })).toMatchObject({
      certificate: "default",
      roots: "ROOTCA",
    });
  });

  it("does not share clusters with others", () => {
    const push = pushContextOf(mesh);
    const socket = (metadata: Record<string, string>) =>
      JSON.stringify(clustersOf(sidecarNode({ metadata }), push).get(web)?.transportSocket?.configType.value?.value ?? "");
    expect(new Set([socket({}), socket(client), socket({ ...client, TLS_CLIENT_ROOT_CERT: "/other" })]).size).toBe(3);
  });
});

describe("a server with certificates in files", () => {
  function shown(metadata: Record<string, string>) {
    const node = sidecarNode({ ip: "10.9.1.1", namespace: "shop", labels: { app: "web" }, metadata });
    const chains = listenersOf(node, pushContextOf(mesh)).get("virtualInbound")!.filterChains;
    const sockets = chains.flatMap(({ transportSocket }) => {
      if (transportSocket?.configType.case !== "typedConfig") return [];
      return [summary(anyUnpack(transportSocket.configType.value, DownstreamTlsContextSchema)?.commonTlsContext)];
    });
    expect(sockets.length).toBeGreaterThan(1);
    return [...new Set(sockets.map(({ certificate, roots, names }) => `${certificate} ${roots} ${names}`))];
  }

  it("shows them on every port, and still takes clients of the mesh's trust domains alone", () => {
    expect(shown({})).toEqual(["default ROOTCA spiffe://cluster.local/"]);
    expect(shown(server)).toEqual(["/sc /sk /sr spiffe://cluster.local/"]);
    expect(shown({ ...server, "file-credential": "true" })).toEqual(["file-cert:/sc~/sk file-root:/sr spiffe://cluster.local/"]);
  });

  it("may have either the pair or the roots in files", () => {
    expect(shown({ TLS_SERVER_ROOT_CERT: "/sr" })).toEqual(["default /sr spiffe://cluster.local/"]);
    expect(shown({ TLS_SERVER_CERT_CHAIN: "/sc", TLS_SERVER_KEY: "/sk" })).toEqual(["/sc /sk ROOTCA spiffe://cluster.local/"]);
    expect(shown({ TLS_SERVER_CERT_CHAIN: "/sc" })).toEqual(["default ROOTCA spiffe://cluster.local/"]);
  });
});

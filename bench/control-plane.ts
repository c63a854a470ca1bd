/**
 * What a mesh costs the control plane: from a change to the resources of every proxy, without network and encoding of responses.
 *
 *     node bench/control-plane.ts [services=1000] [proxies=500] [namespaces=20]
 *
 * Half of the services are Kubernetes', half ServiceEntries, each with three endpoints and a VirtualService, every fourth with a
 * DestinationRule. Half of the sidecars see everything; those of every fourth namespace have a Sidecar that imports their own and the next.
 */

import { create } from "@bufbuild/protobuf";
import { HeldResources } from "../src/ads/held-resources.ts";
import type { Watch } from "../src/ads/subscription.ts";
import { decodeDocuments } from "../src/api/documents/decode-documents.ts";
import { NodeSchema } from "../src/api/gen/envoy/config/core/v3/base_pb.js";
import type { ConfigObject } from "../src/api/kinds/object.ts";
import { decodeMeshConfig } from "../src/api/mesh/decode-mesh.ts";
import { type ProxyNode, parseNode } from "../src/api/node.ts";
import { typeUrls } from "../src/api/type-urls.ts";
import { PushContext } from "../src/istiod/push/push-context.ts";
import { planPush, scopeFor } from "../src/istiod/push/push-request.ts";
import { generatorFor } from "../src/istiod/xds/generators.ts";
import { compareAge, type ObjectsOf } from "../src/registry/registry.ts";

const [serviceCount = 1000, proxyCount = 500, namespaceCount = 20] = process.argv.slice(2).map(Number);
const ports = [80, 8080, 9090, 9080];
const namespaceOf = (index: number) => `ns-${index % namespaceCount}`;
const address = (index: number, replica: number) => `10.${100 + replica}.${Math.floor(index / 250)}.${(index % 250) + 1}`;

function yamlOf(index: number): string {
  const [namespace, name, port] = [namespaceOf(index), `svc-${index}`, ports[index % ports.length]];
  const isKubernetes = index % 2 === 0;
  const host = isKubernetes ? `${name}.${namespace}.svc.cluster.local` : `${name}.mesh.test`;
  const meta = (kind: string, suffix = "") => `kind: ${kind}\nmetadata: {name: ${name}${suffix}, namespace: ${namespace}}\n`;
  const api = "apiVersion: networking.istio.io/v1\n";
  const documents = isKubernetes
    ? [
        `apiVersion: v1\n${meta("Service")}spec: {clusterIP: 10.96.${Math.floor(index / 250)}.${(index % 250) + 1}, selector: {app: ${name}}, ports: [{name: http, port: ${port}}, {name: tcp-x, port: 5000}]}`,
        ...[0, 1, 2].map(
          (replica) => `${api}${meta("WorkloadEntry", `-${replica}`)}spec: {address: ${address(index, replica)}, labels: {app: ${name}}}`,
        ),
      ]
    : [
        `${api}${meta("ServiceEntry")}spec: {hosts: [${host}], location: MESH_INTERNAL, resolution: STATIC, ports: [{number: ${port}, name: http, protocol: HTTP}], endpoints: [${[0, 1, 2].map((replica) => `{address: ${address(index, replica)}}`).join(", ")}]}`,
      ];
  documents.push(
    `${api}${meta("VirtualService")}spec: {hosts: [${host}], http: [{match: [{uri: {prefix: /a}}], route: [{destination: {host: ${host}}}]}, {route: [{destination: {host: ${host}}}], timeout: 5s}]}`,
  );
  if (index % 4 === 0)
    documents.push(
      `${api}${meta("DestinationRule")}spec: {host: ${host}, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}`,
    );
  return documents.join("\n---\n");
}

function sidecarOf(index: number): string {
  return `apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: default, namespace: ns-${index}}\nspec: {egress: [{hosts: ["./*", "ns-${(index + 1) % namespaceCount}/*"]}]}`;
}

function objectsOf(yaml: string): ConfigObject[] {
  const { objects, errors } = decodeDocuments(yaml, "bench.yaml");
  if (errors[0]) throw errors[0];
  return objects.map((object, index) => ({ ...object, metadata: { ...object.metadata, creationTimestamp: 1000 + index } }));
}

function contextOf(objects: readonly ConfigObject[], version: number): PushContext {
  const byKind = new Map<string, ConfigObject[]>();
  for (const object of [...objects].sort(compareAge)) {
    const list = byKind.get(object.kind);
    if (list) list.push(object);
    else byKind.set(object.kind, [object]);
  }
  const of: ObjectsOf = (kind) => byKind.get(kind) ?? [];
  return new PushContext({
    version: String(version),
    mesh: decodeMeshConfig("", "mesh.yaml").value!,
    objects: of,
    domain: "cluster.local",
  });
}

function proxyOf(index: number): ProxyNode {
  const ip = address(index * 2, 0); // an endpoint of a Kubernetes service
  const namespace = namespaceOf(index * 2);
  const node = { id: `sidecar~${ip}~p-${index}.${namespace}~${namespace}.svc.cluster.local`, metadata: { NAMESPACE: namespace } };
  return parseNode(create(NodeSchema, { ...node, metadata: { NAMESPACE: namespace, LABELS: { app: `svc-${index * 2}` } } }));
}

function watchOf(typeUrl: string, names: readonly string[]): Watch {
  const [nonceSent, nonceAcked, versionSent] = ["", "", ""];
  const state = { nonceSent, nonceAcked, versionSent, lastError: undefined, alwaysRespond: false };
  return { typeUrl, isWildcard: names.length === 0, names: new Set(names), held: HeldResources.none, ...state };
}

/** All that a sidecar asks for; the names as it would have learnt them. Returns the number of resources. */
function generateAll(proxy: ProxyNode, push: PushContext, spent: Map<string, number>): number {
  let total = 0;
  const generate = (typeUrl: string, names: readonly string[] = []) => {
    const started = performance.now();
    const context = { proxy, push, onProblem: () => {} };
    const resources = generatorFor(proxy, typeUrl)!(context, watchOf(typeUrl, names), undefined);
    const short = typeUrl.split(".").at(-1)!;
    spent.set(short, (spent.get(short) ?? 0) + performance.now() - started);
    total += resources.length;
    return resources;
  };
  const clusters = generate(typeUrls.cds).map(({ name }) => name);
  generate(
    typeUrls.eds,
    clusters.filter((name) => name.startsWith("outbound|")),
  );
  generate(typeUrls.lds);
  generate(typeUrls.rds, ports.map(String));
  return total;
}

const round = (ms: number) => `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;

const yaml = [
  ...Array.from({ length: serviceCount }, (_, index) => yamlOf(index)),
  ...Array.from({ length: Math.floor(namespaceCount / 4) }, (_, index) => sidecarOf(index * 4)),
].join("\n---\n");
const objects = objectsOf(yaml);
const proxies = Array.from({ length: proxyCount }, (_, index) => proxyOf(index));
process.stdout.write(`${objects.length} objects, ${proxyCount} sidecars\n`);

let started = performance.now();
const before = contextOf(objects, 1);
process.stdout.write(`push context: ${round(performance.now() - started)}\n`);
for (const pass of ["first push", "next push"]) {
  const context = pass === "first push" ? before : contextOf(objects, 2);
  const spent = new Map<string, number>();
  started = performance.now();
  let resources = 0;
  for (const proxy of proxies) resources += generateAll(proxy, context, spent);
  const parts = [...spent].map(([type, ms]) => `${type} ${round(ms)}`).join(", ");
  process.stdout.write(`${pass}: ${round(performance.now() - started)} for ${resources} resources (${parts})\n`);
}

// An endpoint moves: what is to be found out for every proxy before anything is generated, in a context that nobody has asked yet.
const moved = objects.map(
  (object): ConfigObject =>
    object.kind === "WorkloadEntry" && object.metadata.name === "svc-0-1"
      ? { ...object, spec: { ...(object.spec as object), address: "10.9.9.9" } }
      : object,
);
const after = contextOf(moved, 3);
started = performance.now();
const request = planPush(new Set(["WorkloadEntry"]), before, after)!;
let concerned = 0;
for (const proxy of proxies) if (scopeFor(request, proxy, before, after)) concerned++;
process.stdout.write(`endpoint change: planned in ${round(performance.now() - started)}, ${concerned} proxies\n`);

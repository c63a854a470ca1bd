/**
 * Patches of EnvoyFilters, beside what Istio makes of the same: CASE.golden.json of envoy-filter/ is the output of Istio's own code for
 * CASE.yaml (how it was had: envoy-filter/istio_oracle_test.go; Istio 86c9f01, August 2026).
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type DescMessage, fromJson, type JsonObject, type JsonValue, type Message, toJson } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";
import { envoyTypes } from "../../src/api/envoy/type-registry.ts";
import { type Cluster, ClusterSchema } from "../../src/api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { TypedExtensionConfigSchema } from "../../src/api/gen/envoy/config/core/v3/extension_pb.js";
import { type Listener, ListenerSchema } from "../../src/api/gen/envoy/config/listener/v3/listener_pb.js";
import { type RouteConfiguration, RouteConfigurationSchema } from "../../src/api/gen/envoy/config/route/v3/route_pb.js";
import type { ProxyNode } from "../../src/api/node.ts";
import type { PatchContext } from "../../src/istiod/push/envoy-filter-patches.ts";
import { extensionConfigs } from "../../src/istiod/xds/envoy-filter/extension-configs.ts";
import { addedClusters, patchCluster } from "../../src/istiod/xds/envoy-filter/patch-clusters.ts";
import { addedListeners, patchListeners } from "../../src/istiod/xds/envoy-filter/patch-listeners.ts";
import { patchRoutes } from "../../src/istiod/xds/envoy-filter/patch-routes.ts";
import type { PatchedSide } from "../../src/istiod/xds/envoy-filter/patched-side.ts";
import { pushContextOf, routerNode, sidecarNode } from "../support/mesh.ts";

interface Case {
  readonly name: string;
  readonly context: PatchContext;
  readonly proxy?: { readonly namespace?: string; readonly labels?: Record<string, string>; readonly metadata?: JsonObject };
  /** Of a gateway: ports of servers by the port that they are served on. */
  readonly server_ports?: Readonly<Record<string, readonly number[]>>;
  readonly inbound_hosts?: readonly string[];
  /** Names that are asked for by ECDS. */
  readonly extensions?: readonly string[];
  /** Of one EnvoyFilter of the root namespace, or whole ones. */
  readonly patches?: readonly unknown[];
  readonly filters?: readonly { readonly metadata: JsonObject; readonly spec: unknown }[];
}

interface CaseFile {
  readonly about: string;
  readonly given: { readonly listeners?: JsonValue[]; readonly routes?: JsonValue[]; readonly clusters?: JsonValue[] };
  readonly cases: readonly Case[];
}

const directory = join(import.meta.dirname, "envoy-filter");

function read<T extends Message>(schema: DescMessage, list: readonly JsonValue[] = []): T[] {
  return list.map((json) => fromJson(schema, json, { registry: envoyTypes }) as T);
}

function write(schema: DescMessage, messages: readonly Message[]): JsonValue[] {
  return messages.map((message) => toJson(schema, message, { registry: envoyTypes, useProtoFieldName: true }));
}

function sideOf({ context, proxy = {}, patches, filters = [] }: Case): PatchedSide & { proxy: ProxyNode } {
  const whole = patches
    ? [...filters, { metadata: { name: "case", namespace: "istio-system" } as JsonObject, spec: { configPatches: patches } }]
    : filters;
  const created = ({ metadata }: { metadata: JsonObject }) => String(metadata.creationTimestamp ?? "");
  // The support's objects are as old as their place in the text says; what is of one age goes by name.
  const objects = whole.toSorted((a, b) => (created(a) < created(b) ? -1 : created(a) > created(b) ? 1 : nameOf(a) < nameOf(b) ? -1 : 1));
  const text = objects.map(({ metadata, spec }) =>
    stringify(
      {
        apiVersion: "networking.istio.io/v1alpha3",
        kind: "EnvoyFilter",
        metadata: { name: metadata.name, namespace: metadata.namespace },
        spec,
      },
      { aliasDuplicateObjects: false },
    ),
  );
  const push = pushContextOf(text.join("---\n"));
  const node = (context === "GATEWAY" ? routerNode : sidecarNode)({ labels: {}, ...proxy });
  return { patches: push.envoyFilters.forProxy(node), context, outcomes: push.patchOutcomes, proxy: node };
}

function nameOf({ metadata }: { metadata: JsonObject }): string {
  return `${String(metadata.name)}.${String(metadata.namespace)}`;
}

function run({ given }: CaseFile, one: Case): JsonObject {
  const side = sideOf(one);
  const ports = new Map(Object.entries(one.server_ports ?? {}).map(([port, servers]) => [Number(port), new Set(servers)]));
  const clusters = () =>
    read<Cluster>(ClusterSchema, given.clusters).flatMap((cluster) => patchCluster(cluster, side, one.inbound_hosts) ?? []);
  return {
    ...(given.listeners && {
      listeners: write(ListenerSchema, [...patchListeners(read<Listener>(ListenerSchema, given.listeners), side), ...addedListeners(side)]),
    }),
    ...(given.routes && {
      routes: write(
        RouteConfigurationSchema,
        read<RouteConfiguration>(RouteConfigurationSchema, given.routes).map((routes) => patchRoutes(routes, side, ports)),
      ),
    }),
    ...(given.clusters && { clusters: write(ClusterSchema, [...clusters(), ...addedClusters(side)]) }),
    ...(one.extensions && {
      extensions: write(TypedExtensionConfigSchema, extensionConfigs(side.patches, new Set(one.extensions), side.outcomes)),
    }),
  };
}

const files = readdirSync(directory).filter((name) => name.endsWith(".yaml"));

describe.each(files)("%s", (name) => {
  const file = parse(readFileSync(join(directory, name), "utf8"), { merge: true, maxAliasCount: -1 }) as CaseFile;
  const golden = JSON.parse(readFileSync(join(directory, name.replace(".yaml", ".golden.json")), "utf8")) as Record<string, JsonValue>;

  it("has an answer of Istio's for each case", () => {
    expect(file.cases.map((one) => one.name).sort()).toEqual(Object.keys(golden).sort());
  });

  it.each(file.cases.map((one) => [one.name, one] as const))("%s", (caseName, one) => {
    expect(run(file, one)).toEqual(golden[caseName]);
  });
});

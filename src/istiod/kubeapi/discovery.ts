/**
 * What the API serves, as clients ask before anything else: `/api` and `/apis`, whole (aggregated) for those that take it, in parts for the
 * others. Made once, for nothing of it changes while the process runs.
 */
import { createHash } from "node:crypto";
import type { Kind } from "../../api/kinds/kind.ts";
import { parseAccept } from "./accept.ts";
import { apiVersionOf, groups, resourcesOf } from "./resources.ts";
import { reviewGroups } from "./reviews.ts";

export interface Document {
  readonly contentType: string;
  readonly content: Uint8Array;
  /** "" for what may change. */
  readonly etag: string;
}

export const verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const subresourceVerbs = { status: ["get", "patch", "update"], scale: ["get", "patch", "update"], token: ["create"] };
const subresourceKinds = {
  scale: { group: "autoscaling", version: "v1", kind: "Scale" },
  token: { group: "authentication.k8s.io", version: "v1", kind: "TokenRequest" },
};

interface ServedGroup {
  readonly name: string;
  readonly versions: readonly string[];
}

const servedGroups: readonly ServedGroup[] = [
  ...groups,
  ...reviewGroups.map(({ apiVersion }) => ({ name: apiVersion.split("/")[0]!, versions: [apiVersion.split("/")[1]!] })),
];
const namedGroups = servedGroups.filter(({ name }) => name !== "");

/** Undefined when the path is none of discovery's. */
export function discoveryDocument(path: string, accept: string | undefined): Document | undefined {
  const isAggregated = (path === "/api" || path === "/apis") && acceptsAggregated(accept);
  const key = `${isAggregated ? "aggregated " : ""}${path}`;
  const known = documents.get(key);
  if (known) return known;
  const body = isAggregated ? aggregated(path === "/api" ? servedGroups.filter(({ name }) => name === "") : namedGroups) : plain(path);
  if (body === undefined) return undefined;
  const made = documentOf(body, isAggregated ? "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList" : "application/json");
  documents.set(key, made);
  return made;
}

const documents = new Map<string, Document>();

export function documentOf(body: unknown, contentType = "application/json"): Document {
  return documentOfBytes(Buffer.from(`${JSON.stringify(body)}\n`), contentType);
}

export function documentOfBytes(content: Uint8Array, contentType: string): Document {
  return { contentType, content, etag: `"${createHash("sha512").update(content).digest("hex").toUpperCase()}"` };
}

function acceptsAggregated(accept: string | undefined): boolean {
  return parseAccept(accept ?? "").some(
    ({ type, parameters }) =>
      type === "application/json" &&
      parameters.get("g") === "apidiscovery.k8s.io" &&
      parameters.get("v") === "v2" &&
      parameters.get("as") === "APIGroupDiscoveryList",
  );
}

function aggregated(of: readonly ServedGroup[]): unknown {
  return {
    kind: "APIGroupDiscoveryList",
    apiVersion: "apidiscovery.k8s.io/v2",
    metadata: {},
    items: of.map(({ name, versions }) => ({
      metadata: name === "" ? { creationTimestamp: null } : { name, creationTimestamp: null },
      versions: versions.map((version) => ({ version, freshness: "Current", resources: discoveredResources(name, version) })),
    })),
  };
}

function discoveredResources(group: string, version: string): unknown[] {
  const apiVersion = apiVersionOf(group, version);
  const reviewed = reviewGroups.find((one) => one.apiVersion === apiVersion)?.reviews ?? [];
  return [
    ...resourcesOf(apiVersion).map(({ kind }) => ({
      resource: kind.plural,
      responseKind: { group, version, kind: kind.kind },
      scope: kind.namespaced ? "Namespaced" : "Cluster",
      singularResource: kind.singular,
      verbs,
      ...(kind.shortNames.length > 0 ? { shortNames: kind.shortNames } : {}),
      ...(kind.categories.length > 0 ? { categories: kind.categories } : {}),
      subresources: kind.subresources.map((subresource) => ({
        subresource,
        responseKind: subresource === "status" ? { group, version, kind: kind.kind } : subresourceKinds[subresource],
        verbs: subresourceVerbs[subresource],
      })),
    })),
    ...reviewed.map(({ plural, kind }) => ({
      resource: plural,
      responseKind: { group, version, kind },
      scope: "Cluster",
      singularResource: kind.toLowerCase(),
      verbs: ["create"],
    })),
  ];
}

function plain(path: string): unknown {
  if (path === "/api") return { kind: "APIVersions", versions: ["v1"], serverAddressByClientCIDRs: [] };
  if (path === "/apis") return { kind: "APIGroupList", apiVersion: "v1", groups: namedGroups.map(groupEntry) };
  const [root, group = "", version, more] = path.split("/").slice(1);
  if (more !== undefined) return undefined;
  if (root === "api" && version === undefined) return resourceList("", group);
  const found = root === "apis" ? namedGroups.find(({ name }) => name === group) : undefined;
  if (!found) return undefined;
  return version === undefined ? { kind: "APIGroup", apiVersion: "v1", ...groupEntry(found) } : resourceList(group, version);
}

function groupEntry({ name, versions }: ServedGroup) {
  const entries = versions.map((version) => ({ groupVersion: apiVersionOf(name, version), version }));
  return { name, versions: entries, preferredVersion: entries[0] };
}

function resourceList(group: string, version: string): unknown {
  if (!servedGroups.some(({ name, versions }) => name === group && versions.includes(version))) return undefined;
  const groupVersion = apiVersionOf(group, version);
  const reviewed = reviewGroups.find((one) => one.apiVersion === groupVersion)?.reviews ?? [];
  return {
    kind: "APIResourceList",
    apiVersion: "v1",
    groupVersion,
    resources: [
      ...resourcesOf(groupVersion).flatMap(({ kind }) => [
        plainResource(kind),
        ...kind.subresources.map((name) => plainSubresource(kind, name)),
      ]),
      ...reviewed.map(({ plural, kind }) => ({
        name: plural,
        singularName: kind.toLowerCase(),
        namespaced: false,
        kind,
        verbs: ["create"],
      })),
    ],
  };
}

function plainResource(kind: Kind) {
  return {
    name: kind.plural,
    singularName: kind.singular,
    namespaced: kind.namespaced,
    kind: kind.kind,
    verbs,
    ...(kind.shortNames.length > 0 ? { shortNames: kind.shortNames } : {}),
    ...(kind.categories.length > 0 ? { categories: kind.categories } : {}),
  };
}

function plainSubresource(kind: Kind, name: Kind["subresources"][number]) {
  const own = name === "status" ? { kind: kind.kind } : subresourceKinds[name];
  return { name: `${kind.plural}/${name}`, singularName: "", namespaced: kind.namespaced, ...own, verbs: subresourceVerbs[name] };
}

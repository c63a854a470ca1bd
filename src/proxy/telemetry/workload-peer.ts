/**
 * A workload as the telemetry of its peers knows it, and the three forms in which it is told: node metadata, the Struct that metadata
 * exchange carries, and the short text that endpoints bring in their metadata. Source: Istio's proxy, extensions/common/metadata_object.cc.
 */
import { fromBinary, type JsonObject, type JsonValue, toBinary } from "@bufbuild/protobuf";
import { type Struct, StructSchema, type Value, ValueSchema } from "@bufbuild/protobuf/wkt";

/** "" stands for what is not known. */
export interface WorkloadPeer {
  readonly instance: string;
  readonly namespace: string;
  readonly workload: string;
  readonly cluster: string;
  readonly identity: string;
  readonly canonicalName: string;
  readonly canonicalRevision: string;
  readonly app: string;
  readonly version: string;
  /** pod, deployment, job, cronjob. */
  readonly type: string;
  readonly region: string;
  readonly zone: string;
  /** Those that metadata exchange is told to hand on as well. */
  readonly labels: Readonly<Record<string, string>>;
}

const canonicalName = "service.istio.io/canonical-name";
const canonicalRevision = "service.istio.io/canonical-revision";
const types = new Set(["pod", "deployment", "job", "cronjob"]);
const noLabels = {};

/** From node metadata, or from what a peer told of its own. `locality` completes what the metadata does not say. */
export function peerFromMetadata(
  metadata: JsonObject,
  additionalLabels: readonly string[] = [],
  locality: { readonly region: string; readonly zone: string } = { region: "", zone: "" },
): WorkloadPeer {
  const labels = objectOf(metadata.LABELS);
  const workload = text(metadata.WORKLOAD_NAME);
  const more = additionalLabels.flatMap((name): [string, string][] => (typeof labels[name] === "string" ? [[name, labels[name]]] : []));
  return {
    instance: text(metadata.NAME),
    namespace: text(metadata.NAMESPACE),
    workload,
    cluster: text(metadata.CLUSTER_ID),
    identity: text(metadata.IDENTITY),
    canonicalName: text(labels[canonicalName]),
    canonicalRevision: text(labels[canonicalRevision]),
    app: text(labels["app.kubernetes.io/name"]) || text(labels.app),
    version: text(labels["app.kubernetes.io/version"]) || text(labels.version),
    type: typeOf(text(metadata.OWNER), workload),
    region: text(metadata.REGION) || locality.region,
    zone: text(metadata.AVAILABILITY_ZONE) || locality.zone,
    labels: more.length === 0 ? noLabels : Object.fromEntries(more),
  };
}

/** `kubernetes://apis/apps/v1/namespaces/default/deployments/reviews-v1` of workload reviews-v1: deployment. */
function typeOf(owner: string, workload: string): string {
  const kind = owner.slice(0, -(workload.length + 2));
  const type = kind.slice(kind.lastIndexOf("/") + 1);
  return types.has(type) ? type : "";
}

/** What metadata exchange says of a workload: google.protobuf.Struct, always in the same bytes. */
export function encodePeer(peer: WorkloadPeer): Uint8Array {
  return encodeStruct(peerToJson(peer));
}

export function peerToJson(peer: WorkloadPeer): JsonObject {
  const labels = withoutEmpty({
    [canonicalName]: peer.canonicalName,
    [canonicalRevision]: peer.canonicalRevision,
    app: peer.app,
    version: peer.version,
    ...peer.labels,
  });
  const owner = peer.type === "" ? "" : `kubernetes://apis/apps/v1/namespaces/${peer.namespace}/${peer.type}s/${peer.workload}`;
  return {
    ...withoutEmpty({
      NAME: peer.instance,
      NAMESPACE: peer.namespace,
      WORKLOAD_NAME: peer.workload,
      CLUSTER_ID: peer.cluster,
      IDENTITY: peer.identity,
      OWNER: owner,
      REGION: peer.region,
      AVAILABILITY_ZONE: peer.zone,
    }),
    LABELS: labels,
  };
}

/** undefined: these bytes are no Struct. */
export function decodePeer(bytes: Uint8Array, additionalLabels: readonly string[]): WorkloadPeer | undefined {
  const struct = decodeStruct(bytes);
  return struct && peerFromMetadata(struct, additionalLabels);
}

/** `workload;namespace;canonical service;canonical revision;cluster`, the `istio.workload` metadata of an endpoint. */
export function peerFromEndpoint(encoded: string): WorkloadPeer | undefined {
  const parts = encoded.split(";");
  if (parts.length < 5) return undefined;
  const [workload = "", namespace = "", name = "", revision = "", cluster = ""] = parts;
  return {
    ...{ instance: "", identity: "", app: "", version: "", type: "", region: "", zone: "", labels: noLabels },
    ...{ workload, namespace, cluster, canonicalName: name, canonicalRevision: revision },
  };
}

/** Fields sorted by name at every depth, as other implementations write them deterministically. */
export function encodeStruct(value: JsonObject): Uint8Array {
  return toBinary(StructSchema, { $typeName: StructSchema.typeName, fields: fieldsOf(value) });
}

function fieldsOf(value: JsonObject): Struct["fields"] {
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([name, field]) => [name, toValue(field)]));
}

function toValue(value: JsonValue): Value {
  const $typeName = ValueSchema.typeName;
  if (typeof value === "string") return { $typeName, kind: { case: "stringValue", value } };
  return { $typeName, kind: { case: "structValue", value: { $typeName: StructSchema.typeName, fields: fieldsOf(value as JsonObject) } } };
}

export function decodeStruct(bytes: Uint8Array): JsonObject | undefined {
  try {
    return jsonOf(fromBinary(StructSchema, bytes).fields);
  } catch {
    return undefined;
  }
}

/** Texts and structures; a peer's metadata is made of nothing else that counts. */
function jsonOf(fields: Struct["fields"]): JsonObject {
  const made: JsonObject = {};
  for (const [name, { kind }] of Object.entries(fields)) {
    if (kind.case === "stringValue") made[name] = kind.value;
    else if (kind.case === "structValue") made[name] = jsonOf(kind.value.fields);
  }
  return made;
}

function withoutEmpty(values: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ""));
}

function objectOf(value: JsonValue | undefined): JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value : {};
}

function text(value: JsonValue | undefined): string {
  return typeof value === "string" ? value : "";
}

/** The type of each kind's objects as a whole: `apiVersion`, `kind`, `metadata` and the rest. */
import type { DescMessage } from "@bufbuild/protobuf";
import { DeploymentSchema } from "../../../api/gen/kubernetes/apps/v1/objects_pb.js";
import * as core from "../../../api/gen/kubernetes/core/v1/objects_pb.js";
import { EndpointSliceSchema } from "../../../api/gen/kubernetes/discovery/v1/objects_pb.js";
import { ObjectMetaSchema } from "../../../api/gen/kubernetes/meta/v1/objects_pb.js";
import { IngressClassSchema, IngressSchema } from "../../../api/gen/kubernetes/networking/v1/objects_pb.js";
import type { Kind } from "../../../api/kinds/kind.ts";
import type { KubernetesKindName } from "../../../api/kinds/object.ts";
import { typeOfMessage } from "./from-descriptor.ts";
import { typeOfSchema } from "./from-schema.ts";
import { anyType, type JsonType, type ObjectType } from "./json-type.ts";

/** Messages of Kubernetes' own kinds; those of the group "" and their kin, by name. */
export const kindMessages: Readonly<Record<KubernetesKindName, DescMessage>> = {
  ConfigMap: core.ConfigMapSchema,
  Deployment: DeploymentSchema,
  EndpointSlice: EndpointSliceSchema,
  Endpoints: core.EndpointsSchema,
  Event: core.EventSchema,
  Ingress: IngressSchema,
  IngressClass: IngressClassSchema,
  Namespace: core.NamespaceSchema,
  Pod: core.PodSchema,
  Secret: core.SecretSchema,
  Service: core.ServiceSchema,
  ServiceAccount: core.ServiceAccountSchema,
};

const typeMeta: readonly (readonly [string, JsonType])[] = [
  ["apiVersion", { kind: "string" }],
  ["kind", { kind: "string" }],
];

const known = new WeakMap<Kind, ObjectType>();

/** Whether the kind is one of Kubernetes' own, as opposed to those that Kubernetes knows as custom resources. */
export function isBuiltIn(kind: Kind): boolean {
  return Object.hasOwn(kindMessages, kind.kind);
}

export function typeOfKind(kind: Kind): ObjectType {
  const found = known.get(kind);
  if (found) return found;
  const made: ObjectType = { kind: "object", name: kind.kind, fields: new Map([...typeMeta, ...ownFields(kind)]) };
  known.set(kind, made);
  return made;
}

function ownFields(kind: Kind): Iterable<readonly [string, JsonType]> {
  if (isBuiltIn(kind)) {
    const type = typeOfMessage(kindMessages[kind.kind as KubernetesKindName]);
    return type.kind === "object" ? type.fields : [];
  }
  return [
    ["metadata", typeOfMessage(ObjectMetaSchema)],
    ["spec", typeOfSchema(kind.schema)],
    ["status", anyType],
  ];
}

/** The JSON of Kubernetes' messages, from their protobuf descriptors: the names are the same, a few types are written otherwise. */
import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { anyType, type JsonType, type ObjectType } from "./json-type.ts";
import { atomicMaps, listRules } from "./list-rules.ts";

/** Messages whose fields stand in the JSON of the message that holds them. */
export const inlinedFields: ReadonlySet<string> = new Set([
  "ephemeralContainerCommon",
  "handler",
  "ingressRuleValue",
  "localObjectReference",
  "volumeSource",
]);

const special: Readonly<Record<string, JsonType>> = {
  FieldsV1: anyType,
  IntOrString: { kind: "intOrString" },
  MicroTime: { kind: "string", format: "date-time" },
  Quantity: { kind: "intOrString" },
  Time: { kind: "string", format: "date-time" },
  ExtraValue: { kind: "list", element: { kind: "string" }, relation: "atomic", keys: [] },
};

const known = new WeakMap<DescMessage, JsonType>();

export function typeOfMessage(message: DescMessage): JsonType {
  const found = known.get(message);
  if (found) return found;
  const made = special[message.name] ?? objectType(message);
  known.set(message, made);
  return made;
}

function objectType(message: DescMessage): ObjectType {
  const fields = new Map<string, JsonType>();
  for (const field of message.fields) {
    if (field.message && inlinedFields.has(field.name)) {
      const inlined = typeOfMessage(field.message);
      if (inlined.kind === "object") for (const [name, type] of inlined.fields) fields.set(name, type);
    } else {
      fields.set(field.name, typeOfField(message, field));
    }
  }
  return { kind: "object", name: message.name, fields };
}

function typeOfField(message: DescMessage, field: DescField): JsonType {
  const place = `${message.name}.${field.name}`;
  switch (field.fieldKind) {
    case "list": {
      const rule = listRules[place] ?? { relation: "atomic", keys: [] };
      const element =
        field.listKind === "message" ? typeOfMessage(field.message) : scalarType(field.listKind === "scalar" ? field.scalar : undefined);
      return { kind: "list", element, ...rule };
    }
    case "map": {
      const value =
        field.mapKind === "message" ? typeOfMessage(field.message) : scalarType(field.mapKind === "scalar" ? field.scalar : undefined);
      return { kind: "map", value, isAtomic: atomicMaps.has(place) };
    }
    case "message":
      return typeOfMessage(field.message);
    default:
      return scalarType(field.fieldKind === "scalar" ? field.scalar : undefined);
  }
}

function scalarType(scalar: ScalarType | undefined): JsonType {
  switch (scalar) {
    case ScalarType.STRING:
      return { kind: "string" };
    case ScalarType.BOOL:
      return { kind: "boolean" };
    case ScalarType.BYTES:
      return { kind: "string", format: "byte" };
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return { kind: "number" };
    case ScalarType.INT64:
      return { kind: "integer", format: "int64" };
    default:
      return { kind: "integer", format: "int32" };
  }
}

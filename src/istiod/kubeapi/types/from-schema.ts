/** The JSON of Istio's messages, from the schemas by which they are decoded. */
import { jsonName } from "../../../api/schema/decode.ts";
import type { Schema, SchemaNode } from "../../../api/schema/schema.ts";
import { anyType, type JsonType } from "./json-type.ts";

const known = new WeakMap<SchemaNode, JsonType>();

/** Lists are one value each, as in Istio's CRDs, but for these. */
const keyedLists: Readonly<Record<string, readonly string[]>> = { "ServiceEntry.ports": ["name"] };

export function typeOfSchema({ node }: Schema): JsonType {
  const found = known.get(node);
  if (found) return found;
  const made = typeOfNode(node);
  known.set(node, made);
  return made;
}

function typeOfNode(node: SchemaNode): JsonType {
  switch (node.kind) {
    case "string":
      return { kind: "string" };
    case "bool":
      return { kind: "boolean" };
    case "integer":
      return { kind: "integer", format: node.max > 2 ** 32 ? "int64" : "int32" };
    case "double":
      return { kind: "number" };
    case "bytes":
      return { kind: "string", format: "byte" };
    case "duration":
      return { kind: "string", format: "duration" };
    case "intOrString":
      return { kind: "intOrString" };
    case "struct":
    case "anything":
      return anyType;
    case "enum":
      return { kind: "string", values: [...node.numbers.keys()] };
    case "list":
      return { kind: "list", element: typeOfSchema(node.element), relation: "atomic", keys: [] };
    case "map":
      return { kind: "map", value: typeOfSchema(node.value), isAtomic: false };
    case "message": {
      const fields = new Map<string, JsonType>();
      for (const [name, field] of node.fields) {
        const type = typeOfSchema(field);
        const keys = keyedLists[`${node.name}.${name}`];
        fields.set(name, keys && type.kind === "list" ? { ...type, relation: "map", keys } : type);
      }
      return { kind: "object", name: node.name, fields, alias: jsonName };
    }
    default:
      return node satisfies never;
  }
}

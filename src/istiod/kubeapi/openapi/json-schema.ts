/** OpenAPI's form of a type. Objects are components of the document, referred to by name. */
import type { JsonType, ObjectType } from "../types/json-type.ts";

export type JsonSchema = Readonly<Record<string, unknown>>;

export class Components {
  readonly schemas: Record<string, JsonSchema> = {};
  readonly #prefix: string;
  readonly #names = new Map<ObjectType, string>();

  /** `prefix`: of the components' names, `io.istio.networking.v1`. */
  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  /** Also makes the components that the type refers to. */
  schemaOf(type: JsonType): JsonSchema {
    switch (type.kind) {
      case "string":
        return { type: "string", ...(type.values ? { enum: type.values } : {}), ...(type.format ? { format: type.format } : {}) };
      case "boolean":
      case "number":
        return { type: type.kind };
      case "integer":
        return { type: "integer", format: type.format };
      case "intOrString":
        return { format: "int-or-string", oneOf: [{ type: "integer" }, { type: "string" }] };
      case "any":
        return { type: "object", "x-kubernetes-preserve-unknown-fields": true };
      case "list":
        return { type: "array", items: this.schemaOf(type.element), ...listMarks(type) };
      case "map":
        return { type: "object", additionalProperties: this.schemaOf(type.value) };
      case "object": {
        const known = this.#names.get(type);
        const name = known ?? this.#nameFor(type);
        if (known === undefined) {
          this.#names.set(type, name);
          this.schemas[name] = {}; // stands while its fields are gone through, should they come back to it
          this.schemas[name] = {
            type: "object",
            properties: Object.fromEntries([...type.fields].map(([field, inner]) => [field, this.schemaOf(inner)])),
          };
        }
        return { allOf: [{ $ref: `#/components/schemas/${name}` }] };
      }
      default:
        return type satisfies never;
    }
  }

  /** A kind of Istio's and the message of its spec have one name. */
  #nameFor({ name }: ObjectType): string {
    const wanted = `${this.#prefix}.${name}`;
    return wanted in this.schemas ? `${wanted}Spec` : wanted;
  }
}

function listMarks({ relation, keys }: Extract<JsonType, { kind: "list" }>): JsonSchema {
  return { "x-kubernetes-list-type": relation, ...(relation === "map" ? { "x-kubernetes-list-map-keys": keys } : {}) };
}

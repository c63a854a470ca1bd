/**
 * Goes through an object as it was sent: fields that its kind does not have are named and taken out, as an API server does before
 * it stores an object; nulls, which mean that nothing was said, go too.
 */
import { isPlainObject } from "../../../api/schema/decode.ts";
import type { JsonType } from "./json-type.ts";

export interface Structure {
  /** The value without what was taken out; the value itself where nothing was. */
  readonly value: unknown;
  /** `spec.foo`, `spec.containers[0].bar` */
  readonly unknownFields: readonly string[];
  /** Values of another type than the field's. */
  readonly mismatches: readonly { readonly field: string; readonly message: string }[];
}

interface Findings {
  readonly unknownFields: string[];
  readonly mismatches: { field: string; message: string }[];
}

export function checkStructure(value: unknown, type: JsonType): Structure {
  const findings: Findings = { unknownFields: [], mismatches: [] };
  return { value: walk(value, type, "", findings), ...findings };
}

function walk(value: unknown, type: JsonType, path: string, findings: Findings): unknown {
  switch (type.kind) {
    case "any":
      return value;
    case "object": {
      if (!isPlainObject(value)) return mismatch(value, "an object", path, findings);
      const kept: [string, unknown][] = [];
      let isChanged = false;
      for (const [name, item] of Object.entries(value)) {
        const field = type.fields.get(name) ?? (type.alias && type.fields.get(type.alias(name)));
        const place = path === "" ? name : `${path}.${name}`;
        if (!field) findings.unknownFields.push(place);
        const walked = field && item !== null ? walk(item, field, place, findings) : undefined;
        isChanged ||= walked !== item;
        if (walked !== undefined) kept.push([name, walked]);
      }
      return isChanged ? Object.fromEntries(kept) : value;
    }
    case "list": {
      if (!Array.isArray(value)) return mismatch(value, "a list", path, findings);
      const walked = value.map((item, index) => walk(item, type.element, `${path}[${index}]`, findings));
      return walked.some((item, index) => item !== value[index]) ? walked : value;
    }
    case "map": {
      if (!isPlainObject(value)) return mismatch(value, "a map", path, findings);
      const entries = Object.entries(value);
      const walked = entries.map(
        ([name, item]) => [name, item === null ? item : walk(item, type.value, `${path}.${name}`, findings)] as const,
      );
      return walked.some(([, item], index) => item !== entries[index]?.[1]) ? Object.fromEntries(walked) : value;
    }
    case "string":
      return typeof value === "string" ? value : mismatch(value, "a string", path, findings);
    case "boolean":
      return typeof value === "boolean" ? value : mismatch(value, "true or false", path, findings);
    case "integer":
      return Number.isInteger(value) ? value : mismatch(value, "a whole number", path, findings);
    case "number":
      return typeof value === "number" ? value : mismatch(value, "a number", path, findings);
    case "intOrString":
      return typeof value === "number" || typeof value === "string" ? value : mismatch(value, "a number or a string", path, findings);
    default:
      return type satisfies never;
  }
}

function mismatch(value: unknown, wanted: string, field: string, findings: Findings): unknown {
  const found = value === null ? "null" : Array.isArray(value) ? "a list" : typeof value === "object" ? "an object" : `a ${typeof value}`;
  findings.mismatches.push({ field, message: `must be ${wanted}, not ${found}` });
  return value;
}

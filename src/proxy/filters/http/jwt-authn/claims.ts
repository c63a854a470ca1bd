/** Claims as header values and as metadata, in Envoy's forms. */
import type { JsonObject } from "./strict-json.ts";
import { structJson } from "./struct-json.ts";

/** Names from the outside in. */
export type ClaimPath = readonly string[];

/** Latin-1, as headers are; "" where there is nothing to say. Objects and lists are base64 of their JSON. */
export function claimText(claim: unknown): string {
  switch (typeof claim) {
    case "string":
      return Buffer.from(claim, "utf8").toString("latin1");
    case "number":
      return numberText(claim);
    case "boolean":
      return String(claim);
    case "object":
      return claim === null ? "" : Buffer.from(structJson(claim), "utf8").toString("base64");
    default:
      return "";
  }
}

/** Whole numbers that an unsigned 64 bit integer holds as such, all others with six decimals, as C prints them. */
function numberText(value: number): string {
  if (Number.isInteger(value)) {
    const digits = BigInt(value).toString();
    return value >= 0 && value < 2 ** 64 ? digits : `${digits}.000000`;
  }
  const text = value.toFixed(6);
  // Halfway between two, C takes the even one and JavaScript the larger.
  const isHalfway = Number(value.toFixed(7)) === value && value.toFixed(7).endsWith("5") && /[13579]$/.test(text);
  return isHalfway ? value.toFixed(7).slice(0, -1) : text;
}

/** The payload with claims such as `scope` made lists of their words. */
export function withSplitClaims(payload: JsonObject, names: readonly string[]): JsonObject {
  const out: Record<string, unknown> = { ...payload };
  for (const name of names) {
    const claim = Object.hasOwn(payload, name) ? payload[name] : undefined;
    // Named twice, its words come twice.
    if (typeof claim === "string") {
      const before = Array.isArray(out[name]) ? out[name] : [];
      out[name] = [...before, ...claim.split(" ").filter((word) => word !== "")];
    }
  }
  return out;
}

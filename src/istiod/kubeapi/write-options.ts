/** How a write is to be done, from its query. */
import type { ApiRequest } from "./context.ts";
import { ApiError } from "./status.ts";

export interface WriteOptions {
  readonly isDryRun: boolean;
  /** Whose fields what is written becomes. */
  readonly manager: string;
  readonly fieldValidation: "Strict" | "Warn" | "Ignore";
  /** Of server-side apply: takes fields from others. */
  readonly isForced: boolean;
}

const maxManagerLength = 128;

/** Throws ApiError. */
export function writeOptionsOf({ query, userAgent }: ApiRequest): WriteOptions {
  const dryRun = query.getAll("dryRun");
  if (dryRun.some((value) => value !== "All"))
    throw new ApiError(400, `dryRun: unsupported value ${JSON.stringify(dryRun.join())}: supported values: "All"`);
  const fieldValidation = query.get("fieldValidation") || "Warn";
  if (fieldValidation !== "Strict" && fieldValidation !== "Warn" && fieldValidation !== "Ignore")
    throw new ApiError(
      400,
      `fieldValidation: unsupported value ${JSON.stringify(fieldValidation)}: supported values: "Ignore", "Strict", "Warn"`,
    );
  const manager = query.get("fieldManager") || (userAgent.split("/", 1)[0] ?? "").slice(0, maxManagerLength) || "unknown";
  if (manager.length > maxManagerLength || /[^\P{C}]/u.test(manager))
    throw new ApiError(400, `fieldManager: must be at most ${maxManagerLength} printable characters`);
  return { isDryRun: dryRun.length > 0, manager, fieldValidation, isForced: query.get("force") === "true" };
}

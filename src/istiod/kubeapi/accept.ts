/** Which form of an answer the caller takes, by its Accept header. */
import { ApiError } from "./status.ts";

export type Form = "object" | "Table" | "PartialObjectMetadata";

const group = "meta.k8s.io";

interface MediaRange {
  readonly type: string;
  readonly parameters: ReadonlyMap<string, string>;
}

export function parseAccept(accept: string): MediaRange[] {
  return accept.split(",").map((range) => {
    const [type = "", ...parameters] = range.split(";").map((part) => part.trim());
    return {
      type: type.toLowerCase(),
      parameters: new Map(
        parameters.map((parameter) => [parameter.split("=", 1)[0]!, parameter.slice(parameter.indexOf("=") + 1)] as const),
      ),
    };
  });
}

/** The first form of the list that is served; JSON in every case. Throws ApiError when there is none. */
export function negotiateForm(accept: string | undefined): Form {
  if (!accept) return "object";
  for (const { type, parameters } of parseAccept(accept)) {
    if (type !== "application/json" && type !== "*/*" && type !== "application/*") continue;
    const as = parameters.get("as");
    if (as === undefined) return "object";
    if (parameters.get("g") !== group || parameters.get("v") !== "v1") continue;
    if (as === "Table") return "Table";
    if (as === "PartialObjectMetadata" || as === "PartialObjectMetadataList") return "PartialObjectMetadata";
  }
  throw new ApiError(406, "only the following media types are accepted: application/json");
}

import { isPlainObject } from "../schema/decode.ts";
import { bytes, type Infer, map, record, string } from "../schema/schema.ts";
import { ageColumn, defineKubernetesKind } from "./kind.ts";
import { objectAt, textAt, withoutNulls } from "./raw-fields.ts";

const secretSchema = record("Secret", {
  /** `kubernetes.io/tls`, `Opaque` (when it isn't written), ... */
  type: string(),
  data: map(bytes()),
});
export type Secret = Infer<typeof secretSchema>;

export const secret = defineKubernetesKind({
  kind: "Secret",
  group: "",
  plural: "secrets",
  columns: [
    { name: "Type", type: "string", jsonPath: ".type", description: "What its entries mean" },
    {
      name: "Data",
      type: "string",
      cell: (raw) => String(Object.keys(objectAt(raw, "data")).length),
      description: "How many entries it has",
    },
    ageColumn,
  ],
  defaults: (raw) => ({ ...raw, type: textAt(raw, "type") || "Opaque" }),
  selectableFields: { type: (raw) => textAt(raw, "type") },
  schema: secretSchema,
  specAt: "root",
  normalize: withStringData,
});

/** `stringData` is for writing alone: its texts go into `data` and win over what stands there. */
function withStringData(written: Record<string, unknown>): Record<string, unknown> {
  const raw = withoutNulls(written, "data", "stringData");
  const { stringData, ...rest } = raw;
  if (!isPlainObject(stringData)) return raw;
  const encoded = Object.entries(stringData).map(([key, text]) => [
    key,
    typeof text === "string" ? Buffer.from(text).toString("base64") : text,
  ]);
  return { ...rest, data: { ...(isPlainObject(raw.data) ? raw.data : {}), ...Object.fromEntries(encoded) } };
}

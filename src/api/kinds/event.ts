import { type Infer, int32, record, string } from "../schema/schema.ts";
import { objectReferenceSchema } from "./endpoints.ts";
import { defineKubernetesKind } from "./kind.ts";
import { numberAt, objectAt, type RawObject, textAt } from "./raw-fields.ts";

/** Something that happened to an object; for people, no control plane acts on it. */
const eventSchema = record("Event", {
  involvedObject: objectReferenceSchema,
  reason: string(),
  message: string(),
  /** Normal or Warning. */
  type: string(),
  count: int32(),
});
export type Event = Infer<typeof eventSchema>;

const involved = (field: string) => (raw: RawObject) => textAt(raw, "involvedObject", field);

export const event = defineKubernetesKind({
  kind: "Event",
  group: "",
  plural: "events",
  shortNames: ["ev"],
  columns: [
    { name: "Last Seen", type: "date", cell: (raw) => lastSeen(raw), description: "When it happened last" },
    { name: "Type", type: "string", jsonPath: ".type", description: "Normal or Warning" },
    { name: "Reason", type: "string", jsonPath: ".reason", description: "What happened, in one word" },
    {
      name: "Object",
      type: "string",
      cell: (raw) => `${involved("kind")(raw).toLowerCase()}/${involved("name")(raw)}`,
      description: "To whom",
    },
    { name: "Subobject", type: "string", cell: involved("fieldPath"), description: "To which part of it", priority: 1 },
    { name: "Source", type: "string", cell: source, description: "Who says so", priority: 1 },
    { name: "Message", type: "string", cell: (raw) => textAt(raw, "message").trim(), description: "What happened" },
    { name: "First Seen", type: "date", cell: firstSeen, description: "When it happened first", priority: 1 },
    { name: "Count", type: "integer", cell: (raw) => numberAt(raw, "count") ?? 1, description: "How often it happened", priority: 1 },
    { name: "Name", type: "string", jsonPath: ".metadata.name", description: "The event's own name", priority: 1 },
  ],
  selectableFields: {
    "involvedObject.kind": involved("kind"),
    "involvedObject.namespace": involved("namespace"),
    "involvedObject.name": involved("name"),
    "involvedObject.uid": involved("uid"),
    "involvedObject.apiVersion": involved("apiVersion"),
    "involvedObject.fieldPath": involved("fieldPath"),
    reason: (raw) => textAt(raw, "reason"),
    source: (raw) => textAt(raw, "source", "component"),
    type: (raw) => textAt(raw, "type"),
  },
  schema: eventSchema,
  specAt: "root",
});

function firstSeen(raw: RawObject): string {
  return textAt(raw, "firstTimestamp") || textAt(raw, "eventTime") || textAt(raw, "metadata", "creationTimestamp");
}

function lastSeen(raw: RawObject): string {
  return textAt(raw, "series", "lastObservedTime") || textAt(raw, "lastTimestamp") || firstSeen(raw);
}

function source(raw: RawObject): string {
  const { component, host } = objectAt(raw, "source");
  const name = typeof component === "string" && component !== "" ? component : textAt(raw, "reportingComponent");
  return typeof host === "string" && host !== "" ? `${name}, ${host}` : name;
}

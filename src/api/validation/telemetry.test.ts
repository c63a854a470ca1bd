import { describe } from "vitest";
import { itChecks } from "./problems-of.ts";

describe("Telemetry", () => {
  itChecks("Telemetry", [
    [
      "takes tracing, metrics and logs",
      "{ tracing: [{ providers: [{ name: zipkin }], randomSamplingPercentage: 50.5, customTags: { a: { literal: { value: b } } } }], metrics: [{ overrides: [{ match: { metric: REQUEST_COUNT }, tagOverrides: { x: { value: 'y' }, z: { operation: REMOVE } } }] }], accessLogging: [{ filter: { expression: 'response.code >= 400' } }] }",
    ],
    [
      "wants providers' names",
      "{ tracing: [{ providers: [{}] }], metrics: [{ providers: [{}] }], accessLogging: [{ providers: [{}], filter: {} }] }",
      "spec.accessLogging[0].filter.expression: is empty",
      "spec.accessLogging[0].providers[0].name: ",
      "spec.metrics[0].providers[0].name: ",
      "spec.tracing[0].providers[0].name: ",
    ],
    ["wants a share", "tracing: [{ randomSamplingPercentage: 101 }]", "spec.tracing[0].randomSamplingPercentage: 101"],
    [
      "wants complete tags",
      "tracing: [{ customTags: { a: { literal: {} }, b: { header: {} }, c: { environment: {} } } }]",
      "spec.tracing[0].customTags.a.literal.value: ",
      "spec.tracing[0].customTags.b.header.name: ",
      "spec.tracing[0].customTags.c.environment.name: ",
    ],
    [
      "wants overrides that say something",
      "metrics: [{ overrides: [{ match: { customMetric: '' }, tagOverrides: { x: {}, z: { operation: REMOVE, value: 'y' } } }] }]",
      "spec.metrics[0].overrides[0].match.customMetric: is empty",
      "spec.metrics[0].overrides[0].tagOverrides.x.value: is missing",
      "spec.metrics[0].overrides[0].tagOverrides.z.value: can't",
    ],
    [
      "warns of more than it can do",
      "tracing: [{ providers: [{ name: a }, { name: b }] }, {}]",
      "W spec.tracing: more than one entry",
      "W spec.tracing[0].providers: more than one provider",
    ],
  ]);
});

import { describe, expect, it } from "vitest";
import { kindByName } from "../../../api/kinds/index.ts";
import { typeOfKind } from "../types/object-types.ts";
import { applyFields, managedAfterUpdate, type Writer } from "./field-managers.ts";

const deployment = typeOfKind(kindByName("Deployment")!);
const virtualService = typeOfKind(kindByName("VirtualService")!);
const nowMs = Date.parse("2026-01-01T00:00:00Z");

function writer(manager: string, subresource = ""): Writer {
  return { manager, apiVersion: "apps/v1", subresource, nowMs };
}

type Raw = Record<string, unknown> & { metadata: Record<string, unknown> };

function written(spec: unknown, labels: Record<string, string> = {}): Raw {
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "d", ...(Object.keys(labels).length > 0 ? { labels } : {}) },
    spec,
  };
}

/** As the API does it: what is stored has the managed fields with it. */
function updated(before: Raw | undefined, after: Raw, by: Writer): Raw {
  const base = { ...after, metadata: { ...after.metadata, managedFields: before?.metadata.managedFields } };
  return { ...after, metadata: { ...after.metadata, managedFields: managedAfterUpdate(before, base, deployment, by) } };
}

function applied(before: Raw | undefined, object: Raw, by: Writer, isForced = false): Raw {
  return applyFields(before, object, deployment, by, isForced) as Raw;
}

/** `manager operation: fields` */
function owners(object: Raw): string[] {
  const entries = (object.metadata.managedFields ?? []) as {
    manager: string;
    operation: string;
    fieldsV1: unknown;
    subresource?: string;
  }[];
  return entries.map(
    ({ manager, operation, fieldsV1, subresource }) =>
      `${manager}${subresource ? `/${subresource}` : ""} ${operation} ${JSON.stringify(fieldsV1)}`,
  );
}

describe("managed fields", () => {
  it("name who set what, and follow whoever changes it", () => {
    const made = updated(undefined, written({ replicas: 1, paused: true }, { a: "1" }), writer("kubectl-create"));
    expect(owners(made)).toEqual(['kubectl-create Update {"f:metadata":{"f:labels":{"f:a":{}}},"f:spec":{"f:replicas":{},"f:paused":{}}}']);
    const scaled = updated(made, written({ replicas: 2, paused: true }, { a: "1" }), writer("kubectl", "scale"));
    expect(owners(scaled)).toEqual([
      'kubectl-create Update {"f:metadata":{"f:labels":{"f:a":{}}},"f:spec":{"f:paused":{}}}',
      'kubectl/scale Update {"f:spec":{"f:replicas":{}}}',
    ]);
    const same = updated(scaled, written({ replicas: 2, paused: true }, { a: "1" }), { ...writer("other"), nowMs: nowMs + 5000 });
    expect(same.metadata.managedFields).toEqual(scaled.metadata.managedFields);
  });

  it("keep the number of those who update within bounds", () => {
    let object = written({}, {});
    for (let index = 0; index < 15; index++)
      object = updated(object, written({}, { ...(object.metadata.labels as object), [`l${index}`]: "x" }), writer(`m${index}`));
    expect(owners(object)).toHaveLength(10);
    expect(owners(object).filter((line) => line.startsWith("ancient-changes"))).toHaveLength(1);
    for (let index = 0; index < 15; index++) expect(owners(object).join()).toContain(`"f:l${index}"`);
  });
});

describe("server-side apply", () => {
  const container = (name: string, more: object = {}) => ({ name, image: `${name}:1`, ...more });
  const withContainers = (...containers: unknown[]) => written({ template: { spec: { containers } } });
  const containersOf = (object: Raw) => (object.spec as { template?: { spec?: { containers?: unknown } } }).template?.spec?.containers;

  it("adds to what others have, and takes away what it does not apply any more", () => {
    const first = applied(undefined, withContainers(container("a"), container("b")), writer("one"));
    const second = applied(first, withContainers(container("c")), writer("two"));
    expect(containersOf(second)).toEqual([container("a"), container("b"), container("c")]);
    const third = applied(second, withContainers(container("a")), writer("one"));
    expect(containersOf(third)).toEqual([container("a"), container("c")]);
  });

  it("keeps a field that another applies as well, and a part of an item that is another's", () => {
    const both = applied(applied(undefined, written({ replicas: 2 }), writer("one")), written({ replicas: 2 }), writer("two"));
    expect(applied(both, written({}), writer("one")).spec).toEqual({ replicas: 2 });
    const first = applied(undefined, withContainers(container("a", { tty: true })), writer("one"));
    const second = applied(first, withContainers({ name: "a", stdin: true }), writer("two"));
    expect(containersOf(applied(second, withContainers(), writer("one")))).toEqual([{ name: "a", stdin: true }]);
  });

  it("is a conflict where another has set another value, and takes it by force", () => {
    const made = updated(undefined, written({ replicas: 1, paused: true }), writer("kubectl", "scale"));
    expect(() => applied(made, written({ replicas: 3 }), writer("one"))).toThrow(
      'Apply failed with 1 conflict: conflict with "kubectl" with subresource "scale" using apps/v1 at 2026-01-01T00:00:00Z: .spec.replicas',
    );
    expect(() => applied(made, written({ replicas: 3, paused: false }), writer("one"))).toThrow(
      /^Apply failed with 2 conflicts: conflicts with "kubectl" .*:\n- \.spec\.replicas\n- \.spec\.paused$/,
    );
    const forced = applied(made, written({ replicas: 3 }), writer("one"), true);
    expect(forced.spec).toEqual({ replicas: 3, paused: true });
    expect(owners(forced)).toEqual(['kubectl/scale Update {"f:spec":{"f:paused":{}}}', 'one Apply {"f:spec":{"f:replicas":{}}}']);
  });

  it("is no conflict where both say the same, and changes nothing when said twice", () => {
    const made = updated(undefined, written({ replicas: 1 }), writer("kubectl-create"));
    const once = applied(made, written({ replicas: 1 }), writer("one"));
    expect(applied(once, written({ replicas: 1 }), { ...writer("one"), nowMs: nowMs + 60_000 })).toEqual(once);
  });

  it("tells ports apart by number and protocol, which is TCP when it is not said", () => {
    const live = applied(
      undefined,
      withContainers(
        container("a", {
          ports: [
            { containerPort: 53, protocol: "TCP" },
            { containerPort: 53, protocol: "UDP" },
          ],
        }),
      ),
      writer("one"),
    );
    const merged = applied(live, withContainers({ name: "a", ports: [{ containerPort: 53, name: "dns" }] }), writer("two"));
    expect(containersOf(merged)).toEqual([
      container("a", {
        ports: [
          { containerPort: 53, protocol: "TCP", name: "dns" },
          { containerPort: 53, protocol: "UDP" },
        ],
      }),
    ]);
  });

  it("takes a list of a custom kind for one value", () => {
    const route = (host: string) => ({
      apiVersion: "networking.istio.io/v1",
      kind: "VirtualService",
      metadata: { name: "v" },
      spec: { hosts: [host], http: [{ name: host }] },
    });
    const live = applyFields(undefined, route("a"), virtualService, writer("one"), false);
    expect(() => applyFields(live, route("b"), virtualService, writer("two"), false)).toThrow(
      /2 conflicts: conflicts with "one":\n- \.spec\.hosts\n- \.spec\.http/,
    );
    expect(applyFields(live, route("b"), virtualService, writer("two"), true).spec).toEqual(route("b").spec);
  });
});

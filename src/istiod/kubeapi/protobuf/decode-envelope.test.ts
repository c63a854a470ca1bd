import { describe, expect, it } from "vitest";
import { decodeEnvelope } from "./decode-envelope.ts";

/** A message's field in hex: the tag byte, the length, the bytes. */
function field(tag: number, ...content: (string | Uint8Array)[]): Buffer {
  const bytes = Buffer.concat(content.map((part) => Buffer.from(part as string)));
  const length = bytes.length < 128 ? [bytes.length] : [(bytes.length & 0x7f) | 0x80, bytes.length >> 7];
  return Buffer.concat([Buffer.from([tag, ...length]), bytes]);
}

function envelope(apiVersion: string, kind: string, raw: Uint8Array): Buffer {
  return Buffer.concat([
    Buffer.from("k8s\0"),
    field(0x0a, field(0x0a, apiVersion), field(0x12, kind)),
    field(0x12, raw),
    field(0x1a, ""),
    field(0x22, ""),
  ]);
}

const metadata = (name: string) => field(0x0a, field(0x0a, name), field(0x12, ""), field(0x1a, ""), field(0x42)); // name, generateName, namespace, creationTimestamp

/** Bodies as kubectl 1.32 sends them: Go writes the empty fields as well. */
describe("decodeEnvelope", () => {
  it("reads a Namespace, without the fields that say nothing", () => {
    const raw = Buffer.concat([metadata("foo"), field(0x12), field(0x1a, field(0x0a, ""))]);
    expect(decodeEnvelope(envelope("v1", "Namespace", raw))).toEqual({
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name: "foo" },
      spec: {},
      status: {},
    });
  });

  it("reads maps and bytes of a Secret", () => {
    const raw = Buffer.concat([metadata("s"), field(0x12, field(0x0a, "key"), field(0x12, Buffer.from([0, 255]))), field(0x1a, "Opaque")]);
    expect(decodeEnvelope(envelope("v1", "Secret", raw))).toEqual({
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "s" },
      data: { key: "AP8=" },
      type: "Opaque",
    });
  });

  it("reads a Deployment: replicas that are 0 and said, a port by name, a quantity, an inlined probe handler", () => {
    const quantity = field(0x0a, field(0x0a, "cpu"), field(0x12, field(0x0a, "100m")));
    const port = Buffer.concat([Buffer.from([0x08, 1, 0x10, 0]), field(0x1a, "http")]); // IntOrString of type 1
    const probe = field(0x52, field(0x0a, field(0x12, field(0x0a, "/ready"), field(0x12, port))), Buffer.from([0x18, 5])); // livenessProbe: handler.httpGet, timeoutSeconds
    const container = field(0x12, field(0x0a, "app"), field(0x12, "img"), field(0x42, quantity), probe);
    const selector = field(0x12, field(0x0a, field(0x0a, "app"), field(0x12, "x")));
    const spec = field(0x12, Buffer.from([0x08, 0]), selector, field(0x1a, field(0x12, container)), Buffer.from([0x38, 0]));
    expect(decodeEnvelope(envelope("apps/v1", "Deployment", Buffer.concat([metadata("d"), spec])))).toEqual({
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: "d" },
      spec: {
        replicas: 0,
        selector: { matchLabels: { app: "x" } },
        template: {
          spec: {
            containers: [
              {
                name: "app",
                image: "img",
                resources: { limits: { cpu: "100m" } },
                livenessProbe: { httpGet: { path: "/ready", port: "http" }, timeoutSeconds: 5 },
              },
            ],
          },
        },
      },
    });
  });

  it("reads a TokenRequest, and times", () => {
    const spec = field(0x12, field(0x0a, "istio-ca"), Buffer.from([0x20, 0x90, 0x1c]));
    const created = field(0x0a, field(0x0a, ""), field(0x42, Buffer.from([0x08, 0x80, 0xe8, 0xb1, 0xab, 0x06, 0x10, 0])));
    expect(decodeEnvelope(envelope("authentication.k8s.io/v1", "TokenRequest", Buffer.concat([created, spec])))).toMatchObject({
      metadata: { creationTimestamp: "2023-12-03T12:26:40Z" },
      spec: { audiences: ["istio-ca"], expirationSeconds: 3600 },
    });
  });

  it.each<[string, Uint8Array, number, string]>([
    ["a kind that is not served", envelope("batch/v1", "Job", Buffer.alloc(0)), 415, "Job of batch/v1 is taken as JSON only"],
    ["a kind of another group", envelope("v1", "Deployment", Buffer.alloc(0)), 415, "as JSON only"],
    ["a kind of Istio's", envelope("networking.istio.io/v1", "Gateway", Buffer.alloc(0)), 415, "as JSON only"],
    ["a name of Object's own", envelope("v1", "constructor", Buffer.alloc(0)), 415, "as JSON only"],
    ["no kind", envelope("", "", Buffer.alloc(0)), 415, "a nameless object"],
    ["other bytes", Buffer.from("{}"), 400, "not in Kubernetes' protobuf encoding"],
    ["a broken envelope", Buffer.from("k8s\0\xff\xff", "latin1"), 400, "can't be read as protobuf"],
    ["a broken message", envelope("v1", "Secret", Buffer.from([0x0a, 0x7f])), 400, "can't be read as protobuf"],
  ])("refuses %s", (_, body, code, message) => {
    expect(() => decodeEnvelope(body)).toThrow(expect.objectContaining({ code, message: expect.stringContaining(message) }));
  });
});

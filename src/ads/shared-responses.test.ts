import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ClusterSchema } from "../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { typeUrls } from "../api/type-urls.ts";
import { encodeResource } from "./resource.ts";
import { SharedResponses } from "./shared-responses.ts";

const cluster = (name: string) => encodeResource(name, ClusterSchema, create(ClusterSchema, { name }));
const [a, b] = [cluster("a"), cluster("b")];
const content = { typeUrl: typeUrls.cds, version: "1", resources: [a, b], removed: ["gone"] };

let written = 0;
let responses: SharedResponses;

beforeEach(() => {
  vi.useFakeTimers();
  written = 0;
  responses = new SharedResponses(({ nonce }) => {
    written++;
    return Buffer.from(nonce);
  });
});
afterEach(() => vi.useRealTimers());

describe("SharedResponses", () => {
  it("writes once what several streams get", () => {
    const first = responses.get(content, "");
    expect(responses.get({ ...content, resources: [a, b], removed: ["gone"] }, "")).toBe(first);
    expect(written).toBe(1);
  });

  it.each([
    ["another type", { typeUrl: typeUrls.lds }],
    ["another version", { version: "2" }],
    ["other resources", { resources: [a] }],
    ["another order", { resources: [b, a] }],
    ["others that are gone", { removed: [] }],
  ])("writes anew what has %s", (_, other) => {
    const first = responses.get(content, "");
    expect(responses.get({ ...content, ...other }, "").nonce).not.toBe(first.nonce);
    expect(written).toBe(2);
  });

  it("never gives one stream the same nonce twice in a row", () => {
    const first = responses.get(content, "");
    const second = responses.get(content, first.nonce);
    expect(second.nonce).not.toBe(first.nonce);
    expect(responses.get(content, second.nonce).nonce).not.toBe(second.nonce);
  });

  it("forgets what nobody asks for any more", () => {
    const first = responses.get(content, "");
    vi.advanceTimersByTime(900);
    expect(responses.get(content, "")).toBe(first);
    vi.advanceTimersByTime(2000);
    expect(responses.get(content, "")).not.toBe(first);
  });

  it("keeps no more than so many bytes, those that were used last", () => {
    const sized = new SharedResponses(() => {
      written++;
      return Buffer.alloc(8 * 1024 * 1024);
    });
    const get = (version: string) => sized.get({ ...content, version }, "");
    for (const version of ["1", "2", "3", "4"]) get(version);
    get("1");
    get("5");
    expect(written).toBe(5);
    get("1");
    expect(written).toBe(5);
    get("2");
    expect(written).toBe(6);
  });
});

import { create, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import type { XdsHandler, XdsResource } from "../../ads/client.ts";
import { SecretSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { typeUrls } from "../../api/type-urls.ts";
import type { ConfigSources } from "./config-sources.ts";
import { NamedResources } from "./named-resources.ts";

/** Secrets whose control plane is the test; everything that is said to it and heard of it. */
function secrets() {
  const asked: string[][] = [];
  const heard: string[] = [];
  const memory = new Set<unknown>();
  let handler: XdsHandler = async () => undefined;
  const sources = {
    key: () => "ads",
    check() {},
    subscribe(_type: string, _source: unknown, _isWildcard: boolean, given: XdsHandler) {
      handler = given;
      return { setNames: (names: Iterable<string>) => asked.push([...names]) };
    },
  } as unknown as ConfigSources;
  const resources = new NamedResources({
    typeUrl: typeUrls.sds,
    schema: SecretSchema,
    nameOf: ({ name }) => name,
    sources,
    validate() {},
    async onChange({ name, bytes }) {
      heard.push(name);
      memory.add(bytes.buffer);
    },
    onForgotten: (name) => heard.push(`-${name}`),
  });
  const answer = (...names: string[]) => {
    const content = names.map((name): XdsResource => {
      const value = toBinary(SecretSchema, create(SecretSchema, { name, type: { case: "genericSecret", value: {} } }));
      return { name, version: "1", content: create(AnySchema, { typeUrl: typeUrls.sds, value }) };
    });
    return handler({ resources: content, removed: [], version: "1", isFull: true });
  };
  return { resources, asked, heard, memory, answer };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("NamedResources", () => {
  it("asks for all names of a turn at once", async () => {
    const { resources, asked } = secrets();
    const names = Array.from({ length: 1000 }, (_, index) => `secret-${index}`);
    const holds = names.map((name) => resources.acquire(name, undefined));
    await turn();
    expect(asked).toEqual([names]);
    for (const hold of holds) hold.release();
    await turn();
    expect(asked).toEqual([names, []]);
  });

  it("keeps what one lets go of and another takes up in the same turn, and tells of what nobody does", async () => {
    const { resources, asked, heard, answer } = secrets();
    const [kept, gone] = [resources.acquire("kept", undefined), resources.acquire("gone", undefined)];
    await turn();
    await answer("kept", "gone");
    kept.release();
    gone.release();
    const again = resources.acquire("kept", undefined);
    expect(again.current?.name).toBe("kept");
    await turn();
    expect(asked).toEqual([["kept", "gone"], ["kept"]]);
    expect(heard).toEqual(["kept", "gone", "-gone"]);
    // It is another one's now: the first can't let go of it twice.
    kept.release();
    await turn();
    expect(again.current?.name).toBe("kept");
  });

  it("tells of what has come again as it was to nobody", async () => {
    const { resources, heard, answer } = secrets();
    const hold = resources.acquire("a", undefined);
    await answer("a");
    const { bytes } = hold.current!;
    await answer("a");
    expect(heard).toEqual(["a"]);
    expect(hold.current!.bytes).toBe(bytes);
    expect(hold.current!.decode().name).toBe("a");
  });

  it("puts what came together into one piece of shared memory", async () => {
    const { resources, memory, answer } = secrets();
    for (const name of ["a", "b", "c"]) resources.acquire(name, undefined);
    await answer("a", "b", "c");
    expect([...memory].map((buffer) => buffer instanceof SharedArrayBuffer)).toEqual([true]);
  });
});

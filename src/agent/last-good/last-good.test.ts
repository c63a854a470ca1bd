import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ClusterSchema } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
  DiscoveryRequestSchema,
  DiscoveryResponseSchema,
} from "../../api/gen/envoy/service/discovery/v3/discovery_pb.js";
import { typeUrls } from "../../api/type-urls.ts";
import { Troubles } from "../troubles.ts";
import { AcceptedConfig } from "./accepted-config.ts";
import { LastGoodConfig } from "./last-good-config.ts";

const { cds, eds } = typeUrls;
const resource = (name: string, text = name, typeUrl: string = cds) => ({ typeUrl, name, version: `v-${text}`, bytes: Buffer.from(text) });
const texts = (config: LastGoodConfig, typeUrl: string = cds) =>
  config.resources(typeUrl).map(({ name, bytes }) => `${name}=${Buffer.from(bytes)}`);

describe("LastGoodConfig", () => {
  let directory: string;
  let path: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "topsail-last-good-"));
    path = join(directory, "last-good");
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  const save = async (node = "node") => {
    await using config = await LastGoodConfig.load(path, node, new Troubles());
    config.accept(cds, [resource("a"), resource("b")], [], true);
    config.accept(eds, [resource("a", "endpoints", eds)], [], false);
    config.accept(cds, [resource("c")], ["a"], false);
    config.accept(cds, [resource("b", "newer")], [], false);
  };

  it("is what was accepted, for its owner alone", async () => {
    await save();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const config = await LastGoodConfig.load(path, "node", new Troubles());
    expect(texts(config)).toEqual(["b=newer", "c=c"]);
    expect(texts(config, eds)).toEqual(["a=endpoints"]);
    expect(config.resources(cds)[0]!.version).toBe("v-newer");
    expect(Date.now() - config.savedAt!.getTime()).toBeLessThan(60_000);
  });

  it("is nothing before anything was accepted", async () => {
    const config = await LastGoodConfig.load(path, "node", new Troubles());
    expect([config.savedAt, texts(config)]).toEqual([undefined, []]);
  });

  const damages: readonly [string, (file: Buffer) => Buffer][] = [
    ["a byte that changed", (file) => Buffer.from(file.map((byte, index) => (index === file.length - 3 ? byte ^ 1 : byte)))],
    ["an end that is missing", (file) => file.subarray(0, file.length - 4)],
    ["another file", () => Buffer.from("something else, and long enough to be one of ours if it were to be read")],
    ["nothing in it", () => Buffer.alloc(0)],
  ];
  it.each(damages)("is not believed with %s", async (_, damage) => {
    await save();
    writeFileSync(path, damage(readFileSync(path)));
    const config = await LastGoodConfig.load(path, "node", new Troubles());
    expect([config.savedAt, texts(config), texts(config, eds)]).toEqual([undefined, [], []]);
  });

  it("is not another node's, but the same one's when it has another address", async () => {
    await save("sidecar~10.0.0.5~vm.shop~shop.svc.cluster.local");
    const savedFor = async (node: string) => (await LastGoodConfig.load(path, node, new Troubles())).savedAt !== undefined;
    expect(await savedFor("sidecar~10.0.0.6~vm.shop~shop.svc.cluster.local")).toBe(true);
    expect(await savedFor("sidecar~10.0.0.5~other.shop~shop.svc.cluster.local")).toBe(false);
    expect(await savedFor("router~10.0.0.5~vm.shop~shop.svc.cluster.local")).toBe(false);
  });

  it("stays as it was where it can't be written", async () => {
    await save();
    const troubles = new Troubles();
    const config = await LastGoodConfig.load(join(path, "file"), "node", troubles);
    config.accept(cds, [resource("x")], [], true);
    await config[Symbol.asyncDispose]();
    expect(troubles.present).toEqual([expect.stringMatching(/^the last good configuration can't be kept on disk: .*ENOTDIR|EEXIST/)]);
    expect(texts(await LastGoodConfig.load(path, "node", new Troubles()))).toEqual(["b=newer", "c=c"]);
  });
});

describe("AcceptedConfig", () => {
  const follow = (isDelta: boolean) => {
    const seen: unknown[] = [];
    const accepted = new AcceptedConfig(isDelta, (typeUrl, changed, removed, isWhole) =>
      seen.push([typeUrl, changed.map(({ name }) => name), removed, isWhole]),
    );
    return { seen, accepted };
  };
  const cluster = (name: string) => ({ typeUrl: cds, value: toBinary(ClusterSchema, create(ClusterSchema, { name })) });

  it("takes over what a delta client acknowledged, and not what it refused or has not answered", () => {
    const { seen, accepted } = follow(true);
    const respond = (nonce: string, name: string, removedResources: string[] = []) =>
      accepted.onResponse(
        toBinary(
          DeltaDiscoveryResponseSchema,
          create(DeltaDiscoveryResponseSchema, {
            typeUrl: cds,
            nonce,
            resources: [{ name, version: "1", resource: cluster(name) }],
            removedResources,
          }),
        ),
      );
    const answer = (responseNonce: string, error?: string) =>
      accepted.onRequest(
        toBinary(
          DeltaDiscoveryRequestSchema,
          create(DeltaDiscoveryRequestSchema, {
            typeUrl: cds,
            responseNonce,
            ...(error ? { errorDetail: { code: 3, message: error } } : {}),
          }),
        ),
      );
    respond("1", "a");
    respond("2", "bad");
    respond("3", "c", ["old"]);
    expect(seen).toEqual([]);
    answer("1");
    answer("2", "no");
    answer("");
    answer("3");
    answer("3");
    expect(seen).toEqual([
      [cds, ["a"], [], false],
      [cds, ["c"], ["old"], false],
    ]);
  });

  it("knows the names of a state-of-the-world response, and which types it holds all of", () => {
    const { seen, accepted } = follow(false);
    for (const [typeUrl, nonce] of [
      [cds, "1"],
      [eds, "2"],
    ] as const) {
      const resources = [cluster("a"), cluster("b")];
      accepted.onResponse(
        toBinary(DiscoveryResponseSchema, create(DiscoveryResponseSchema, { typeUrl, nonce, versionInfo: "7", resources })),
      );
      accepted.onRequest(toBinary(DiscoveryRequestSchema, create(DiscoveryRequestSchema, { typeUrl, responseNonce: nonce })));
    }
    expect(seen).toEqual([
      [cds, ["a", "b"], [], true],
      [eds, ["a", "b"], [], false],
    ]);
  });

  it("leaves what is no message to the client", () => {
    const { seen, accepted } = follow(true);
    accepted.onResponse(Buffer.from([0xff, 0xff, 0xff]));
    accepted.onRequest(Buffer.from([0xff, 0xff, 0xff]));
    expect(seen).toEqual([]);
  });
});

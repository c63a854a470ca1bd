import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { JwksResolver, type JwksResolverOptions } from "./jwks-resolver.ts";
import type { JwksSource } from "./jwks-source.ts";

const source = (url: string): JwksSource => ({ kind: "keys", url, timeoutMs: 1000 });
const set = (...ids: string[]) => JSON.stringify({ keys: ids.map((kid) => ({ kty: "oct", kid, k: "AAAA" })) });

/** What servers say, by URL; an Error is thrown. */
let answers: Map<string, string | Error>;
let asked: string[];
let observed: string[];

async function start(options: JwksResolverOptions = {}): Promise<JwksResolver> {
  const resolver = await JwksResolver.start({
    fetchText: async (url) => {
      asked.push(url);
      const answer = answers.get(url) ?? new Error("status 404");
      if (answer instanceof Error) throw answer;
      return answer;
    },
    ...options,
  });
  resolver.observe({ onChange: () => observed.push("change"), onFetched: (isSuccess) => observed.push(isSuccess ? "ok" : "failed") });
  return resolver;
}

beforeEach(() => {
  vi.useFakeTimers();
  answers = new Map();
  asked = [];
  observed = [];
});
afterEach(() => void vi.useRealTimers());

describe("JwksResolver", () => {
  it("has the keys when who wants them goes on, and tells nobody else", async () => {
    answers.set("http://a", set("1"));
    await using resolver = await start();
    await resolver.want([source("http://a"), source("http://a")], 1000);
    expect(resolver.snapshot().keys(source("http://a"))).toBe(set("1"));
    expect([asked, observed]).toEqual([["http://a"], ["ok"]]);
  });

  it("finds keys by the issuer's document", async () => {
    const discovery = { kind: "discovery" as const, url: "http://i/.well-known/openid-configuration", timeoutMs: 1000 };
    answers.set(discovery.url, '{"issuer": "http://i", "jwks_uri": "http://k"}');
    answers.set("http://k", set("1"));
    await using resolver = await start();
    await resolver.want([discovery], 1000);
    expect(resolver.snapshot().keys(discovery)).toBe(set("1"));
  });

  it.each([
    ["<html>", "the answer is not JSON"],
    ["[]", "the answer is not a JSON object"],
    ["{}", "the answer has no keys"],
    ['{"keys": {}}', "the answer has keys that are not a list"],
    ['{"keys": []}', "the answer has no key of a type that can be used"],
    ['{"keys": [{"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}]}', "the answer has no key of a type that can be used"],
    ['{"keys": [{"kty": "RSA", "n": 5, "e": "AQAB"}]}', "the answer has no key of a type that can be used"],
  ])("takes %s for no keys", async (text, problem) => {
    answers.set("http://a", text);
    await using resolver = await start();
    await resolver.want([source("http://a")], 1000);
    expect(resolver.snapshot().keys(source("http://a"))).toBeUndefined();
    expect(resolver.snapshot().problem(source("http://a"))).toContain(problem);
  });

  it("hands on keys and nothing else of what the server said", async () => {
    answers.set("http://a", '{"keys": [{"kty": "oct", "k": "AAAA"}], "internal": "secret"}');
    await using resolver = await start();
    await resolver.want([source("http://a")], 1000);
    expect(resolver.snapshot().keys(source("http://a"))).not.toContain("secret");
  });

  it("asks again every 20 minutes or so, and tells of keys that differ", async () => {
    answers.set("http://a", set("1", "2"));
    await using resolver = await start();
    await resolver.want([source("http://a")], 1000);
    await vi.advanceTimersByTimeAsync(17 * 60_000);
    expect(asked).toHaveLength(1);
    answers.set("http://a", set("2", "1"));
    await vi.advanceTimersByTimeAsync(6 * 60_000);
    expect(asked).toHaveLength(2);
    expect(observed).toEqual(["ok", "ok"]);
    answers.set("http://a", set("3"));
    await vi.advanceTimersByTimeAsync(23 * 60_000);
    expect(observed).toEqual(["ok", "ok", "ok", "change"]);
    expect(resolver.snapshot().keys(source("http://a"))).toBe(set("3"));
  });

  it("keeps old keys through an outage, tells of its begin and end, and is in no hurry", async () => {
    answers.set("http://a", set("1"));
    await using resolver = await start();
    await resolver.want([source("http://a")], 1000);
    answers.set("http://a", new Error("status 503"));
    await vi.advanceTimersByTimeAsync(22 * 60_000);
    const tries = asked.length;
    await vi.advanceTimersByTimeAsync(10 * 60_000);
    expect(asked.length - tries).toBeLessThan(10);
    expect(resolver.snapshot().keys(source("http://a"))).toBe(set("1"));
    expect(resolver.snapshot().problem(source("http://a"))).toBe("status 503");
    answers.set("http://a", set("1"));
    await vi.advanceTimersByTimeAsync(22 * 60_000);
    expect(resolver.snapshot().problem(source("http://a"))).toBeUndefined();
    expect(observed.filter((event) => event === "change")).toHaveLength(2);
  });

  it("asks soon again where there are no keys yet, each time a little later", async () => {
    await using resolver = await start();
    await resolver.want([source("http://a")], 1000);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(asked.length).toBeGreaterThanOrEqual(4);
    expect(asked.length).toBeLessThanOrEqual(5);
    answers.set("http://a", set("1"));
    await vi.advanceTimersByTimeAsync(20_000);
    expect(resolver.snapshot().keys(source("http://a"))).toBe(set("1"));
    expect(observed.at(-1)).toBe("change");
  });

  it("lets nobody wait longer than his patience, and tells when the answer comes after all", async () => {
    let answer = (_: string) => {};
    await using resolver = await start({ fetchText: () => new Promise((resolve) => (answer = resolve)) });
    const wanted = resolver.want([source("http://slow")], 1000);
    await vi.advanceTimersByTimeAsync(1000);
    await wanted;
    expect(resolver.snapshot().keys(source("http://slow"))).toBeUndefined();
    answer(set("1"));
    await vi.advanceTimersByTimeAsync(0);
    expect(observed).toEqual(["ok", "change"]);
  });

  it("forgets what nobody wants any more", async () => {
    answers.set("http://a", set("1"));
    await using resolver = await start();
    await resolver.want([source("http://a")], 1000);
    await resolver.want([], 1000);
    await vi.advanceTimersByTimeAsync(60 * 60_000);
    expect(asked).toHaveLength(1);
    expect(resolver.snapshot().keys(source("http://a"))).toBeUndefined();
  });

  it("does not change a snapshot that was taken", async () => {
    answers.set("http://a", set("1"));
    await using resolver = await start();
    await resolver.want([source("http://a")], 1000);
    const taken = resolver.snapshot();
    answers.set("http://a", set("2"));
    await vi.advanceTimersByTimeAsync(23 * 60_000);
    expect(taken.keys(source("http://a"))).toBe(set("1"));
  });

  it("has the keys of its last run when the issuer is down", async () => {
    vi.useRealTimers();
    const directory = await mkdtemp(join(tmpdir(), "topsail-jwks-"));
    try {
      const cacheFile = join(directory, "keys.json");
      answers.set("http://a", set("1"));
      {
        await using resolver = await start({ cacheFile });
        await resolver.want([source("http://a")], 1000);
      }
      answers.clear();
      await using resolver = await start({ cacheFile });
      await resolver.want([source("http://a")], 1000);
      expect(resolver.snapshot().keys(source("http://a"))).toBe(set("1"));
      await writeFile(cacheFile, "{broken");
      await using other = await start({ cacheFile });
      await other.want([source("http://a")], 1000);
      expect(other.snapshot().keys(source("http://a"))).toBeUndefined();
      expect(await readFile(cacheFile, "utf8")).toBe("{broken");
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});

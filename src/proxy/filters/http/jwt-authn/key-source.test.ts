import * as crypto from "node:crypto";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { AsyncClient, AsyncDone, AsyncRequest } from "../../../upstream/async-client.ts";
import type { Jwt } from "./jwt.ts";
import { type KeySet, RemoteKeys, type RemoteKeysOptions } from "./key-source.ts";

const jwks = () => Buffer.from(JSON.stringify({ keys: [crypto.generateKeyPairSync("ed25519").publicKey.export({ format: "jwk" })] }));
const [first, second] = [jwks(), jwks()];
const ok = (body: Buffer) => ({ status: 200, headers: [], body, tookMs: 0 });

/** A server of keys whose answers the test gives. */
class FakeClient {
  readonly asked: { answer: AsyncDone; isCancelled: boolean }[] = [];

  send(_cluster: string, _request: AsyncRequest, done: AsyncDone) {
    const call = { answer: done, isCancelled: false };
    this.asked.push(call);
    return { cancel: () => (call.isCancelled = true) };
  }

  /** Answers the last request. */
  answer(outcome: Parameters<AsyncDone>[0]): void {
    this.asked.at(-1)!.answer(outcome);
  }
}

let client: FakeClient;
const fetched: boolean[] = [];

function remoteKeys(options: Partial<RemoteKeysOptions> = {}): RemoteKeys {
  return new RemoteKeys({
    client: client as unknown as AsyncClient,
    cluster: "keys",
    request: {} as AsyncRequest,
    cacheLimits: { maxTokens: 10, maxTokenLength: 100 },
    cacheDurationMs: 60_000,
    ahead: null,
    onFetched: (isSuccess) => fetched.push(isSuccess),
    ...options,
  });
}

function ask(keys: RemoteKeys): (KeySet | null)[] {
  const answers: (KeySet | null)[] = [];
  keys.fetch((set) => answers.push(set));
  return answers;
}

beforeEach(() => {
  vi.useFakeTimers();
  client = new FakeClient();
  fetched.length = 0;
});
afterEach(() => vi.useRealTimers());

describe("RemoteKeys", () => {
  it("asks once for all who wait", () => {
    const keys = remoteKeys();
    expect(keys.fresh).toBeNull();
    const answers = [ask(keys), ask(keys), ask(keys)];
    expect(client.asked).toHaveLength(1);
    client.answer(ok(first!));
    expect(answers.map(([set]) => set)).toEqual([keys.known, keys.known, keys.known]);
    expect(keys.fresh).toBe(keys.known);
    expect(fetched).toEqual([true]);
  });

  it("asks again when keys are too old", () => {
    const keys = remoteKeys();
    ask(keys);
    client.answer(ok(first!));
    vi.advanceTimersByTime(59_999);
    expect(keys.fresh).not.toBeNull();
    vi.advanceTimersByTime(2);
    expect(keys.fresh).toBeNull();
    expect(keys.known).not.toBeNull();
  });

  it("forgets verified tokens with the keys that they were verified by, and only then", () => {
    const keys = remoteKeys();
    ask(keys);
    client.answer(ok(first!));
    keys.known!.verified.add("token", {} as Jwt);
    ask(keys);
    client.answer(ok(Buffer.from(first!)));
    expect(keys.known!.verified.get("token")).toBeDefined();
    ask(keys);
    client.answer(ok(second!));
    expect(keys.known!.verified.get("token")).toBeUndefined();
    ask(keys);
    client.answer(ok(first!));
    expect(keys.known!.verified.get("token")).toBeUndefined();
  });

  it.each([
    ["a failure", "connectionFailure" as const],
    ["an error", { status: 500, headers: [], body: first!, tookMs: 0 }],
    ["an empty answer", ok(Buffer.alloc(0))],
    ["keys that are none", ok(Buffer.from('{"keys":[]}'))],
  ])("keeps its keys through %s", (_name, outcome) => {
    const keys = remoteKeys();
    ask(keys);
    client.answer(ok(first!));
    const before = keys.known;
    vi.advanceTimersByTime(60_001);
    const answers = ask(keys);
    client.answer(outcome);
    expect(answers).toEqual([before]);
    expect(fetched).toEqual([true, false]);
    // For a second nobody has to wait for the server that is down.
    expect(keys.fresh).toBe(before);
    vi.advanceTimersByTime(1001);
    expect(keys.fresh).toBeNull();
  });

  it("says that there are none when there never were", () => {
    const keys = remoteKeys();
    const answers = ask(keys);
    client.answer("timeout");
    expect(answers).toEqual([null]);
    expect(keys.fresh).toBeNull();
  });

  describe("asked ahead", () => {
    const ahead = { holdsListener: true, failedRefetchMs: 2000 };

    it("makes the listener wait for the first answer, whatever it is", async () => {
      for (const outcome of [ok(first!), "timeout" as const]) {
        const keys = remoteKeys({ ahead });
        const wait = keys.start();
        expect(wait).toBeInstanceOf(Promise);
        client.answer(outcome);
        await expect(wait).resolves.toBeUndefined();
        keys.dispose();
      }
    });

    it("lets a fast listener go ahead", () => {
      expect(remoteKeys({ ahead: { ...ahead, holdsListener: false } }).start()).toBeUndefined();
      expect(client.asked).toHaveLength(1);
    });

    it("does not begin twice", () => {
      const keys = remoteKeys({ ahead });
      void keys.start();
      expect(keys.start()).toBeUndefined();
      expect(client.asked).toHaveLength(1);
    });

    it("asks again before the keys are too old, and soon after a failure", () => {
      const keys = remoteKeys({ ahead });
      void keys.start();
      client.answer(ok(first!));
      vi.advanceTimersByTime(54_999);
      expect(client.asked).toHaveLength(1);
      vi.advanceTimersByTime(1);
      expect(client.asked).toHaveLength(2);
      client.answer("timeout");
      vi.advanceTimersByTime(2000);
      expect(client.asked).toHaveLength(3);
      // Meanwhile, and for as long as it takes, the old ones do.
      vi.advanceTimersByTime(3_600_000);
      expect(keys.fresh).not.toBeNull();
      keys.dispose();
    });

    it("asks no more when its listener is gone, and leaves nobody waiting", async () => {
      const keys = remoteKeys({ ahead });
      const wait = keys.start();
      keys.dispose();
      await wait;
      expect(client.asked[0]!.isCancelled).toBe(true);
      const again = remoteKeys({ ahead });
      void again.start();
      client.answer(ok(first!));
      again.dispose();
      vi.advanceTimersByTime(3_600_000);
      expect(client.asked).toHaveLength(2);
    });
  });
});

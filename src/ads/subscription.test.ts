import { describe, expect, it } from "vitest";
import { typeUrls } from "../api/type-urls.ts";
import { HeldResources } from "./held-resources.ts";
import { type DeltaRequest, type SotwRequest, Subscriptions } from "./subscription.ts";

const { cds, eds, lds } = typeUrls;

function sotw(typeUrl: string, resourceNames: string[], responseNonce = "", errorMessage?: string): SotwRequest {
  return { typeUrl, resourceNames, responseNonce, errorMessage };
}

function delta(typeUrl: string, change: Partial<DeltaRequest> = {}): DeltaRequest {
  return { typeUrl, subscribe: [], unsubscribe: [], initialVersions: {}, responseNonce: "", errorMessage: undefined, ...change };
}

/** As the server does when it answers. */
function answered(subscriptions: Subscriptions, typeUrl: string, nonce: string): void {
  subscriptions.watches.get(typeUrl)!.nonceSent = nonce;
}

describe("Subscriptions, state of the world", () => {
  it("answers a first request with everything asked", () => {
    const subscriptions = new Subscriptions();
    expect(subscriptions.decideSotw(sotw(cds, []))).toEqual({ kind: "respond", isFirst: true });
    expect(subscriptions.watches.get(cds)?.isWildcard).toBe(true);
    expect(subscriptions.decideSotw(sotw(eds, ["a"]))).toEqual({ kind: "respond", isFirst: true });
    expect(subscriptions.watches.get(eds)?.isWildcard).toBe(false);
  });

  it("takes an echo of the last nonce with the same names as an ACK", () => {
    const subscriptions = new Subscriptions();
    subscriptions.decideSotw(sotw(eds, ["a"]));
    answered(subscriptions, eds, "n1");
    expect(subscriptions.decideSotw(sotw(eds, ["a"], "n1"))).toEqual({ kind: "ack" });
    expect(subscriptions.watches.get(eds)?.nonceAcked).toBe("n1");
  });

  it("answers added names alone, and nothing when names only went away", () => {
    const subscriptions = new Subscriptions();
    subscriptions.decideSotw(sotw(eds, ["a"]));
    answered(subscriptions, eds, "n1");
    expect(subscriptions.decideSotw(sotw(eds, ["a", "b"], "n1"))).toEqual({ kind: "respond", names: new Set(["b"]), isFirst: false });
    expect(subscriptions.decideSotw(sotw(eds, ["b"], "n1"))).toEqual({ kind: "narrowed" });
  });

  it("answers listeners and clusters whole when names are added, since what is left away is gone", () => {
    const subscriptions = new Subscriptions();
    subscriptions.decideSotw(sotw(lds, ["a"]));
    answered(subscriptions, lds, "n1");
    expect(subscriptions.decideSotw(sotw(lds, ["a", "b"], "n1"))).toEqual({ kind: "respond", isFirst: false });
  });

  it("passes over a nonce that is not the last one", () => {
    const subscriptions = new Subscriptions();
    subscriptions.decideSotw(sotw(eds, ["a"]));
    answered(subscriptions, eds, "n2");
    expect(subscriptions.decideSotw(sotw(eds, ["a", "b"], "n1"))).toEqual({ kind: "stale" });
  });

  it("keeps the reason of a NACK until the next ACK, and never answers it", () => {
    const subscriptions = new Subscriptions();
    subscriptions.decideSotw(sotw(lds, []));
    answered(subscriptions, lds, "n1");
    expect(subscriptions.decideSotw(sotw(lds, [], "n1", "bad listener"))).toEqual({ kind: "nack", message: "bad listener" });
    expect(subscriptions.watches.get(lds)?.lastError).toBe("bad listener");
    answered(subscriptions, lds, "n2");
    subscriptions.decideSotw(sotw(lds, [], "n2"));
    expect(subscriptions.watches.get(lds)?.lastError).toBeUndefined();
  });

  it("ends the subscription to a named type when no name is left", () => {
    const subscriptions = new Subscriptions();
    subscriptions.decideSotw(sotw(eds, ["a"]));
    answered(subscriptions, eds, "n1");
    expect(subscriptions.decideSotw(sotw(eds, [], "n1"))).toEqual({ kind: "unsubscribe" });
    expect(subscriptions.watches.has(eds)).toBe(false);
  });

  it("answers the next EDS request after a new CDS subscription although it looks like an ACK", () => {
    const subscriptions = new Subscriptions();
    subscriptions.decideSotw(sotw(eds, ["a"]));
    answered(subscriptions, eds, "n1");
    subscriptions.decideSotw(sotw(cds, []));
    expect(subscriptions.decideSotw(sotw(eds, ["a"], "n1"))).toEqual({ kind: "respond", isFirst: false });
    expect(subscriptions.decideSotw(sotw(eds, ["a"], "n1"))).toEqual({ kind: "ack" });
  });
});

describe("Subscriptions, delta", () => {
  it("takes a first request without names as one for everything where the type has an everything", () => {
    const subscriptions = new Subscriptions();
    expect(subscriptions.decideDelta(delta(cds))).toEqual({ kind: "respond", isFirst: true });
    expect(subscriptions.watches.get(cds)?.isWildcard).toBe(true);
    expect(subscriptions.decideDelta(delta(eds))).toEqual({ kind: "ack" });
    expect(subscriptions.watches.get(eds)?.isWildcard).toBe(false);
  });

  it("remembers what a client that comes back already has", () => {
    const subscriptions = new Subscriptions();
    subscriptions.decideDelta(delta(eds, { subscribe: ["a"], initialVersions: { a: "v1" } }));
    expect(subscriptions.watches.get(eds)?.held.version("a")).toBe("v1");
  });

  it("forgets the version of a name that is asked for again", () => {
    const subscriptions = new Subscriptions();
    subscriptions.decideDelta(delta(eds, { subscribe: ["a"] }));
    const watch = subscriptions.watches.get(eds)!;
    watch.nonceSent = "n1";
    watch.held = HeldResources.of([["a", "v1"]]);
    expect(subscriptions.decideDelta(delta(eds, { subscribe: ["a"] }))).toEqual({ kind: "respond", names: new Set(["a"]), isFirst: false });
    expect(watch.held.has("a")).toBe(false);
  });

  it("answers nothing to an unsubscription, a plain ACK or an old nonce", () => {
    const subscriptions = new Subscriptions();
    subscriptions.decideDelta(delta(eds, { subscribe: ["a", "b"] }));
    answered(subscriptions, eds, "n2");
    expect(subscriptions.decideDelta(delta(eds, { unsubscribe: ["b"] }))).toEqual({ kind: "narrowed" });
    expect(subscriptions.decideDelta(delta(eds, { responseNonce: "n2" }))).toEqual({ kind: "ack" });
    expect(subscriptions.decideDelta(delta(eds, { responseNonce: "n1" }))).toEqual({ kind: "stale" });
    expect(subscriptions.decideDelta(delta(eds, { subscribe: ["c"], responseNonce: "n1" }))).toEqual({
      kind: "stale",
      names: new Set(["c"]),
    });
    expect([...subscriptions.watches.get(eds)!.names]).toEqual(["a", "c"]);
  });

  it("ends a wildcard by unsubscribing from it", () => {
    const subscriptions = new Subscriptions();
    subscriptions.decideDelta(delta(cds, { subscribe: ["*"] }));
    subscriptions.decideDelta(delta(cds, { unsubscribe: ["*"] }));
    expect(subscriptions.watches.get(cds)?.isWildcard).toBe(false);
  });
});

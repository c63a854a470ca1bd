import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { type AdminRequest, AdminResponseSchema } from "../../api/gen/topsail/agent/v1/relay_pb.js";
import { AgentRelay, maxAnswerBytes } from "./agent-relay.ts";
import { AgentRelays } from "./agent-relays.ts";
import { podNameOf } from "./pod-name.ts";

const question = { port: 15000, method: "GET", path: "/stats", body: new Uint8Array() };

function startRelay(timeoutMs?: number) {
  const sent: AdminRequest[] = [];
  const relay = new AgentRelay({ send: (request) => void sent.push(request), ...(timeoutMs === undefined ? {} : { timeoutMs }) });
  const respond = (id: number, part: { status?: number; body?: string | Uint8Array; isLast?: boolean; error?: string }) =>
    relay.onResponse(create(AdminResponseSchema, { id, status: 200, ...part, body: new Uint8Array(Buffer.from(part.body ?? "")) }));
  return { relay, sent, respond };
}

describe("a relay to an agent", () => {
  it("puts answers together whose parts come in any order of questions", async () => {
    const { relay, sent, respond } = startRelay();
    const [one, other] = [relay.ask(question), relay.ask({ ...question, path: "/certs" })];
    const [first, second] = sent.map(({ id }) => id) as [number, number];
    respond(second, { body: "cer" });
    respond(first, { body: "sta", status: 404 });
    respond(999, { body: "for nobody" });
    respond(second, { body: "ts", isLast: true });
    respond(first, { body: "ts", isLast: true });
    expect([await one, await other].map(({ status, body }) => [status, body.toString()])).toEqual([
      [404, "stats"],
      [200, "certs"],
    ]);
  });

  it("is refused, busy, late, gone, or given too much", async () => {
    const { relay, sent, respond } = startRelay(20);
    const refused = relay.ask(question);
    respond(sent.at(-1)!.id, { error: "port 22 is not one", isLast: true });
    await expect(refused).rejects.toMatchObject({ reason: "refused", message: "port 22 is not one" });
    await expect(relay.ask(question)).rejects.toMatchObject({ reason: "late" });
    const many = Array.from({ length: 5 }, () => relay.ask(question));
    await expect(many[4]).rejects.toMatchObject({ reason: "busy" });
    const large = new Uint8Array(maxAnswerBytes / 2 + 1);
    respond(sent.at(-1)!.id, { body: large });
    respond(sent.at(-1)!.id, { body: large });
    await expect(many[3]).rejects.toMatchObject({ reason: "too large" });
    relay[Symbol.dispose]();
    for (const open of many.slice(0, 3)) await expect(open).rejects.toMatchObject({ reason: "gone" });
    await expect(relay.ask(question)).rejects.toMatchObject({ reason: "gone" });
  });

  it("gives way to the next stream of the same pod, whose end alone takes the pod away", async () => {
    const relays = new AgentRelays();
    const pod = { namespace: "default", name: "web" };
    const [older, newer] = [startRelay(), startRelay()];
    const first = relays.add(pod, older.relay);
    const open = relays.ask(pod, question);
    const second = relays.add(pod, newer.relay);
    await expect(open).rejects.toMatchObject({ reason: "gone" });
    first[Symbol.dispose]();
    const answered = relays.ask(pod, question);
    newer.respond(newer.sent[0]!.id, { body: "here", isLast: true });
    expect((await answered).body.toString()).toBe("here");
    second[Symbol.dispose]();
    await expect(relays.ask(pod, question)).rejects.toThrow("no agent of that name is connected");
  });
});

describe("a pod's name", () => {
  it.each([
    ["web.default", "web"],
    ["web.corp.example.default", "web.corp.example"],
    // Only the namespace has been proved: whoever names another one in the id is still a pod of his own.
    ["istiod.istio-system", "istiod.istio-system"],
    ["a/b.default", undefined],
    ["..default", undefined],
    ["", undefined],
  ])("of %j is %j", (id, name) => {
    expect(podNameOf({ id, namespace: "default" })).toEqual(name === undefined ? undefined : { namespace: "default", name });
  });
});

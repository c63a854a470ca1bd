import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { Answerer } from "./answerer.ts";
import { UdpListener } from "./udp-listener.ts";

/** Answers with what it is asked behind its name; `slow …` takes a while. */
function answererOf(name: string): Answerer {
  const answerOf = (packet: Buffer) => Buffer.from(`${name} ${packet}`);
  return {
    answer: (packet: Buffer) => (packet.toString().startsWith("slow") ? "forward" : answerOf(packet)),
    forward: (packet: Buffer, _: string, done: (response: Buffer) => void) => setTimeout(() => done(answerOf(packet)), 60),
  } as unknown as Answerer;
}

/** As busy as a process can be: what arrives meanwhile waits in the kernel. */
function standStill(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

async function freePort(host: string): Promise<number> {
  const probe = createSocket(host === "::1" ? "udp6" : "udp4").bind(0, host);
  await once(probe, "listening");
  const { port } = probe.address();
  await new Promise<void>((done) => probe.close(done));
  return port;
}

describe.each(["127.0.0.1", "0.0.0.0", "::1"])("UdpListener that retires on %s", (host) => {
  it("leaves no query without an answer, and new ones to the other process", async () => {
    const port = await freePort(host);
    const old = await UdpListener.start(host, port, "first", answererOf("old"));
    await using _ = await UdpListener.start(host, port, "beside", answererOf("new"));
    const target = host === "0.0.0.0" ? "127.0.0.1" : host;
    const answers: string[] = [];
    const ask = async (client: Socket, question: string) => {
      const answer = once(client, "message") as Promise<[Buffer]>;
      client.send(question, port, target);
      answers.push(String((await answer)[0]));
    };
    const clients = Array.from({ length: 40 }, () => createSocket(host === "::1" ? "udp6" : "udp4"));
    let isOver = false;
    const asking = clients.map(async (client, index) => {
      for (let round = 0; !isOver; round++) await ask(client, index % 4 === 0 ? `slow ${index} ${round}` : `${index} ${round}`);
    });
    await delay(100);
    standStill(50);
    await old.retire();
    expect(answers.some((answer) => answer.startsWith("old"))).toBe(true);
    answers.length = 0;
    await delay(100);
    isOver = true;
    await Promise.all(asking);
    expect(answers.length).toBeGreaterThan(40);
    expect(answers.filter((answer) => !answer.startsWith("new"))).toEqual([]);
    for (const client of clients) client.close();
  });

  it("reads what had arrived although the process stood still for longer than it waits", async () => {
    const port = await freePort(host);
    const old = await UdpListener.start(host, port, "first", answererOf("old"));
    // More than Node reads in one turn of its event loop.
    const clients = Array.from({ length: 100 }, () => createSocket(host === "::1" ? "udp6" : "udp4"));
    const answers = Promise.all(clients.map((client) => once(client, "message", { signal: AbortSignal.timeout(3000) })));
    await Promise.all(
      clients.map((client, index) => new Promise((sent) => client.send(`${index}`, port, host === "0.0.0.0" ? "127.0.0.1" : host, sent))),
    );
    const retired = old.retire();
    standStill(150);
    await retired;
    expect((await answers).map(([answer]) => String(answer))).toEqual(clients.map((_, index) => `old ${index}`));
    for (const client of clients) client.close();
  });
});

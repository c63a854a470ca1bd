/** The DNS proxy on real sockets, with nameservers of the test's behind it. */
import { randomBytes, randomInt } from "node:crypto";
import { createSocket } from "node:dgram";
import { Resolver } from "node:dns/promises";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  askTcp,
  askUdp,
  decodeResponse,
  encodeName,
  encodeQuery,
  framed,
  type QueryInit,
  resolve,
} from "../../../test/support/dns-client.ts";
import { type Asked, addressRecord, cnameRecord, DnsUpstream, type OnQuery, reply } from "../../../test/support/dns-upstream.ts";
import { NameTableSchema } from "../../api/gen/istio/networking/nds/v1/nds_pb.js";
import type { HostPort } from "../../lib/host-port.ts";
import { Answerer } from "./answerer.ts";
import { DnsMetrics } from "./dns-metrics.ts";
import { DnsProxy, type DnsProxyOptions } from "./dns-proxy.ts";
import { Forwarder } from "./forwarder.ts";
import { proxyDomain } from "./name-forms.ts";
import { TcpListener } from "./tcp-listener.ts";
import { UdpListener } from "./udp-listener.ts";

const names = create(NameTableSchema, {
  table: {
    "web.ns1.svc.cluster.local": { ips: ["10.0.0.1", "fd00::1"], registry: "Kubernetes", shortname: "web", namespace: "ns1" },
    "api.example.com": { ips: ["240.240.0.1"], registry: "External" },
    "*.wild.test": { ips: ["240.240.0.2"], registry: "External" },
    "many.test": { ips: Array.from({ length: 64 }, (_, index) => `240.0.0.${index}`), registry: "External" },
    "alias.ns1.svc.cluster.local": { registry: "Kubernetes", shortname: "alias", namespace: "ns1", alias: "target.example" },
  },
});

const hasIpv6 = Object.values(networkInterfaces()).some((list) => list?.some(({ address }) => address === "::1"));

describe("DnsProxy", () => {
  let directory: string;
  let resolvConf: string;
  const parts: AsyncDisposable[] = [];
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "topsail-dns-"));
    resolvConf = join(directory, "resolv.conf");
    writeFileSync(resolvConf, "# nobody\n");
  });
  afterEach(async () => {
    for (const part of parts.splice(0).toReversed()) await part[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  const upstream = async (onQuery: OnQuery, host?: string) => {
    const started = await DnsUpstream.start(onQuery, host);
    parts.push(started);
    return started;
  };
  const known = (asked: Asked) => [reply(asked, { addresses: ["192.0.2.1"] })];
  const nxdomain = (asked: Asked) => [reply(asked, { code: 3 })];
  const servfail = (asked: Asked) => [reply(asked, { code: 2 })];
  const silent = () => [];

  const start = async (upstreams: readonly DnsUpstream[], options: Partial<DnsProxyOptions> = {}) => {
    if (upstreams.length > 0) writeFileSync(resolvConf, `${upstreams.map(({ line }) => line).join("")}search ns1.svc.cluster.local\n`);
    const proxy = await DnsProxy.start({
      address: "127.0.0.1:0",
      domain: proxyDomain("ns1", "ns1.svc.cluster.local"),
      resolvConf,
      isParallel: false,
      timeoutMs: 400,
      forwardsBeforeTable: false,
      ...options,
    });
    parts.push(proxy);
    return proxy;
  };
  const startWithNames = async (upstreams: readonly DnsUpstream[], options: Partial<DnsProxyOptions> = {}) => {
    const proxy = await start(upstreams, options);
    proxy.update(names);
    return proxy;
  };
  const overTcp = async (proxy: DnsProxy, name: string, init: QueryInit = {}) =>
    decodeResponse((await askTcp(proxy, [encodeQuery(name, init)]))[0]!);

  it("answers for the mesh over UDP and TCP, as Node's own resolver understands it", async () => {
    const proxy = await startWithNames([await upstream(nxdomain)]);
    const resolver = new Resolver();
    resolver.setServers([`127.0.0.1:${proxy.port}`]);
    for (const name of ["web", "web.ns1", "web.ns1.svc", "web.ns1.svc.cluster.local"]) {
      expect(await resolver.resolve4(name, { ttl: true })).toEqual([{ address: "10.0.0.1", ttl: 30 }]);
      expect(await resolver.resolve6(name)).toEqual(["fd00::1"]);
    }
    expect(await resolver.resolve4("any.thing.wild.test")).toEqual(["240.240.0.2"]);
    expect(await resolver.resolve4("api.example.com.ns1.svc.cluster.local")).toEqual(["240.240.0.1"]);
    await expect(resolver.resolve6("api.example.com")).rejects.toMatchObject({ code: "ENODATA" });
    await expect(resolver.resolve4("nobody.test")).rejects.toMatchObject({ code: "ENOTFOUND" });
    expect(await overTcp(proxy, "web")).toMatchObject({ code: "NOERROR", answers: ["web. 30 A 10.0.0.1"] });
  });

  it("has all answers over TCP that do not fit into UDP", async () => {
    const proxy = await startWithNames([]);
    expect((await resolve(proxy, "many.test")).flags).toContain("tc");
    expect(await overTcp(proxy, "many.test")).toMatchObject({ flags: "qr aa rd ra" });
    expect((await overTcp(proxy, "many.test")).answers).toHaveLength(64);
    expect((await resolve(proxy, "many.test", { edns: 4096 })).answers).toHaveLength(64);
  });

  it("answers several questions of one connection, in whatever pieces they come", async () => {
    const proxy = await startWithNames([await upstream(known)]);
    const packets = [encodeQuery("web", { id: 1 }), encodeQuery("out.example", { id: 2 }), encodeQuery("api.example.com", { id: 3 })];
    const responses = (await askTcp(proxy, packets)).map(decodeResponse);
    expect(Object.fromEntries(responses.map(({ id, answers }) => [id, answers[0]]))).toEqual({
      1: "web. 30 A 10.0.0.1",
      2: "out.example. 5 A 192.0.2.1",
      3: "api.example.com. 30 A 240.240.0.1",
    });
    const socket = connect(proxy.port, "127.0.0.1");
    const answered = new Promise<Buffer>((done) => socket.once("data", done));
    for (const byte of framed(packets[0]!)) {
      socket.write(Buffer.of(byte));
      await new Promise((next) => setImmediate(next));
    }
    expect(decodeResponse((await answered).subarray(2)).answers).toEqual(["web. 30 A 10.0.0.1"]);
    socket.destroy();
  });

  it("hands unknown names on by what they came by, under another id, and passes the answer on as it is", async () => {
    const server = await upstream((asked) => [reply(asked, { addresses: ["192.0.2.1", "192.0.2.2"], flags: 0x20 })]);
    const proxy = await startWithNames([server]);
    const ids = new Set<number>();
    const ports = new Set<number>();
    for (let id = 1; id <= 8; id++) {
      expect(await resolve(proxy, `n${id}.Example`, { id, edns: 1400 })).toMatchObject({
        id,
        answers: [`n${id}.Example. 5 A 192.0.2.1`, `n${id}.Example. 5 A 192.0.2.2`],
      });
      ids.add(server.asked.at(-1)!.id);
      ports.add(server.asked.at(-1)!.port);
    }
    expect(server.asked[0]).toMatchObject({ transport: "udp", name: "n1.Example." });
    expect(server.asked[0]!.packet.subarray(2)).toEqual(encodeQuery("n1.Example", { edns: 1400 }).subarray(2));
    // Neither is to be foreseen.
    expect(ids.size).toBeGreaterThan(6);
    expect(ports.size).toBeGreaterThan(6);
    await overTcp(proxy, "n.example");
    expect(server.asked.at(-1)?.transport).toBe("tcp");
  });

  it("passes on whatever nameservers say of names, and that an answer was cut", async () => {
    const server = await upstream((asked) => (asked.name.startsWith("cut") ? [reply(asked, { flags: 0x200 })] : nxdomain(asked)));
    const proxy = await startWithNames([server]);
    expect(await resolve(proxy, "nobody.example")).toMatchObject({ code: "NXDOMAIN" });
    expect(await resolve(proxy, "cut.example")).toMatchObject({ code: "NOERROR", flags: "qr tc rd ra", answers: [] });
  });

  it("cuts what the client did not ask for so much of", async () => {
    const addresses = Array.from({ length: 64 }, (_, index) => `192.0.2.${index}`);
    const proxy = await startWithNames([await upstream((asked) => [reply(asked, { addresses })])]);
    expect(await resolve(proxy, "giant.example")).toMatchObject({ flags: "qr tc rd ra", question: "giant.example. A", answers: [] });
    expect((await resolve(proxy, "giant.example", { edns: 4096 })).answers).toHaveLength(64);
    expect((await overTcp(proxy, "giant.example")).answers).toHaveLength(64);
  });

  it("says that a name of the mesh exists, whatever type is asked for", async () => {
    const server = await upstream((asked) => (asked.type === 15 ? [reply(asked, { records: [] })] : nxdomain(asked)));
    const proxy = await startWithNames([server]);
    for (const type of ["HTTPS", "MX", "TXT"] as const)
      expect(await resolve(proxy, "web", { type })).toMatchObject({ code: "NOERROR", answers: [] });
    expect(server.asked.map(({ type }) => type)).toEqual([65, 15, 16]);
    // Of another class nothing is known.
    expect(await resolve(proxy, "web", { class: 3 })).toMatchObject({ code: "NXDOMAIN" });
    expect(await resolve(proxy, "web", { type: "AXFR" })).toMatchObject({ code: "REFUSED" });
  });

  it("asks for what an alias stands for, and answers with both", async () => {
    // The nameserver's CNAME points into its question.
    const server = await upstream((asked) => {
      if (asked.name !== "target.example.") return nxdomain(asked);
      const target = Buffer.concat([encodeName("cdn").subarray(0, 4), Buffer.from("c013", "hex")]);
      return [reply(asked, { records: [cnameRecord(Buffer.from("c00c", "hex"), target), addressRecord("cdn.example", "192.0.2.9")] })];
    });
    const proxy = await startWithNames([server]);
    expect(await resolve(proxy, "alias", { edns: 1232 })).toMatchObject({
      code: "NOERROR",
      question: "alias. A",
      answers: ["alias. 30 CNAME target.example.", "target.example. 5 CNAME cdn.example.", "cdn.example. 5 A 192.0.2.9"],
    });
    expect((await resolve(proxy, "alias.ns1.ns1.svc.cluster.local")).answers).toEqual([
      "alias.ns1.ns1.svc.cluster.local. 30 CNAME alias.ns1.",
      "alias.ns1. 30 CNAME target.example.",
      "target.example. 5 CNAME cdn.example.",
      "cdn.example. 5 A 192.0.2.9",
    ]);
  });

  it.each([
    [
      "a CNAME that points at itself",
      (asked: Asked) => reply(asked, { records: [cnameRecord(Buffer.from("c020", "hex"), Buffer.from("c020", "hex"))] }),
    ],
    [
      "a record that ends behind the packet",
      (asked: Asked) => reply(asked, { records: [addressRecord("a", "192.0.2.1").subarray(0, -2)] }),
    ],
    ["fewer records than announced", (asked: Asked) => reply(asked, { records: [Buffer.alloc(0)] })],
  ])("fails where an alias's nameserver answers with %s", async (_, answer) => {
    const proxy = await startWithNames([await upstream((asked) => [answer(asked)])]);
    expect(await resolve(proxy, "alias")).toMatchObject({ code: "SERVFAIL", answers: [] });
  });

  describe("of several nameservers", () => {
    it("asks the next one when one is not there, can't answer or says nothing, and that one last from then on", async () => {
      const [failing, quiet, good] = [await upstream(servfail), await upstream(silent), await upstream(known)];
      const proxy = await startWithNames([failing, quiet, good]);
      expect(await resolve(proxy, "a.example")).toMatchObject({ answers: ["a.example. 5 A 192.0.2.1"] });
      expect([failing, quiet, good].map(({ asked }) => asked.length)).toEqual([1, expect.any(Number), 1]);
      const before = quiet.asked.length;
      await resolve(proxy, "b.example");
      expect(quiet.asked).toHaveLength(before);
    });

    it.each(["255.255.255.255", "127.0.0.1:9"])("asks the next one when %s can't be reached", async (unreachable) => {
      const good = await upstream(known);
      writeFileSync(resolvConf, `nameserver ${unreachable}\n${good.line}`);
      const proxy = await startWithNames([], { timeoutMs: 60_000 });
      for (const ask of [resolve, overTcp]) {
        expect((await ask(proxy, "a.example")).answers).toEqual(["a.example. 5 A 192.0.2.1"]);
      }
    });

    it("passes on that none could answer, and fails where none said anything", async () => {
      const proxy = await startWithNames([await upstream((asked) => [reply(asked, { code: 5 })]), await upstream(silent)]);
      expect(await resolve(proxy, "a.example")).toMatchObject({ code: "REFUSED" });
      const alone = await startWithNames([await upstream(silent)]);
      expect(await resolve(alone, "a.example")).toMatchObject({ code: "SERVFAIL", question: "a.example. A" });
      expect(await overTcp(alone, "b.example")).toMatchObject({ code: "SERVFAIL" });
    });

    it("asks all at once when it is told to, and takes the first answer", async () => {
      const [quiet, good] = [await upstream(silent), await upstream(known)];
      const proxy = await startWithNames([quiet, good], { isParallel: true, timeoutMs: 5000 });
      expect(await resolve(proxy, "a.example")).toMatchObject({ answers: ["a.example. 5 A 192.0.2.1"] });
      await expect.poll(() => quiet.asked.length).toBe(1);
    });
  });

  it("believes no answer that does not fit its question", async () => {
    const server = await upstream((asked) => {
      const other = Buffer.from(reply(asked, { addresses: ["6.6.6.6"] }));
      other.writeUInt16BE(asked.id ^ 1, 0);
      const question = Buffer.from(reply(asked, { addresses: ["6.6.6.6"] }));
      question[13] = "x".charCodeAt(0);
      const type = Buffer.from(reply(asked, { addresses: ["6.6.6.6"] }));
      type[12 + asked.name.length + 2] = 28;
      const query = Buffer.from(reply(asked, { addresses: ["6.6.6.6"] }));
      query[2]! &= 0x7f;
      const noQuestion = Buffer.concat([asked.packet.subarray(0, 2), Buffer.from("81800000000000000000", "hex")]);
      return [other, question, type, query, noQuestion, Buffer.from("00", "hex"), reply(asked, { addresses: ["192.0.2.1"] })];
    });
    const proxy = await startWithNames([server]);
    expect((await resolve(proxy, "a.example")).answers).toEqual(["a.example. 5 A 192.0.2.1"]);
  });

  it("takes a nameserver's word that it does not understand, without a question, for a failure", async () => {
    const server = await upstream((asked) => [Buffer.concat([asked.packet.subarray(0, 2), Buffer.from("81810000000000000000", "hex")])]);
    const proxy = await startWithNames([server], { timeoutMs: 5000 });
    expect(await resolve(proxy, "a.example")).toMatchObject({ code: "SERVFAIL", question: "a.example. A" });
  });

  it("takes no answer from anywhere but the nameserver", async () => {
    const stranger = createSocket("udp4");
    const server = await upstream((asked) => {
      stranger.send(reply(asked, { addresses: ["6.6.6.6"] }), asked.port, "127.0.0.1");
      return [];
    });
    const proxy = await startWithNames([server]);
    expect(await resolve(proxy, "a.example")).toMatchObject({ code: "SERVFAIL" });
    await new Promise<void>((done) => stranger.close(done));
  });

  it("asks once for what many want to know at the same time", async () => {
    const server = await upstream(silent);
    const proxy = await startWithNames([server], { timeoutMs: 5000 });
    const asking = Array.from({ length: 20 }, (_, id) => resolve(proxy, "a.example", { id }));
    await expect.poll(() => server.asked.length).toBe(1);
    server.answer(server.asked[0]!, reply(server.asked[0]!, { addresses: ["192.0.2.1"] }));
    const answers = await Promise.all(asking);
    expect(answers.map(({ id }) => id).sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, id) => id));
    expect(new Set(answers.map((answer) => answer.answers[0]))).toEqual(new Set(["a.example. 5 A 192.0.2.1"]));
    expect(server.asked).toHaveLength(1);
  });

  it("fails before the first table, or hands everything on where it is the machine's nameserver", async () => {
    const server = await upstream(known);
    const proxy = await start([server]);
    expect(proxy.isReady).toBe(false);
    expect(proxy.describe()).toBeUndefined();
    expect(await resolve(proxy, "a.example")).toMatchObject({ code: "SERVFAIL" });
    expect(server.asked).toHaveLength(0);
    proxy.update(names);
    expect(proxy.isReady).toBe(true);
    expect((await resolve(proxy, "a.example")).answers).toHaveLength(1);
    const nameserver = await start([server], { forwardsBeforeTable: true });
    expect((await resolve(nameserver, "web")).answers).toEqual(["web. 5 A 192.0.2.1"]);
  });

  it("follows the table", async () => {
    const proxy = await startWithNames([await upstream(nxdomain)]);
    expect((await resolve(proxy, "web")).answers).toEqual(["web. 30 A 10.0.0.1"]);
    proxy.update(create(NameTableSchema, { table: { "new.test": { ips: ["10.0.0.9"], registry: "External" } } }));
    expect(await resolve(proxy, "web")).toMatchObject({ code: "NXDOMAIN" });
    expect((await resolve(proxy, "new.test")).answers).toEqual(["new.test. 30 A 10.0.0.9"]);
  });

  it("follows resolv.conf, its nameservers and its search domain", async () => {
    const [first, second] = [await upstream(known), await upstream((asked) => [reply(asked, { addresses: ["192.0.2.2"] })])];
    const proxy = await startWithNames([first]);
    expect((await resolve(proxy, "a.example")).answers).toEqual(["a.example. 5 A 192.0.2.1"]);
    writeFileSync(resolvConf, `${second.line}search corp.test\n`);
    await expect.poll(async () => (await resolve(proxy, "a.example")).answers, { timeout: 10_000 }).toEqual(["a.example. 5 A 192.0.2.2"]);
    expect((await resolve(proxy, "api.example.com.corp.test")).answers[0]).toBe("api.example.com.corp.test. 30 CNAME api.example.com.");
  });

  it("asks a resolver of this machine, as systemd-resolved is one", async () => {
    const stub = await upstream(known, "127.0.0.53");
    const proxy = await startWithNames([stub]);
    expect((await resolve(proxy, "a.example")).answers).toHaveLength(1);
    expect((await overTcp(proxy, "a.example")).answers).toHaveLength(1);
  });

  it.runIf(hasIpv6)("listens and asks over IPv6 too", async () => {
    const proxy = await startWithNames([await upstream(known, "::1")], { address: "localhost:0" });
    for (const host of ["127.0.0.1", "::1"]) {
      expect((await resolve({ host, port: proxy.port }, "web", { type: "AAAA" })).answers).toEqual(["web. 30 AAAA fd00:0:0:0:0:0:0:1"]);
      expect((await resolve({ host, port: proxy.port }, "a.example")).answers).toEqual(["a.example. 5 A 192.0.2.1"]);
    }
  });

  it("leaves out a nameserver that is itself", async () => {
    const server = await upstream(known);
    const proxy = await startWithNames([server]);
    const { port } = proxy;
    writeFileSync(resolvConf, `nameserver 127.0.0.1:${port}\n${server.line}`);
    const before = server.asked.length;
    await expect.poll(async () => (await resolve(proxy, `x${server.asked.length}.example`)).answers.length, { timeout: 10_000 }).toBe(1);
    expect(server.asked.length).toBeGreaterThan(before);
    await using anywhere = await DnsProxy.start({
      address: "0.0.0.0:0",
      domain: proxyDomain("ns1", ""),
      resolvConf,
      isParallel: false,
      timeoutMs: 200,
      forwardsBeforeTable: true,
    });
    writeFileSync(resolvConf, `nameserver 127.0.0.1:${anywhere.port}\nnameserver 127.9.9.9:${anywhere.port}\n${server.line}`);
    await expect.poll(async () => (await resolve(anywhere, `y${server.asked.length}.example`)).answers.length, { timeout: 10_000 }).toBe(1);
  });

  it("ends a circle through another resolver", async () => {
    let asked = 0;
    let isOver = false;
    const circle = createSocket("udp4");
    await new Promise<void>((done) => circle.bind(0, "127.0.0.1", done));
    writeFileSync(resolvConf, `nameserver 127.0.0.1:${circle.address().port}\n`);
    const proxy = await start([]);
    proxy.update(names);
    // A resolver that asks us, from sockets and under ids of its own.
    circle.on("message", (packet, peer) => {
      asked++;
      const copy = Buffer.from(packet);
      copy.writeUInt16BE(randomInt(0x1_0000), 0);
      askUdp(proxy, copy).then(
        (response) => {
          packet.copy(response, 0, 0, 2);
          if (!isOver) circle.send(response, peer.port, peer.address);
        },
        () => {},
      );
    });
    expect(await resolve(proxy, "a.example")).toMatchObject({ code: "SERVFAIL" });
    expect(asked).toBeLessThan(4);
    isOver = true;
    await new Promise<void>((done) => circle.close(done));
  });

  it.each(["udp", "tcp"] as const)("answers at once when its own question is led back to it over %s", async (transport) => {
    // As capture rules do that miss the agent. Nobody else is asked, so it would wait for itself.
    const metrics = new DnsMetrics();
    const servers: HostPort[] = [];
    const forwarder = new Forwarder({ nameservers: () => ({ servers, rotates: false }), timeoutMs: 30_000, isParallel: false, metrics });
    const answerer = new Answerer({ forwarder, metrics, forwardsBeforeTable: true });
    await using tcp = await TcpListener.start("127.0.0.1", 0, "alone", answerer);
    await using _ = await UdpListener.start("127.0.0.1", tcp.port, "alone", answerer);
    servers.push({ host: "127.0.0.1", port: tcp.port });
    const packet = encodeQuery("a.example");
    const response = transport === "udp" ? await askUdp(tcp, packet) : (await askTcp(tcp, [packet]))[0]!;
    expect(decodeResponse(response)).toMatchObject({ code: "SERVFAIL" });
    expect(await metrics.registry.metrics()).toMatch(/^istio_agent_dns_upstream_requests_total 1$/m);
  });

  it("survives 10,000 packets of garbage: no answer, or a refusal", async () => {
    const server = await upstream(known);
    const proxy = await startWithNames([server]);
    const seeds = [encodeQuery("web", { edns: 1232 }), encodeQuery("api.example.com"), encodeQuery("out.example", { type: "MX" })];
    const socket = createSocket("udp4");
    const codes = new Map<string, number>();
    socket.on("message", (response) => {
      const { code } = decodeResponse(response);
      codes.set(code, (codes.get(code) ?? 0) + 1);
    });
    const send = (packet: Buffer) => new Promise<void>((done) => socket.send(packet, proxy.port, "127.0.0.1", () => done()));
    const round = async (count: number, mutates: boolean) => {
      for (let sent = 0; sent < count; sent++) {
        const packet = mutates ? Buffer.from(seeds[sent % seeds.length]!) : randomBytes(randomInt(0, 120));
        if (mutates) for (let change = randomInt(1, 4); change > 0; change--) packet[randomInt(packet.length)] = randomInt(256);
        await send(mutates && sent % 3 === 0 ? packet.subarray(0, randomInt(packet.length + 1)) : packet);
        // Otherwise the socket's buffer would swallow most of it.
        if (sent % 8 === 0) await new Promise((next) => setImmediate(next));
      }
    };
    await round(5000, false);
    expect([...codes.keys()].filter((code) => !["FORMERR", "NOTIMP", "BADVERS"].includes(code))).toEqual([]);
    expect(codes.get("FORMERR")).toBeGreaterThan(100);
    await round(5000, true);
    expect(codes.get("NOERROR")).toBeGreaterThan(100);
    expect((await resolve(proxy, "web")).answers).toEqual(["web. 30 A 10.0.0.1"]);
    const received = /^istio_agent_dns_requests_total (?<count>\d+)$/m.exec(await proxy.metrics.metrics())?.groups?.count;
    expect(Number(received)).toBeGreaterThan(1000);
    await new Promise<void>((done) => socket.close(done));
  });

  describe("over TCP", () => {
    const connected = async (proxy: DnsProxy) => {
      const socket = connect(proxy.port, "127.0.0.1");
      await new Promise<void>((done) => socket.once("connect", () => done()));
      socket.on("error", () => {});
      return socket;
    };
    const closed = (socket: ReturnType<typeof connect>) =>
      new Promise<void>((done) => (socket.destroyed ? done() : socket.once("close", () => done())));

    it.each([
      ["more than a question can be", Buffer.from("ffff", "hex")],
      ["an answer", framed(reply({ packet: encodeQuery("web") } as Asked))],
      ["nothing that is a message", framed(Buffer.alloc(3))],
    ])("lets go who sends %s", async (_, bytes) => {
      const proxy = await startWithNames([]);
      const socket = await connected(proxy);
      socket.resume().write(bytes);
      await closed(socket);
      expect(await overTcp(proxy, "web")).toMatchObject({ code: "NOERROR" });
    });

    it("answers who has ended its side already", async () => {
      const proxy = await startWithNames([await upstream(known)]);
      const socket = await connected(proxy);
      const chunks: Buffer[] = [];
      socket.on("data", (chunk: Buffer) => chunks.push(chunk));
      socket.end(framed(encodeQuery("out.example")));
      await closed(socket);
      expect(decodeResponse(Buffer.concat(chunks).subarray(2)).answers).toHaveLength(1);
    });

    it("takes no more clients than it can serve, and goes on with those", async () => {
      const proxy = await startWithNames([]);
      const sockets = await Promise.all(Array.from({ length: 256 }, () => connected(proxy)));
      const late = await connected(proxy);
      late.resume();
      await closed(late);
      sockets[0]!.write(framed(encodeQuery("web")));
      const answer = await new Promise<Buffer>((done) => sockets[0]!.once("data", done));
      expect(decodeResponse(answer.subarray(2)).code).toBe("NOERROR");
      for (const socket of sockets) socket.destroy();
    });
  });

  it("counts what it does, by Istio's names", async () => {
    const proxy = await startWithNames([await upstream((asked) => (asked.name.startsWith("bad") ? [] : known(asked)))]);
    for (const name of ["web", "a.example", "bad.example"]) await resolve(proxy, name);
    const text = await proxy.metrics.metrics();
    expect(text).toMatch(/^istio_agent_dns_requests_total 3$/m);
    expect(text).toMatch(/^istio_agent_dns_upstream_requests_total 2$/m);
    expect(text).toMatch(/^istio_agent_dns_upstream_failures_total 1$/m);
    expect(text).toMatch(/^istio_agent_dns_upstream_request_duration_seconds_count 2$/m);
  });

  it("shows its names, each with the forms it is asked by", async () => {
    const proxy = await startWithNames([]);
    const { table } = proxy.describe() as { table: Record<string, unknown> };
    expect(table["web.ns1.svc.cluster.local"]).toEqual({
      ips: ["10.0.0.1", "fd00::1"],
      registry: "Kubernetes",
      shortname: "web",
      namespace: "ns1",
    });
    expect(Object.keys(table).filter((name) => name.startsWith("web"))).toEqual([
      "web.ns1.svc.cluster.local",
      "web.ns1.svc.cluster.local.",
      "web.ns1.",
      "web.ns1.svc.",
      "web.",
    ]);
  });

  it("names its variable when it can't listen", async () => {
    const proxy = await start([]);
    await expect(start([], { address: `127.0.0.1:${proxy.port}` })).rejects.toThrow(
      /DNS_PROXY_ADDR: .* can't listen on 127\.0\.0\.1:\d+: .*EADDRINUSE/,
    );
    await expect(start([], { address: "nonsense" })).rejects.toThrow(/DNS_PROXY_ADDR/);
  });
});

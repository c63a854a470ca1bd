/** The filter in a worker with a server of keys that the test commands. What clients see is compared with Envoy in test/conformance. */
import * as crypto from "node:crypto";
import { once } from "node:events";
import * as http from "node:http";
import * as net from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { staticWorker } from "../../../testing/static-update.ts";
import type { WorkerApplied, WorkerUpdate } from "../../../update.ts";
import { WorkerState } from "../../../worker-state.ts";

const disposers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const dispose of disposers.splice(0).reverse()) await dispose();
});

const [oldKey, newKey] = [crypto.generateKeyPairSync("ed25519"), crypto.generateKeyPairSync("ed25519")];
const jwksOf = ({ publicKey }: typeof oldKey) => JSON.stringify({ keys: [publicKey.export({ format: "jwk" })] });
const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
function tokenOf({ privateKey }: typeof oldKey, claims: object = { iss: "me" }): string {
  const signed = `${encode({ alg: "EdDSA" })}.${encode(claims)}`;
  return `${signed}.${crypto.sign(null, Buffer.from(signed), privateKey).toString("base64url")}`;
}

/** Answers with `jwks`, or not at all while that is null. */
class KeyServer {
  port = 0;
  asked = 0;
  jwks: string | null = jwksOf(oldKey);
  #held: http.ServerResponse[] = [];

  static async start(): Promise<KeyServer> {
    const self = new KeyServer();
    const server = http.createServer((_request, response) => {
      self.asked++;
      if (self.jwks === null) self.#held.push(response);
      else response.end(self.jwks);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    self.port = (server.address() as net.AddressInfo).port;
    disposers.push(() => {
      server.closeAllConnections();
      server.close();
    });
    return self;
  }

  release(jwks: string): void {
    this.jwks = jwks;
    for (const response of this.#held.splice(0)) response.end(jwks);
  }

  fail(): void {
    for (const response of this.#held.splice(0)) response.writeHead(500).end();
  }
}

const type = "type.googleapis.com/envoy";
const address = (port: number) => `{ socket_address: { address: 127.0.0.1, port_value: ${port} } }`;

function listenerYaml(name: string, remote: string, statPrefix = "t", networkFilters = ""): string {
  const jwt = `{ name: jwt, typed_config: { "@type": ${type}.extensions.filters.http.jwt_authn.v3.JwtAuthentication, providers: { p: { issuer: me, remote_jwks: { http_uri: { uri: "http://keys/", cluster: keys, timeout: 30s }, ${remote} } } }, rules: [ { match: { prefix: / }, requires: { provider_name: p } } ] } }`;
  const router = `{ name: router, typed_config: { "@type": ${type}.extensions.filters.http.router.v3.Router } }`;
  const manager = `{ name: h, typed_config: { "@type": ${type}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: ${statPrefix}, route_config: { name: r, virtual_hosts: [ { name: v, domains: ["*"], routes: [ { match: { prefix: / }, direct_response: { status: 200, body: { inline_string: good } } } ] } ] }, http_filters: [ ${jwt}, ${router} ] } }`;
  return `  - { name: ${name}, address: ${address(0)}, filter_chains: [ { filters: [ ${networkFilters}${manager} ] } ] }\n`;
}

class Worker {
  readonly state: WorkerState;
  readonly ports = new Map<string, number>();
  readonly #answers = new Map<number, (applied: WorkerApplied) => void>();
  #sequence = 0;

  constructor(keyPort: number) {
    this.state = new WorkerState(staticWorker(this.yaml(keyPort, "")).data, (message) => {
      if (message.type !== "applied") return;
      this.ports.clear();
      for (const { name, port } of message.bound) this.ports.set(name, port);
      this.#answers.get(message.sequence)?.(message);
    });
    disposers.push(() => this.state[Symbol.asyncDispose]());
  }

  yaml(keyPort: number, listeners: string): string {
    const endpoints = `[ { lb_endpoints: [ { endpoint: { address: ${address(keyPort)} } } ] } ]`;
    const cluster = `  - { name: keys, load_assignment: { cluster_name: keys, endpoints: ${endpoints} } }\n`;
    return `static_resources:\n  clusters:\n${cluster}  listeners:${listeners === "" ? " []" : `\n${listeners}`}\n`;
  }

  update(parts: Omit<WorkerUpdate, "type" | "sequence">): Promise<WorkerApplied> {
    const sequence = ++this.#sequence;
    const { promise, resolve } = Promise.withResolvers<WorkerApplied>();
    this.#answers.set(sequence, resolve);
    this.state.update({ ...parts, type: "update", sequence });
    return promise;
  }

  /** The key server's cluster and these listeners. */
  apply(keyPort: number, listeners: string): Promise<WorkerApplied> {
    const { type: _type, sequence: _sequence, ...parts } = staticWorker(this.yaml(keyPort, listeners)).update;
    return this.update(parts);
  }

  async status(listener: string, token: string, body?: string): Promise<number> {
    const response = await fetch(`http://127.0.0.1:${this.ports.get(listener)}/`, {
      headers: { authorization: `Bearer ${token}` },
      ...(body !== undefined && { method: "POST", body }),
    });
    await response.text();
    return response.status;
  }

  counter(name: string): number {
    return this.state.stats.values[this.state.stats.counter(`http.t.jwt_authn.${name}`)]!;
  }
}

async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  const pending = Symbol();
  return (await Promise.race([promise, new Promise((resolve) => setTimeout(resolve, 50, pending))])) !== pending;
}

describe("jwt_authn with keys asked ahead", () => {
  const ahead = "async_fetch: {}";
  const rbac = `{ name: rbac, typed_config: { "@type": ${type}.extensions.filters.network.rbac.v3.RBAC, stat_prefix: r. } }`;

  it.each([
    { where: "alone", networkFilters: "" },
    { where: "behind another network filter", networkFilters: `${rbac}, ` },
  ])("listens when the keys have come, $where", async ({ networkFilters }) => {
    const server = await KeyServer.start();
    server.jwks = null;
    const worker = new Worker(server.port);
    const applied = worker.apply(server.port, listenerYaml("a", ahead, "t", networkFilters));
    expect(await isSettled(applied)).toBe(false);
    server.release(jwksOf(oldKey));
    expect((await applied).errors).toEqual([]);
    expect(await worker.status("a", tokenOf(oldKey))).toBe(200);
    expect(server.asked).toBe(1);
  });

  it("listens without keys when they can't be had", async () => {
    const server = await KeyServer.start();
    server.jwks = null;
    const worker = new Worker(server.port);
    const applied = worker.apply(server.port, listenerYaml("a", ahead));
    expect(await isSettled(applied)).toBe(false);
    server.fail();
    expect((await applied).bound).toHaveLength(1);
    expect(worker.counter("jwks_fetch_failed")).toBe(1);
  });

  it("does not wait with fast_listener", async () => {
    const server = await KeyServer.start();
    server.jwks = null;
    const worker = new Worker(server.port);
    await worker.apply(server.port, listenerYaml("a", "async_fetch: { fast_listener: true }"));
    const answer = worker.status("a", tokenOf(oldKey));
    expect(await isSettled(answer)).toBe(false);
    server.release(jwksOf(oldKey));
    expect(await answer).toBe(200);
    expect(server.asked).toBe(1);
  });

  it("holds up no other update, and gives way to one of its own name", async () => {
    const server = await KeyServer.start();
    server.jwks = null;
    const worker = new Worker(server.port);
    const first = worker.apply(server.port, listenerYaml("a", ahead, "first"));
    expect(await isSettled(first)).toBe(false);
    await worker.apply(server.port, listenerYaml("b", "cache_duration: 60s"));
    expect([...worker.ports.keys()]).toEqual(["b"]);
    await worker.apply(server.port, listenerYaml("a", "cache_duration: 60s"));
    // The one that waited is told as well; nobody takes its place for it.
    await first;
    expect([...worker.ports.keys()].sort()).toEqual(["a", "b"]);
    server.release(jwksOf(oldKey));
    expect(await worker.status("a", tokenOf(oldKey))).toBe(200);
    expect(worker.counter("allowed")).toBe(1);
  });

  it("can be removed while it waits", async () => {
    const server = await KeyServer.start();
    server.jwks = null;
    const worker = new Worker(server.port);
    const applied = worker.apply(server.port, listenerYaml("a", ahead));
    expect(await isSettled(applied)).toBe(false);
    await worker.update({ removedListeners: ["a"] });
    await applied;
    expect(worker.ports.size).toBe(0);
  });
});

describe("jwt_authn with keys asked on demand", () => {
  async function start(remote: string): Promise<[KeyServer, Worker]> {
    const server = await KeyServer.start();
    const worker = new Worker(server.port);
    await worker.apply(server.port, listenerYaml("a", remote));
    return [server, worker];
  }

  it("lets all that come meanwhile wait for one answer, bodies included", async () => {
    const [server, worker] = await start("cache_duration: 60s");
    server.jwks = null;
    const answers = [1, 2, 3, 4].map((n) => worker.status("a", tokenOf(oldKey, { iss: "me", n }), "x".repeat(100_000)));
    expect(await isSettled(Promise.race(answers))).toBe(false);
    server.release(jwksOf(oldKey));
    expect(await Promise.all(answers)).toEqual([200, 200, 200, 200]);
    expect(server.asked).toBe(1);
    expect(worker.counter("jwks_fetch_success")).toBe(1);
  });

  it("outlives clients that go away while they wait", async () => {
    const [server, worker] = await start("cache_duration: 60s");
    server.jwks = null;
    const socket = net.connect(worker.ports.get("a")!, "127.0.0.1");
    socket.write(`GET / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer ${tokenOf(oldKey)}\r\n\r\n`);
    while (server.asked === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    socket.destroy();
    await once(socket, "close");
    server.release(jwksOf(oldKey));
    expect(await worker.status("a", tokenOf(oldKey))).toBe(200);
  });

  it("goes on with its keys through an outage, and takes new ones when the server has them", async () => {
    const [server, worker] = await start("cache_duration: 1s");
    const [old, fresh] = [tokenOf(oldKey), tokenOf(newKey)];
    expect(await worker.status("a", old)).toBe(200);
    expect(await worker.status("a", fresh)).toBe(401);
    const expire = () => new Promise((resolve) => setTimeout(resolve, 1100));
    await expire();
    server.jwks = "nonsense";
    expect(await worker.status("a", old)).toBe(200);
    expect(await worker.status("a", fresh)).toBe(401);
    expect(worker.counter("jwks_fetch_failed")).toBe(1);
    await expire();
    // Of the old key nothing is left, not even a token that it has passed before.
    server.jwks = jwksOf(newKey);
    expect(await worker.status("a", fresh)).toBe(200);
    expect(await worker.status("a", old)).toBe(401);
  });
});

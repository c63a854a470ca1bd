import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { create } from "@bufbuild/protobuf";
import { credentials, Server as GrpcServer, Metadata, ServerCredentials, type ServerDuplexStream } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type AdminRequest, AdminRequestSchema, type AdminResponse, type FromAgent } from "../../api/gen/topsail/agent/v1/relay_pb.js";
import { agentRelayDefinition } from "../../istiod/agents/agent-relay-service.ts";
import { pause } from "../../lib/pause.ts";
import { ControlPlaneRelay } from "./control-plane-relay.ts";
import { ownPorts } from "./own-ports.ts";

const metadata = new Metadata();
const body = Buffer.from("x".repeat(200_000));
let admin: Server;
let asked: string[];

beforeAll(async () => {
  asked = [];
  admin = createServer((request, response) => {
    let received = "";
    request.on("data", (chunk) => {
      received += chunk;
    });
    request.on("end", () => {
      asked.push(`${request.method} ${request.url} ${received}`.trim());
      if (request.url === "/huge") {
        const chunk = Buffer.alloc(1024 * 1024);
        const write = () => {
          while (!response.destroyed && response.write(chunk));
        };
        response.on("drain", write);
        write();
      } else response.writeHead(request.url === "/missing" ? 404 : 200, { "content-type": "text/x-test" }).end(body);
    });
  });
  await new Promise<void>((resolve) => admin.listen(0, "127.0.0.1", resolve));
});
afterAll(() => {
  admin.closeAllConnections();
  admin.close();
});

const portsOf = (adminPort: number) =>
  ownPorts({
    environment: { bindAddress: undefined, statusListenerPort: 0, prometheusPort: 0 },
    config: { proxyAdminPort: adminPort, statusPort: 0 },
    statusHost: "0.0.0.0",
  });

interface Question {
  readonly port?: number;
  readonly method?: string;
  readonly path?: string;
  readonly body?: Uint8Array;
}

interface Plane extends AsyncDisposable {
  readonly hello: Promise<FromAgent>;
  ask(question: Question): Promise<{ status: number; error: string; body: Buffer; parts: number; contentType: string }>;
}

/** A control plane that has the relay's service alone, and an agent that calls it. */
async function startPlane(): Promise<Plane> {
  const server = new GrpcServer();
  const streamOf = Promise.withResolvers<ServerDuplexStream<FromAgent, AdminRequest>>();
  const hello = Promise.withResolvers<FromAgent>();
  const waiting = new Map<number, (part: AdminResponse) => void>();
  server.addService(agentRelayDefinition, {
    Serve: (stream: ServerDuplexStream<FromAgent, AdminRequest>) => {
      stream.on("error", () => {});
      stream.on("data", (message: FromAgent) => {
        if (message.message.case === "hello") {
          hello.resolve(message);
          streamOf.resolve(stream);
        } else if (message.message.case === "response") waiting.get(message.message.value.id)?.(message.message.value);
      });
    },
  });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound))),
  );
  const relay = ControlPlaneRelay.start({
    access: async () => ({ target: `127.0.0.1:${port}`, credentials: credentials.createInsecure(), metadata, options: {} }),
    node: { id: "sidecar~10.0.0.1~web.default~default.svc.cluster.local", metadata: { NAMESPACE: "default", SERVICE_ACCOUNT: "web" } },
    ports: portsOf((admin.address() as AddressInfo).port),
  });
  let lastId = 0;
  return {
    hello: hello.promise,
    ask: async (question) => {
      const stream = await streamOf.promise;
      const id = ++lastId;
      return new Promise((resolve) => {
        const chunks: Uint8Array[] = [];
        waiting.set(id, (part) => {
          chunks.push(part.body);
          if (part.isLast)
            resolve({
              status: part.status,
              error: part.error,
              contentType: part.contentType,
              body: Buffer.concat(chunks),
              parts: chunks.length,
            });
        });
        stream.write(create(AdminRequestSchema, { id, port: 15000, method: "GET", path: "/", ...question }));
      });
    },
    [Symbol.asyncDispose]: async () => {
      await relay[Symbol.asyncDispose]();
      server.forceShutdown();
    },
  };
}

describe("an agent's relay", () => {
  it("says who it is, and brings what the proxy's admin interface answers, in parts", async () => {
    await using plane = await startPlane();
    expect((await plane.hello).message).toMatchObject({
      case: "hello",
      value: {
        node: { id: "sidecar~10.0.0.1~web.default~default.svc.cluster.local", metadata: { NAMESPACE: "default", SERVICE_ACCOUNT: "web" } },
      },
    });
    const answer = await plane.ask({ path: "/config_dump?mask=x" });
    expect(answer).toMatchObject({ status: 200, error: "", contentType: "text/x-test" });
    expect(answer.body.equals(body)).toBe(true);
    expect(answer.parts).toBeGreaterThan(3);
    expect(await plane.ask({ path: "/missing" })).toMatchObject({ status: 404, error: "" });
    expect(asked).toContain("GET /config_dump?mask=x");
  });

  it("passes on what changes levels of the log and counters, with its body", async () => {
    await using plane = await startPlane();
    expect(await plane.ask({ method: "POST", path: "/logging?http=debug", body: Buffer.from("b") })).toMatchObject({ status: 200 });
    expect(await plane.ask({ method: "POST", path: "/reset_counters" })).toMatchObject({ status: 200 });
    expect(asked).toEqual(expect.arrayContaining(["POST /logging?http=debug b", "POST /reset_counters"]));
  });

  it.each<[string, Question, RegExp]>([
    ["another port of the machine", { port: 22 }, /port 22 is not one that an agent relays/],
    ["a port that is off", { port: 15020 }, /port 15020 is not one that an agent relays/],
    ["the end of the proxy", { method: "POST", path: "/quitquitquit" }, /POST \/quitquitquit is not relayed/],
    ["a way around", { method: "POST", path: "/logging/../quitquitquit" }, /is not relayed/],
    ["another method", { method: "DELETE", path: "/logging" }, /DELETE \/logging is not relayed/],
    ["an address in place of a path", { path: "http://10.0.0.1/" }, /does not begin with a slash/],
    ["a path that would be two requests", { path: "/x HTTP/1.1\r\nhost: y\r\n\r\n" }, /unescaped characters/],
    ["a large body", { method: "POST", path: "/logging", body: new Uint8Array(70_000) }, /larger than 65536 bytes/],
    ["an endless answer", { path: "/huge" }, /the answer is larger than/],
  ])("refuses %s", async (_, question, message) => {
    await using plane = await startPlane();
    const before = asked.length;
    const { error } = await plane.ask(question);
    expect(error).toMatch(message);
    expect(asked.slice(before).filter((line) => !line.includes("/huge"))).toEqual([]);
  });

  it("answers a few questions at once, and no more", async () => {
    await using plane = await startPlane();
    const answers = await Promise.all(Array.from({ length: 10 }, () => plane.ask({ path: "/config_dump" })));
    const refused = answers.filter(({ error }) => error === "this agent is asked too much at once");
    expect(refused.length).toBeGreaterThan(0);
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(10 - refused.length);
    expect(await plane.ask({ path: "/config_dump" })).toMatchObject({ status: 200 });
  });

  it("leaves a control plane alone that has no such service", async () => {
    const server = new GrpcServer();
    const port = await new Promise<number>((resolve, reject) =>
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound))),
    );
    let calls = 0;
    const access = async () => {
      calls++;
      return { target: `127.0.0.1:${port}`, credentials: credentials.createInsecure(), metadata, options: {} };
    };
    const paused = Promise.withResolvers<number>();
    const relay = ControlPlaneRelay.start({
      access,
      node: { id: "n", metadata: {} },
      ports: portsOf(1),
      pause: (ms, signal) => {
        paused.resolve(ms);
        return pause(ms, signal);
      },
    });
    expect(await paused.promise).toBeGreaterThan(4 * 60_000);
    expect(calls).toBe(1);
    await relay[Symbol.asyncDispose]();
    server.forceShutdown();
  });
});

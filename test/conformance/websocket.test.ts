/** WebSockets over HTTP/1.1: what a client sees of a server through our proxy, as without a proxy and as through Envoy. */
import { createHash } from "node:crypto";
import { createServer } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { type RunningProxy, startOurProxy, startRealEnvoy } from "../support/proxies.ts";
import { RawConnection } from "../support/raw-client.ts";
import { address, type } from "../support/static-bootstrap.ts";
import { startWebSocketServer, websocketLibrary } from "../support/websocket-server.ts";
import { closeFrame, frame, opcode, type WebSocketCase, webSocketCases } from "./websocket-cases.ts";

const upgrade = (path: string, more = "") =>
  `GET ${path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n${more}\r\n`;

type Side = "direct" | "envoy" | "topsail";
const sides: readonly Side[] = ["direct", "envoy", "topsail"];

describe.skipIf(!envoyBinary || !websocketLibrary)("WebSockets", () => {
  const stack = new AsyncDisposableStack();
  const proxies = new Map<Side, RunningProxy>();
  let serverPort = 0;
  let cutPort = 0;

  function bootstrap(): unknown {
    const websocket = { upgrade_type: "websocket" };
    const manager = (name: string, fields: object) => ({
      name,
      address: address(0),
      filter_chains: [
        {
          filters: [
            {
              name: "hcm",
              typed_config: {
                "@type": type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
                stat_prefix: name,
                http_filters: [{ name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } }],
                route_config: {
                  virtual_hosts: [
                    {
                      name: "all",
                      domains: ["*"],
                      routes: [
                        { match: { prefix: "/no" }, route: { cluster: "server", upgrade_configs: [{ ...websocket, enabled: false }] } },
                        { match: { prefix: "/yes" }, route: { cluster: "server", upgrade_configs: [websocket] } },
                        { match: { prefix: "/brief" }, route: { cluster: "server", idle_timeout: "2s" } },
                        { match: { prefix: "/cut" }, route: { cluster: "cut" } },
                        { match: { prefix: "/" }, route: { cluster: "server", timeout: "1s" } },
                      ],
                    },
                  ],
                },
                ...fields,
              },
            },
          ],
        },
      ],
    });
    const cluster = (name: string, port: number) => ({
      name,
      load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address: address(port) } }] }] },
    });
    return {
      admin: { address: address(0) },
      static_resources: {
        listeners: [
          manager("on", { upgrade_configs: [websocket] }),
          manager("off", {}),
          manager("disabled", { upgrade_configs: [{ ...websocket, enabled: false }] }),
        ],
        clusters: [cluster("server", serverPort), cluster("cut", cutPort)],
      },
    };
  }

  beforeAll(async () => {
    serverPort = stack.use(await startWebSocketServer()).port;
    cutPort = await startCuttingServer();
    const [envoy, topsail] = await Promise.all([startRealEnvoy(bootstrap()), startOurProxy(bootstrap())]);
    proxies.set("envoy", stack.use(envoy)).set("topsail", stack.use(topsail));
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  /** Accepts, sends half a frame, and is gone when it hears anything. */
  async function startCuttingServer(): Promise<number> {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", () => {
        socket.write(
          Buffer.from("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n\x81\x05he", "latin1"),
        );
        socket.once("data", () => socket.end("l"));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    stack.defer(() => new Promise((resolve) => server.close(() => resolve())));
    return (server.address() as { port: number }).port;
  }

  const portOf = async (side: Side, listener = "on") => (side === "direct" ? serverPort : proxies.get(side)!.listenerPort(listener));

  /** Everything behind the response's head. */
  function framesIn(connection: RawConnection): Buffer | undefined {
    const end = connection.received.indexOf("\r\n\r\n");
    return end < 0 ? undefined : connection.received.subarray(end + 4);
  }

  async function open(side: Side, path: string, more = ""): Promise<RawConnection> {
    const connection = await RawConnection.open(await portOf(side));
    connection.write(upgrade(path, more));
    expect(await connection.until(() => framesIn(connection) !== undefined), "an answer").toBe(true);
    expect(connection.received.toString("latin1", 0, 12), side).toBe("HTTP/1.1 101");
    return connection;
  }

  interface Transcript {
    readonly length: number;
    readonly start: string;
    readonly digest: string;
  }

  async function play(side: Side, { steps, pieces }: WebSocketCase): Promise<Transcript> {
    using connection = await open(side, "/echo");
    for (const { bytes, awaits } of steps) {
      for (let at = 0; at < bytes.length && !connection.isClosed; at += pieces ?? bytes.length) {
        connection.write(bytes.subarray(at, at + (pieces ?? bytes.length)));
        if (pieces !== undefined) await new Promise((resolve) => setImmediate(resolve));
      }
      if (awaits !== undefined) await connection.until((received) => received.includes(awaits), 60_000);
    }
    await connection.closed;
    const received = framesIn(connection)!;
    return {
      length: received.length,
      start: received.subarray(0, 200).toString("latin1"),
      digest: createHash("sha256").update(received).digest("hex"),
    };
  }

  /** Several at once: Envoy takes a second to close. */
  async function playAll(side: Side): Promise<Transcript[]> {
    const transcripts: Transcript[] = [];
    let next = 0;
    const work = async () => {
      while (next < webSocketCases.length) {
        const index = next++;
        transcripts[index] = await play(side, webSocketCases[index]!);
      }
    };
    await Promise.all(Array.from({ length: 12 }, work));
    return transcripts;
  }

  describe("of many kinds", () => {
    const transcripts = new Map<Side, Transcript[]>();

    beforeAll(async () => {
      for (const side of sides) transcripts.set(side, await playAll(side));
    }, 240_000);

    it.each(webSocketCases.map(({ name }, index) => [name, index] as const))("%s", (_, index) => {
      const [direct, theirs, ours] = sides.map((side) => transcripts.get(side)![index]);
      expect(direct!.length).toBeGreaterThan(0);
      expect(theirs, "Envoy").toEqual(direct);
      expect(ours, "ours").toEqual(direct);
    });
  });

  it("has as many cases as it should", () => expect(webSocketCases.length).toBeGreaterThanOrEqual(90));

  it.each(sides)("lets a server speak first, %s", async (side) => {
    using connection = await open(side, "/push");
    const messages = Array.from({ length: 500 }, (_, index) => `message ${index}`);
    const wanted = Buffer.concat(messages.map((message) => frame(opcode.text, message, { isMasked: false })));
    expect(await connection.until(() => framesIn(connection)!.length >= wanted.length)).toBe(true);
    expect(framesIn(connection)!.equals(wanted)).toBe(true);
    connection.write(closeFrame(1000));
    expect(await connection.closes()).toBe(true);
  });

  it.each(sides)("tells the server that the client has gone, %s", async (side) => {
    using connection = await open(side, "/echo");
    connection.write(frame(opcode.text, "last words"));
    connection.socket.end();
    expect(await connection.closes()).toBe(true);
    // Envoy drops what the server still says.
    if (side !== "envoy") expect(framesIn(connection)!.toString("latin1").startsWith("\x81\x0alast words")).toBe(true);
  });

  it.each(["envoy", "topsail"] as const)("tells the client that the server has gone, and passes on what it said: %s", async (side) => {
    using connection = await open(side, "/cut");
    connection.write("x");
    expect(await connection.closes()).toBe(true);
    expect(framesIn(connection)!.toString("latin1")).toBe("\x81\x05hel");
  });

  it.each(["envoy", "topsail"] as const)("lives on behind the route's timeout, and ends when it is idle: %s", async (side) => {
    // The timeout of 1 s is of requests, and none of what follows an upgrade.
    using lasting = await open(side, "/echo");
    using brief = await open(side, "/brief");
    for (let round = 0; round < 4; round++) {
      brief.write(frame(opcode.ping, "stay"));
      expect(await brief.until(() => framesIn(brief)!.length >= 6 * (round + 1))).toBe(true);
      await new Promise((resolve) => setTimeout(resolve, 400));
    }
    expect(await brief.closes()).toBe(true);
    expect(framesIn(brief)!.length).toBe(24);
    lasting.write(frame(opcode.text, "still here"));
    expect(await lasting.until(() => framesIn(lasting)!.toString("latin1").includes("still here"))).toBe(true);
  });

  it.each([
    ["on", "/echo", "101"],
    ["on", "/no", "403"],
    ["on", "/yes", "101"],
    ["off", "/echo", "403"],
    ["off", "/yes", "101"],
    ["disabled", "/echo", "403"],
    ["disabled", "/yes", "101"],
  ])("is allowed by the listener %s and the route %s: %s", async (listener, path, status) => {
    const answer = async (side: "envoy" | "topsail") => {
      using connection = await RawConnection.open(await portOf(side, listener));
      connection.write(upgrade(path));
      await connection.until(() => framesIn(connection) !== undefined);
      const [line = "", ...headers] = connection.received.toString("latin1").split("\r\n\r\n")[0]!.split("\r\n");
      return { status: line.split(" ")[1], headers: headers.filter((one) => !/^(?:date|x-envoy-upstream-service-time):/i.test(one)) };
    };
    const theirs = await answer("envoy");
    expect(theirs.status).toBe(status);
    expect(await answer("topsail")).toEqual(theirs);
  });

  it.each(sides)("works with another client, Node's own: %s", async (side) => {
    const socket = new WebSocket(`ws://127.0.0.1:${await portOf(side)}/echo`);
    socket.binaryType = "arraybuffer";
    const received: unknown[] = [];
    const closed = new Promise<CloseEvent>((resolve) => socket.addEventListener("close", resolve));
    const all = new Promise<void>((resolve) =>
      socket.addEventListener("message", ({ data }) => {
        received.push(typeof data === "string" ? data : (data as ArrayBuffer).byteLength);
        if (received.length === 3) resolve();
      }),
    );
    await new Promise((resolve, reject) => {
      socket.addEventListener("open", resolve);
      socket.addEventListener("error", reject);
    });
    socket.send("grüße");
    socket.send(new Uint8Array(100_000));
    socket.send("");
    await all;
    socket.close(4001, "done");
    const { code, reason, wasClean } = await closed;
    expect({ received, code, reason, wasClean }).toEqual({ received: ["grüße", 100_000, ""], code: 4001, reason: "done", wasClean: true });
  });
});

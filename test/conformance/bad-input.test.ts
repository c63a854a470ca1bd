/** Garbage at every door: a clear error or silence, the process lives on and serves, and its memory stays within bounds. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, fromBinary, type JsonObject, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Client, type ClientDuplexStream, credentials } from "@grpc/grpc-js";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import {
  DiscoveryRequestSchema,
  type DiscoveryResponse,
  DiscoveryResponseSchema,
} from "../../src/api/gen/envoy/service/discovery/v3/discovery_pb.js";
import { typeUrls } from "../../src/api/type-urls.ts";
import { freePortRow } from "../support/ports.ts";
import { eventually } from "../support/proxies.ts";
import { RawConnection } from "../support/raw-client.ts";
import { binary, TopsailProcess } from "../support/topsail.ts";

/** What a process may grow by from all the garbage of one suite, over what it takes at its very start, when it has done nothing yet. */
const boundMiB = 200;

function anonymousMiB(pid: number): number {
  return Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024;
}

const goodService = (host: string) => `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ${host.split(".")[0]}, namespace: default}
spec: {hosts: [${host}], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 127.0.0.1}]}
`;

const garbagePaths = [
  "/",
  "/debug/../../etc/passwd",
  "/debug/%2e%2e/%2e%2e/etc/passwd",
  "/debug/nope",
  "/debug/__proto__",
  "/debug/constructor",
  "/debug/config_dump?proxyID=nobody",
  "/debug/config_dump?proxyID=%00%ff",
  "/debug/edsz",
  "/stats?filter=(((((((((((((((((((((((((((a*)*)*)*",
  "/config_dump?resource=__proto__&mask=a.b.c.d",
  "/config_dump?name_regex=(a+)+$",
  "/logging?level=__proto__",
  "//",
  "/%",
  "/\x7f",
  `/${"x".repeat(5000)}`,
  "http://[",
  "http://other.example/debug/list",
  "*",
];

const methods = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "BREW"];

/** Every path and method, long and broken heads, and a client that says nothing: always an answer below 500, or the end of the connection. */
async function sendGarbageHttp(port: number): Promise<void> {
  const heads = [
    ...garbagePaths.flatMap((path) =>
      methods.map((method) => `${method} ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`),
    ),
    `GET / HTTP/1.1\r\nhost: a\r\nx: ${"y".repeat(500_000)}\r\n\r\n`,
    `GET / HTTP/1.1\r\n${"x: y\r\n".repeat(50_000)}\r\n`,
    "\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "\0\0\0\0\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
  ];
  const odd: string[] = [];
  const work = async () => {
    for (let head = heads.pop(); head !== undefined; head = heads.pop()) {
      using connection = await RawConnection.open(port);
      connection.write(head);
      const hasAnswer = (received: Buffer) => received.includes("\r\n\r\n");
      await connection.until(hasAnswer);
      const status = Number(connection.received.toString("latin1").split(" ")[1]);
      if (!connection.isClosed && !(status >= 200 && status < 500)) odd.push(`${head.slice(0, 60)} -> ${status}`);
      else if (status >= 500 && status !== 503) odd.push(`${head.slice(0, 60)} -> ${status}`);
    }
  };
  const silent = await Promise.all(Array.from({ length: 50 }, () => RawConnection.open(port)));
  for (const connection of silent) connection.write("GET / HTT");
  await Promise.all(Array.from({ length: 8 }, work));
  for (const connection of silent) connection[Symbol.dispose]();
  expect(odd).toEqual([]);
}

describe("istiod's doors", () => {
  const stack = new AsyncDisposableStack();
  let directory: string;
  let istiod: TopsailProcess;
  let grpcPort: number;
  let monitoringPort: number;
  let before: number;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "topsail-bad-"));
    stack.defer(() => rmSync(directory, { recursive: true, force: true }));
    writeFileSync(join(directory, "good.yaml"), goodService("good.example"));
    grpcPort = await freePortRow(2);
    monitoringPort = grpcPort + 1;
    const addresses = ["--grpcAddr", `127.0.0.1:${grpcPort}`, "--secureGRPCAddr", "", "--monitoringAddr", `127.0.0.1:${monitoringPort}`];
    istiod = stack.use(new TopsailProcess(["istiod", "--configDir", directory, ...addresses]));
    await istiod.printed("serving");
    before = anonymousMiB(istiod.pid);
  });
  afterAll(() => stack.disposeAsync());

  const page = async (name: string) => (await fetch(`http://127.0.0.1:${monitoringPort}/debug/${name}`)).json() as Promise<JsonObject[]>;
  const hosts = async () => (await page("registryz")).map(({ host }) => host);

  let serial = 0;
  // After each case: alive, within bounds, and a new object still comes through, over files and over ADS.
  afterEach(async () => {
    const host = `after-${++serial}.example`;
    writeFileSync(join(directory, "after.yaml"), goodService(host));
    await eventually(
      async () => (await hosts()).includes(host) || undefined,
      () => `${host} in the registry\n${istiod.stderr.slice(-1500)}`,
    );
    expect(await hosts()).toContain("good.example");
    const client = openAds();
    client.send({ typeUrl: typeUrls.cds });
    expect((await client.next()).resources.length).toBeGreaterThan(0);
    client.close();
    expect(istiod.child.exitCode).toBeNull();
    expect(anonymousMiB(istiod.pid) - before).toBeLessThan(boundMiB);
  });

  interface AdsClient {
    readonly call: ClientDuplexStream<Buffer, Buffer>;
    readonly responses: DiscoveryResponse[];
    send(request: MessageInitShape<typeof DiscoveryRequestSchema>, metadata?: JsonObject): void;
    next(): Promise<DiscoveryResponse>;
    /** Status of the stream when it has ended. */
    readonly ended: Promise<number>;
    close(): void;
  }

  function openAds(): AdsClient {
    const client = new Client(`127.0.0.1:${grpcPort}`, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
    const same = (bytes: Buffer) => bytes;
    const call = client.makeBidiStreamRequest<Buffer, Buffer>(
      "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
      same,
      same,
    );
    const responses: DiscoveryResponse[] = [];
    let read = 0;
    let onResponse: () => void = () => {};
    const { promise: ended, resolve } = Promise.withResolvers<number>();
    call.on("data", (bytes: Buffer) => {
      responses.push(fromBinary(DiscoveryResponseSchema, bytes));
      onResponse();
    });
    call.on("error", () => {});
    call.on("status", ({ code }: { code: number }) => resolve(code));
    return {
      call,
      responses,
      ended,
      send(fields, metadata = {}) {
        const node = { id: "router~127.0.0.1~bad.default~default.svc.cluster.local", metadata };
        call.write(Buffer.from(toBinary(DiscoveryRequestSchema, create(DiscoveryRequestSchema, { node, ...fields } as typeof fields))));
      },
      async next() {
        if (responses.length <= read) {
          await Promise.race([
            new Promise<void>((done) => {
              onResponse = done;
            }),
            ended.then((code) => Promise.reject(new Error(`the stream ended with ${code}`))),
          ]);
        }
        return responses[read++]!;
      },
      close() {
        call.cancel();
        client.close();
      },
    };
  }

  describe("ADS", () => {
    it("leaves an unknown type unanswered and goes on with the others", async () => {
      const client = openAds();
      client.send({ typeUrl: "type.googleapis.com/no.such.Type" });
      client.send({ typeUrl: "" });
      client.send({ typeUrl: typeUrls.cds });
      expect((await client.next()).typeUrl).toBe(typeUrls.cds);
      client.close();
    });

    it("ignores answers to what it never sent", async () => {
      const client = openAds();
      client.send({ typeUrl: typeUrls.cds, responseNonce: "never", versionInfo: "nonsense" });
      const response = await client.next();
      client.send({ typeUrl: typeUrls.cds, responseNonce: "wrong", versionInfo: response.versionInfo });
      client.send({
        typeUrl: typeUrls.cds,
        responseNonce: response.nonce,
        errorDetail: { code: 3, message: "x".repeat(100_000) },
      });
      client.send({ typeUrl: typeUrls.eds, resourceNames: ["outbound|80||good.example"] });
      expect((await client.next()).typeUrl).toBe(typeUrls.eds);
      expect(client.responses.map(({ typeUrl }) => typeUrl)).toEqual([typeUrls.cds, typeUrls.eds]);
      client.close();
    });

    it("takes 10,000 names that nobody has", async () => {
      const client = openAds();
      const resourceNames = Array.from({ length: 10_000 }, (_, index) => `outbound|80||host-${index}.example`);
      for (const typeUrl of [typeUrls.eds, typeUrls.rds, typeUrls.sds]) client.send({ typeUrl, resourceNames });
      client.send({ typeUrl: typeUrls.cds });
      for (;;) if ((await client.next()).typeUrl === typeUrls.cds) break;
      client.close();
    });

    it("takes odd names", async () => {
      const client = openAds();
      const resourceNames = [
        "",
        "|",
        "||||||||",
        "outbound|||",
        "outbound|x||y",
        "__proto__",
        "\0",
        "../../etc/passwd",
        "x".repeat(100_000),
      ];
      for (const typeUrl of [typeUrls.eds, typeUrls.rds, typeUrls.sds, typeUrls.lds]) client.send({ typeUrl, resourceNames });
      client.send({ typeUrl: typeUrls.cds });
      for (;;) if ((await client.next()).typeUrl === typeUrls.cds) break;
      client.close();
    });

    it.each([
      ["an empty id", { id: "" }],
      ["an id without parts", { id: "nonsense" }],
      ["an unknown type of node", { id: "alien~1.2.3.4~a.b~c" }],
      ["an id of 1 MB", { id: `router~127.0.0.1~${"x".repeat(1_000_000)}.default~d` }],
      ["an address that is none", { id: "router~999.1.1.1~a.b~c" }],
    ])("takes or refuses %s", async (_, { id }) => {
      const client = openAds();
      client.call.write(
        Buffer.from(toBinary(DiscoveryRequestSchema, create(DiscoveryRequestSchema, { typeUrl: typeUrls.cds, node: { id } }))),
      );
      await Promise.race([client.next().catch(() => undefined), client.ended]);
      client.close();
    });

    it("takes metadata of odd types", async () => {
      const client = openAds();
      client.send(
        { typeUrl: typeUrls.cds },
        { LABELS: "none", NAMESPACE: 5, INSTANCE_IPS: { a: 1 }, PROXY_CONFIG: [], GENERATOR: {}, __proto__: 1 },
      );
      await Promise.race([client.next().catch(() => undefined), client.ended]);
      client.close();
    });

    it("refuses messages beyond its limit: 20 MB of metadata", async () => {
      const client = openAds();
      client.send({ typeUrl: typeUrls.cds }, { BIG: "x".repeat(20_000_000) });
      expect(await client.ended).toBe(8); // RESOURCE_EXHAUSTED
      client.close();
    });

    it("ends a stream of bytes that are no message", async () => {
      const client = openAds();
      client.call.write(Buffer.from([0xff, 0xff, 0xff, 0xff, 0x0f]));
      expect(await client.ended).toBeGreaterThan(0);
      client.close();
    });

    it("forgets streams that are half open, and those that are cut", async () => {
      const sessions = await Promise.all(
        Array.from({ length: 30 }, async () => {
          const session = connectHttp2(`http://127.0.0.1:${grpcPort}`);
          session.on("error", () => {});
          await new Promise((resolve) => session.once("connect", resolve));
          const stream = session.request({
            ":method": "POST",
            ":path": "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
            "content-type": "application/grpc",
            te: "trailers",
          });
          stream.on("error", () => {});
          stream.write(Buffer.from([0, 0, 0, 1, 0])); // a message of 256 bytes of which none comes
          return session;
        }),
      );
      for (const session of sessions) session.destroy();
      await eventually(async () => (await page("connections")).length === 0 || undefined, "no connection left");
    });

    it("is not filled by a client that asks and never reads", async () => {
      const session = connectHttp2(`http://127.0.0.1:${grpcPort}`, { settings: { initialWindowSize: 0 } });
      session.on("error", () => {});
      const stream = session.request({
        ":method": "POST",
        ":path": "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
        "content-type": "application/grpc",
        te: "trailers",
      });
      stream.on("error", () => {});
      stream.pause();
      const node = { id: "router~127.0.0.1~deaf.default~default.svc.cluster.local" };
      for (let index = 0; index < 3000; index++) {
        const resourceNames = [`outbound|80||${index}.example`, "x".repeat(1000)];
        const message = toBinary(DiscoveryRequestSchema, create(DiscoveryRequestSchema, { typeUrl: typeUrls.eds, node, resourceNames }));
        const head = Buffer.alloc(5);
        head.writeUInt32BE(message.length, 1);
        stream.write(Buffer.concat([head, message]));
      }
      await eventually(async () => (await page("connections")).length === 1 || undefined, "the deaf client");
      expect(anonymousMiB(istiod.pid) - before).toBeLessThan(boundMiB);
      session.destroy();
    });

    it("survives what is no HTTP/2", async () => {
      for (const bytes of [
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "\x16\x03\x01\x00\x05",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
      ]) {
        using connection = await RawConnection.open(grpcPort);
        connection.write(bytes);
        connection.socket.end();
        await connection.closes();
      }
    });
  });

  it("answers garbage on the monitoring port", () => sendGarbageHttp(monitoringPort), 60_000);

  describe("the configuration directory", () => {
    const problems = async () => JSON.stringify(await page("problems"));

    it("reports a binary file", async () => {
      writeFileSync(join(directory, "binary.yaml"), Buffer.from(Array.from({ length: 10_000 }, (_, index) => (index * 7919) % 256)));
      await eventually(async () => (await problems()).includes("binary.yaml") || undefined, "the report");
      rmSync(join(directory, "binary.yaml"));
    });

    it("reports 100 MB of YAML without reading it into memory", async () => {
      const file = join(directory, "huge.yaml");
      const handle = openSync(file, "w");
      writeSync(handle, goodService("huge.example"));
      truncateSync(file, 100 * 1024 * 1024);
      await eventually(async () => (await problems()).includes("too large") || undefined, "the report");
      rmSync(file);
    });

    it("reports an alias bomb", async () => {
      const lines = Array.from(
        { length: 30 },
        (_, i) =>
          `a${i}: &a${i} [${
            i === 0
              ? "lol"
              : Array(10)
                  .fill(`*a${i - 1}`)
                  .join(",")
          }]`,
      );
      writeFileSync(
        join(directory, "bomb.yaml"),
        `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\ndata:\n${lines.map((line) => `  ${line}`).join("\n")}\n`,
      );
      await eventually(async () => (await problems()).includes("bomb.yaml") || undefined, "the report");
      rmSync(join(directory, "bomb.yaml"));
    });

    it("takes cycles of delegates for nothing", async () => {
      const virtualService = (name: string, delegate: string, host = "") => `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ${name}, namespace: default}
spec: {${host} http: [{match: [{uri: {prefix: /}}], delegate: {name: ${delegate}, namespace: default}}]}
`;
      const text = [virtualService("root", "one", "hosts: [cycle.example], "), virtualService("one", "two"), virtualService("two", "one")];
      writeFileSync(join(directory, "cycle.yaml"), text.join("---"));
      await eventually(async () => JSON.stringify(await page("configz")).includes("cycle.example") || undefined, "the cycle");
    });

    it("is not led out of its directory by names or links", async () => {
      const outside = mkdtempSync(join(tmpdir(), "topsail-outside-"));
      writeFileSync(join(outside, "secret.yaml"), goodService("outside.example"));
      symlinkSync(outside, join(directory, "link"));
      symlinkSync(join(outside, "secret.yaml"), join(directory, "link.yaml"));
      writeFileSync(join(directory, "escape.yaml"), goodService("escape.example").replace("name: escape", 'name: "../../escape"'));
      await eventually(async () => (await problems()).includes("escape.yaml") || undefined, "the report");
      expect(await hosts()).not.toContain("outside.example");
      expect(await hosts()).not.toContain("escape.example");
      for (const name of ["link", "link.yaml", "escape.yaml"]) rmSync(join(directory, name));
      rmSync(outside, { recursive: true });
    });

    it("takes directories that never end, and names of all kinds", async () => {
      let path = directory;
      for (let depth = 0; depth < 60; depth++) {
        path = join(path, "deeper");
        mkdirSync(path);
      }
      writeFileSync(join(path, "far.yaml"), goodService("far.example"));
      symlinkSync(directory, join(directory, "self"));
      writeFileSync(join(directory, "näme with spaces\n.yaml"), goodService("odd.example"));
      await eventually(async () => (await hosts()).includes("odd.example") || undefined, "the odd name");
      rmSync(join(directory, "deeper"), { recursive: true });
      rmSync(join(directory, "self"));
    });
  });
});

describe("the proxy's doors", () => {
  it("answers garbage on the admin port and lives on", { timeout: 90_000 }, async () => {
    const directory = mkdtempSync(join(tmpdir(), "topsail-bad-"));
    const [file, address] = [join(directory, "bootstrap.yaml"), join(directory, "admin")];
    writeFileSync(file, "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}\n");
    await using proxy = new TopsailProcess(["envoy", "-c", file, "--concurrency", "1", "--admin-address-path", address]);
    const port = await eventually(() => {
      try {
        return Number(readFileSync(address, "utf8").split(":")[1]) || undefined;
      } catch {
        return undefined;
      }
    }, "the admin port");
    const ready = async () => (await (await fetch(`http://127.0.0.1:${port}/ready`)).text()).trim();
    await eventually(async () => (await ready()) === "LIVE" || undefined, "LIVE");
    const before = anonymousMiB(proxy.pid);
    await sendGarbageHttp(port);
    expect(await ready()).toBe("LIVE");
    expect(anonymousMiB(proxy.pid) - before).toBeLessThan(boundMiB);
    rmSync(directory, { recursive: true });
  });

  const listener = (inner: string) =>
    `static_resources: {listeners: [{name: a, address: {socket_address: {address: 127.0.0.1, port_value: 1}}, ${inner}}]}`;
  const nested = (depth: number) => `node: {metadata: ${'{"a": '.repeat(depth)}1${"}".repeat(depth)}}`;
  const bombed = Array.from(
    { length: 30 },
    (_, i) =>
      `    a${i}: &a${i} [${
        i === 0
          ? "lol"
          : Array(10)
              .fill(`*a${i - 1}`)
              .join(",")
      }]`,
  );

  it.each([
    ["nothing that is there", undefined],
    ["an empty file", ""],
    ["binary bytes", "\xff\xfe\0\x01\x02"],
    ["text", "hello"],
    ["a list", "[1, 2]"],
    ["a number", "42"],
    ["broken YAML", "a: [b\nc: d"],
    ["broken flow", "{{{{{"],
    ["tabs for indentation", "node:\n\tid: a"],
    // Envoy takes the last of the two.
    ["a key twice", "node: {id: a}\nnode: {id: b}", "OK"],
    ["an alias bomb", `node:\n  metadata:\n${bombed.join("\n")}\n`],
    ["an alias to itself", "node: &a {metadata: {x: *a}}"],
    ["an unknown field", "no_such_field: 1"],
    ["a field of another type", "static_resources: 7"],
    ["a list for a message", "admin: [1]"],
    ["a message for a list", "static_resources: {listeners: {}}"],
    ["10,000 levels", nested(10_000)],
    ["an enum that is none", "static_resources: {clusters: [{name: a, type: NOPE}]}"],
    ["an unknown type URL", listener('filter_chains: [{filters: [{name: x, typed_config: {"@type": type.googleapis.com/no.Such}}]}]')],
    ["a type URL that is none", listener('filter_chains: [{filters: [{name: x, typed_config: {"@type": 5}}]}]')],
    ["typed_config without type", listener("filter_chains: [{filters: [{name: x, typed_config: {a: b}}]}]")],
    ["a cluster without a name", "static_resources: {clusters: [{}]}"],
    ["a port beyond all", "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 99999999999}}}"],
    ["an address that is none", listener("filter_chains: [{}]").replace("127.0.0.1", "not-an-ip")],
    ["a prototype for a field", '{"__proto__": {"id": 1}}'],
    ["a bad duration", "static_resources: {clusters: [{name: a, connect_timeout: forever}]}"],
    [
      "a bad regular expression",
      `static_resources: {clusters: [{name: a}], listeners: [{name: a, address: {socket_address: {address: 127.0.0.1, port_value: 1}}, filter_chains: [{filters: [{name: h, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: a, route_config: {virtual_hosts: [{name: a, domains: ["*"], routes: [{match: {safe_regex: {regex: "(("}}, route: {cluster: a}}]}]}, http_filters: [{name: r, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]}]}]}`,
    ],
  ] as const)("says what is wrong with a bootstrap: %s", (_, text, verdict?: "OK") => {
    const directory = mkdtempSync(join(tmpdir(), "topsail-bad-"));
    try {
      const file = join(directory, "bootstrap.yaml");
      if (text !== undefined) writeFileSync(file, text, "latin1");
      const { status, stdout, stderr, signal } = spawnSync(binary, ["envoy", "--mode", "validate", "-c", file], {
        encoding: "utf8",
        timeout: 20_000,
      });
      expect(signal).toBeNull();
      if (verdict === "OK") {
        expect(stdout).toContain("OK");
        return;
      }
      expect(status).toBe(1);
      expect(stderr).toContain("error initializing configuration");
      expect(stderr.length).toBeLessThan(5000);
      expect(stderr).not.toMatch(/^\s+at .+:\d+:\d+/m); // an explanation, not a stack
      expect(stderr).not.toContain("undefined");
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it("refuses 100 MB of bootstrap without reading them into memory", () => {
    const directory = mkdtempSync(join(tmpdir(), "topsail-bad-"));
    const file = join(directory, "bootstrap.yaml");
    writeFileSync(file, "node: {id: a}\n");
    truncateSync(file, 100 * 1024 * 1024);
    const { status, stderr } = spawnSync(binary, ["envoy", "--mode", "validate", "-c", file], { encoding: "utf8", timeout: 20_000 });
    expect(status).toBe(1);
    expect(stderr).toContain("104857600 bytes, more than");
    rmSync(directory, { recursive: true });
  });
});

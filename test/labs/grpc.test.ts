/**
 * gRPC on a small mesh: an application that is asked through the gateway and by another workload, over mutual TLS, as HTTP/2 all the way. What a
 * client must see of it is only its answers; what an operator sees is in the metrics and in `istioctl proxy-config`.
 */
import { setTimeout as delay } from "node:timers/promises";
import { Client, credentials, Metadata, status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bytes, EchoServer, service } from "../support/grpc-echo.ts";
import { istioObject, LabMesh, labDomain, labProxies } from "../support/lab-mesh.ts";
import { samplesOf } from "../support/prometheus.ts";
import { eventually } from "../support/proxies.ts";

describe.each(labProxies)("gRPC on a mesh, run by $name", ({ binaryPath }) => {
  const stack = new AsyncDisposableStack();
  let lab: LabMesh;

  beforeAll(async () => {
    const server = stack.use(new EchoServer());
    const workloads = [{ name: "customers", grpcPort: await server.listen() }, { name: "httpbin" }] as const;
    lab = stack.use(await LabMesh.start({ network: binaryPath ? 15 : 14, binaryPath, workloads }));
  }, 90_000);
  afterAll(() => stack.disposeAsync(), 30_000);

  const open = (address: string, authority: string) => {
    const client = new Client(address, credentials.createInsecure(), { "grpc.default_authority": authority });
    stack.defer(() => client.close());
    return client;
  };
  const gateway = () => open(`127.0.0.1:${lab.ports.gateway}`, "customers.example.com");
  const neighbour = () => open(`${lab.addressOf("httpbin")}:${lab.ports.outbound}`, `customers.${labDomain}:82`);

  /** The answer, or the code; and what the server was told of who asks. */
  function ask(client: Client, message: string, values: Readonly<Record<string, string>> = {}, patienceMs = 10_000) {
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(values)) metadata.set(name, value);
    let seen = "";
    return new Promise<{ readonly answer: string | number; readonly seen: string }>((resolve) => {
      const deadline = Date.now() + patienceMs;
      const call = client.makeUnaryRequest(
        service.Unary.path,
        bytes,
        bytes,
        Buffer.from(message),
        metadata,
        { deadline },
        (error, answer) => resolve({ answer: error ? error.code : answer!.toString(), seen }),
      );
      call.on("metadata", (head: Metadata) => {
        seen = String(head.get("x-seen")[0]);
      });
    });
  }

  it("answers through the gateway, and the server is told by whose certificate", async () => {
    const client = gateway();
    await expect.poll(() => ask(client, "hello"), { timeout: 30_000 }).toMatchObject({ answer: "hello" });
    const { seen } = await ask(client, "again");
    expect(seen).toContain("URI=spiffe://cluster.local/ns/istio-system/sa/ingress");
  });

  it("answers another workload", async () => {
    const client = neighbour();
    await expect.poll(() => ask(client, "hello"), { timeout: 30_000 }).toMatchObject({ answer: "hello" });
    expect((await ask(client, "again")).seen).toContain("URI=spiffe://cluster.local/ns/default/sa/httpbin");
  });

  it("carries messages to and fro while the call lasts", async () => {
    const call = neighbour().makeBidiStreamRequest(service.Bidi.path, bytes, bytes);
    const got: string[] = [];
    const done = new Promise<number>((resolve) => call.on("status", ({ code }) => resolve(code)));
    call.on("error", () => {});
    call.on("data", (message: Buffer) => {
      got.push(message.toString());
      if (got.length < 5) call.write(Buffer.from(String(got.length)));
      else call.end();
    });
    call.write(Buffer.from("0"));
    expect(await done).toBe(status.OK);
    expect(got).toEqual(["re:0", "re:1", "re:2", "re:3", "re:4"]);
  });

  it("passes the server's own codes on, and counts them", async () => {
    const client = neighbour();
    expect((await ask(client, "x", { "x-do": "fail 7" })).answer).toBe(status.PERMISSION_DENIED);
    if (binaryPath) return; // Envoy without Istio's filters has no such metrics.
    const counted = async (code: string) =>
      samplesOf(await lab.metrics("customers"), "istio_requests_total", {
        reporter: "destination",
        request_protocol: "grpc",
        grpc_response_status: code,
        source_workload: "httpbin",
        connection_security_policy: "mutual_tls",
      }).reduce((sum, { value }) => sum + value, 0);
    await expect.poll(() => counted("7"), { timeout: 15_000 }).toBe(1);
    expect(await counted("0")).toBeGreaterThan(0);
  });

  it.skipIf(binaryPath !== undefined)("counts messages on both sides, while a call lasts too", async () => {
    const counted = async (workload: string, reporter: string, name: string) =>
      samplesOf(await lab.metrics(workload), `istio_${name}_messages_total`, {
        reporter,
        source_workload: "httpbin",
        destination_workload: "customers",
      }).reduce((sum, { value }) => sum + value, 0);
    const all = async () =>
      Promise.all(
        [
          ["httpbin", "source"],
          ["customers", "destination"],
        ].flatMap(([workload, reporter]) => ["request", "response"].map((name) => counted(workload!, reporter!, name))),
      );
    // Workers tell what they count every now and then: what calls before this one have sent must have been told.
    const before = await eventually(async () => {
      const counts = await all();
      await delay(500);
      return String(await all()) === String(counts) ? counts : undefined;
    }, "counters that rest");
    const call = neighbour().makeBidiStreamRequest(service.Bidi.path, bytes, bytes);
    call.on("error", () => {});
    let got = 0;
    call.on("data", () => {
      got++;
    });
    for (let sent = 0; sent < 3; sent++) call.write(Buffer.from("more"));
    await expect.poll(() => got, { timeout: 15_000 }).toBe(3);
    await expect.poll(all, { timeout: 30_000 }).toEqual(before.map((count) => count + 3));
    const ended = new Promise((resolve) => call.on("status", resolve));
    call.write(Buffer.from("last"));
    call.end();
    await ended;
    await expect.poll(all, { timeout: 30_000 }).toEqual(before.map((count) => count + 4));
  });

  it("ends a call whose time is up, by the route's timeout", async () => {
    const rule = { route: [{ destination: { host: "customers", port: { number: 82 } } }], timeout: "0.5s" };
    lab.apply("impatient", istioObject("networking", "VirtualService", "impatient", { hosts: [`customers.${labDomain}`], http: [rule] }));
    const client = neighbour();
    await expect.poll(async () => (await ask(client, "x", { "x-do": "hang" }, 2000)).answer, { timeout: 30_000 }).toBe(status.UNAVAILABLE);
  });

  it("shows in istioctl that HTTP/2 is spoken", () => {
    const { status: code, stdout } = lab.istioctl(
      "proxy-config",
      "cluster",
      "httpbin",
      "--fqdn",
      `customers.${labDomain}`,
      "--port",
      "82",
      "-o",
      "json",
    );
    expect(code).toBe(0);
    const [cluster] = JSON.parse(stdout) as [{ typedExtensionProtocolOptions: Record<string, { explicitHttpConfig: object }> }];
    expect(Object.values(cluster.typedExtensionProtocolOptions)[0]!.explicitHttpConfig).toHaveProperty("http2ProtocolOptions");
  });
});

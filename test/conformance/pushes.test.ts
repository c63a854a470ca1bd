/** What a change sends, and to whom: the control plane watched by clients that remember everything. */
import { status } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { typeUrls } from "../../src/api/type-urls.ts";
import { AdsClient, type Received } from "../support/ads-client.ts";
import { startControlPlane, type TestControlPlane } from "../support/control-plane.ts";

const service = (host: string, address: string, more = "") => `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ${host.replaceAll(".", "-")}, namespace: default}
spec:
  hosts: [${host}]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: ${address}}]
  ${more}
---`;

const gateway = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*"]}]
---`;

const route = (prefix: string) => `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs, namespace: default}
spec:
  hosts: [a.test]
  gateways: [gw]
  http: [{match: [{uri: {prefix: ${prefix}}}], route: [{destination: {host: a.test}}]}]
---`;

const everything = { [typeUrls.cds]: [], [typeUrls.lds]: [], [typeUrls.rds]: ["http.8080"] };

let controlPlane: TestControlPlane;
let router: AdsClient;
let sidecar: AdsClient;

const connectRouter = () =>
  new AdsClient(
    controlPlane.address,
    "router~10.0.0.1~gw.default~default.svc.cluster.local",
    { NAMESPACE: "default", LABELS: { istio: "ingressgateway" } },
    everything,
  );
const connectSidecar = (namespace = "default") =>
  new AdsClient(
    controlPlane.address,
    `sidecar~10.0.0.2~app.${namespace}~${namespace}.svc.cluster.local`,
    { NAMESPACE: namespace },
    {
      [typeUrls.cds]: [],
      [typeUrls.lds]: [],
      [typeUrls.rds]: ["80"],
    },
  );

/** Resolves when both clients have their first state and it is quiet. */
async function settled(...clients: AdsClient[]): Promise<void> {
  for (const client of clients) await expect.poll(() => new Set(client.received.map(({ type }) => type)).size, { timeout: 10_000 }).toBe(4);
  await quiet();
}

/** Longer than debounce and push take: what has not come by then does not come. */
const quiet = async () => {
  // In many steps, so that a machine that stands still for a while does not pass over what it has yet to do.
  for (let step = 0; step < 20; step++) await new Promise((resolve) => setTimeout(resolve, 20));
};

async function afterChange(name: string, yaml: string): Promise<{ router: Received[]; sidecar: Received[] }> {
  router.take();
  sidecar.take();
  await controlPlane.write(name, yaml);
  await quiet();
  return { router: router.take(), sidecar: sidecar.take() };
}

const base = gateway + service("a.test", "10.1.0.1") + service("b.test", "10.1.0.2");

beforeEach(async () => {
  controlPlane = await startControlPlane(base + route("/one"));
  router = connectRouter();
  sidecar = connectSidecar();
  await settled(router, sidecar);
});

afterEach(async () => {
  router[Symbol.dispose]();
  sidecar[Symbol.dispose]();
  await controlPlane[Symbol.asyncDispose]();
});

describe("a push", () => {
  it("of an endpoint change is EDS alone, of that cluster alone", async () => {
    const got = await afterChange("mesh.yaml", gateway + service("a.test", "10.1.0.99") + service("b.test", "10.1.0.2") + route("/one"));
    const only = [{ type: "eds", names: ["outbound|80||a.test"], removed: [] }];
    expect(got).toEqual({ router: only, sidecar: only });
  });

  it("of a route bound to a gateway reaches the gateway alone", async () => {
    const got = await afterChange("mesh.yaml", base + route("/two"));
    expect(got).toEqual({ router: [{ type: "rds", names: ["http.8080"], removed: [] }], sidecar: [] });
  });

  it("of a new service is its cluster, its endpoints, and the routes that name it", async () => {
    const got = await afterChange("more.yaml", service("c.test", "10.1.0.3"));
    expect(got.router).toEqual([
      { type: "cds", names: ["outbound|80||c.test"], removed: [] },
      { type: "eds", names: ["outbound|80||c.test"], removed: [] },
    ]);
    expect(got.sidecar.map(({ type, names }) => [type, names])).toEqual([
      ["cds", ["outbound|80||c.test"]],
      ["rds", ["80"]],
      ["eds", ["outbound|80||c.test"]],
    ]);
  });

  it("of a service that is gone is a removal", async () => {
    const got = await afterChange("mesh.yaml", gateway + service("a.test", "10.1.0.1") + route("/one"));
    expect(got.router).toContainEqual({ type: "cds", names: [], removed: ["outbound|80||b.test"] });
  });

  it("of what a namespace keeps to itself stays there", async () => {
    using stranger = connectSidecar("other");
    await settled(stranger);
    stranger.take();
    const got = await afterChange("private.yaml", service("private.test", "10.1.0.4", "exportTo: ['.']"));
    expect(got.sidecar.length).toBeGreaterThan(0);
    expect(stranger.take()).toEqual([]);
  });

  it("of a text that says the same is nothing", async () => {
    expect(await afterChange("mesh.yaml", `# a comment\n${base}${route("/one")}`)).toEqual({ router: [], sidecar: [] });
  });

  it("of a broken document is nothing, and others in the file go on", async () => {
    const got = await afterChange("mesh.yaml", `${base.replace("10.1.0.2", "10.1.0.77")}${route("/one").replace("prefix", "prefx")}`);
    expect(got.router).toEqual([{ type: "eds", names: ["outbound|80||b.test"], removed: [] }]);
    expect(await (await fetch(`${controlPlane.debugUrl}/debug/problems`)).json()).toEqual([expect.stringContaining("prefx")]);
  });
});

describe("the control plane", () => {
  it("refuses a node that it can't make out", async () => {
    using client = new AdsClient(controlPlane.address, "nonsense", {}, { [typeUrls.cds]: [] });
    await expect.poll(() => client.status?.code, { timeout: 5_000 }).toBe(status.INVALID_ARGUMENT);
    expect(client.status?.details).toContain("nonsense");
  });

  it("tells in syncz what was sent and acknowledged, and in metrics how often", async () => {
    const syncz = (await (await fetch(`${controlPlane.debugUrl}/debug/syncz`)).json()) as Record<string, string>[];
    expect(syncz.map(({ proxy, proxy_type }) => [proxy, proxy_type]).sort()).toEqual([
      ["app.default", "sidecar"],
      ["gw.default", "router"],
    ]);
    for (const proxy of syncz) expect(proxy.cluster_acked).toBe(proxy.cluster_sent);
    const metrics = await (await fetch(`${controlPlane.debugUrl}/metrics`)).text();
    expect(metrics).toMatch(/^pilot_services 2$/m);
    expect(metrics).toMatch(/^pilot_xds_pushes\{type="lds"\} 2$/m);
    expect(metrics).toMatch(/^pilot_xds\{version="unknown"\} 2$/m);
  });

  it("counts and names servers of Gateways that conflict", async () => {
    await controlPlane.write(
      "more.yaml",
      gateway
        .replace("name: gw", "name: late")
        .replace("{number: 8080, name: http, protocol: HTTP}", "{number: 8080, name: tcp, protocol: TCP}"),
    );
    await quiet();
    const metrics = await (await fetch(`${controlPlane.debugUrl}/metrics`)).text();
    expect(metrics).toMatch(/^pilot_total_rejected_configs\{type="gateway",name="default\/late"\} 1$/m);
    expect(await (await fetch(`${controlPlane.debugUrl}/debug/push_status`)).json()).toMatchObject({
      gatewayConflicts: [{ gateway: "default/late" }],
    });
  });

  it("answers every debug page that it lists, to loopback", async () => {
    const pages = (await (await fetch(`${controlPlane.debugUrl}/debug/list`)).json()) as { name: string }[];
    expect(pages.length).toBeGreaterThan(10);
    for (const { name } of pages) {
      const answer = await fetch(`${controlPlane.debugUrl}${name}?proxyID=gw.default`);
      expect([name, answer.status]).toEqual([name, 200]);
      JSON.parse(await answer.text());
    }
    expect((await fetch(`${controlPlane.debugUrl}/debug/nonsense`)).status).toBe(404);
    expect((await fetch(`${controlPlane.debugUrl}/debug/config_dump`)).status).toBe(400);
    expect((await fetch(`${controlPlane.debugUrl}/debug/config_dump?proxyID=nobody`)).status).toBe(404);
  });
});

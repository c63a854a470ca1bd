/**
 * What a mesh does about endpoints that fail: limits on what is sent to them, ejection, and failover to another locality. Control plane and
 * ingress gateway are the executable; the endpoints are the test's own, since they are to fail when it says so.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { istioObject, type Json, LabMesh, labProxies } from "../support/lab-mesh.ts";
import { good, ill, MoodyUpstream } from "../support/moody-upstream.ts";

const patience = { timeout: 30_000 };

describe.each(labProxies)("A mesh with endpoints that fail, run by $name", { timeout: 60_000 }, ({ name, binaryPath }) => {
  const stack = new AsyncDisposableStack();
  let lab: LabMesh;
  let near: MoodyUpstream;
  let next: MoodyUpstream;
  let far: MoodyUpstream;

  beforeAll(async () => {
    near = stack.use(await MoodyUpstream.start("near"));
    next = stack.use(await MoodyUpstream.start("next"));
    far = stack.use(await MoodyUpstream.start("far"));
    const network = name === "Envoy" ? 17 : 16;
    lab = stack.use(await LabMesh.start({ network, binaryPath, workloads: [{ name: "httpbin" }], gatewayLocality: "east/e1/a" }));
    lab.apply(
      "shop-route",
      istioObject("networking", "VirtualService", "shop", {
        hosts: ["shop.example.com"],
        gateways: ["istio-system/ingress"],
        http: [{ route: [{ destination: { host: "shop.test" } }] }],
      }),
    );
  }, 90_000);
  afterAll(() => stack.disposeAsync(), 30_000);

  function serve(endpoints: readonly (readonly [MoodyUpstream, locality: string])[], trafficPolicy: Json): void {
    for (const upstream of [near, next, far]) upstream.mood = good;
    lab.apply(
      "shop",
      istioObject("networking", "ServiceEntry", "shop", {
        hosts: ["shop.test"],
        location: "MESH_INTERNAL",
        resolution: "STATIC",
        ports: [{ number: 80, name: "http", protocol: "HTTP" }],
        endpoints: endpoints.map(([{ port }, locality]) => ({ address: "127.0.0.1", ports: { http: port }, locality })),
      }),
      istioObject("networking", "DestinationRule", "shop", { host: "shop.test", trafficPolicy }),
    );
  }

  async function ask(): Promise<string> {
    const { status, headers } = await lab.viaGateway("shop");
    return `${status} ${headers["x-upstream"] ?? ""}`;
  }

  /** What a row of requests is answered with. */
  async function answers(count = 8): Promise<string[]> {
    const all = new Set<string>();
    for (let i = 0; i < count; i++) all.add(await ask());
    return [...all].sort();
  }

  const outlierDetection = { consecutive5xxErrors: 2, interval: "0.2s", baseEjectionTime: "2s", maxEjectionPercent: 100 };

  it("ejects an endpoint that fails, and takes it back when it is well", async () => {
    const here = "east/e1/a";
    serve(
      [
        [near, here],
        [next, here],
      ],
      { outlierDetection },
    );
    await expect.poll(() => answers(), patience).toEqual(["200 near", "200 next"]);
    near.mood = ill(500);
    await expect.poll(() => answers(), patience).toEqual(["200 next"]);
    const shown = async () => {
      await answers();
      return lab.istioctl("proxy-config", "endpoints", "ingress.istio-system", "--cluster", "outbound|80||shop.test").stdout;
    };
    await expect.poll(shown, patience).toMatch(new RegExp(`127\\.0\\.0\\.1:${near.port}\\s+HEALTHY\\s+FAILED`));
    near.mood = good;
    await expect.poll(() => answers(), patience).toEqual(["200 near", "200 next"]);
    expect(await shown()).toMatch(new RegExp(`127\\.0\\.0\\.1:${near.port}\\s+HEALTHY\\s+OK`));
  });

  it("refuses what an endpoint has no room for", async () => {
    serve([[near, "east/e1/a"]], { connectionPool: { tcp: { maxConnections: 1 }, http: { http1MaxPendingRequests: 1 } } });
    const clusters = async () => (await fetch(`http://127.0.0.1:${lab.ports.admin}/clusters?filter=shop`)).text();
    await expect.poll(clusters, patience).toContain("shop.test::default_priority::max_connections::1\n");
    await expect.poll(() => answers(2), patience).toEqual(["200 near"]);
    near.mood = "silent";
    const overloaded: unknown[] = [];
    const calls = Array.from({ length: 5 }, () =>
      lab.viaGateway("shop").then(
        ({ headers }) => overloaded.push(headers["x-envoy-overloaded"]),
        () => {},
      ),
    );
    // One has the connection and one waits for it.
    await expect.poll(() => overloaded, patience).toEqual(["true", "true", "true"]);
    await near.goAway();
    await Promise.all(calls);
    await near.comeBack();
  });

  it("goes on in another locality while its own fails", async () => {
    serve(
      [
        [near, "east/e1/a"],
        [far, "west/w1/a"],
      ],
      {
        outlierDetection,
        loadBalancer: { simple: "ROUND_ROBIN", localityLbSetting: { enabled: true, failover: [{ from: "east", to: "west" }] } },
      },
    );
    await expect.poll(() => answers(), patience).toEqual(["200 near"]);
    near.mood = ill(500);
    await expect.poll(() => answers(), patience).toEqual(["200 far"]);
    near.mood = good;
    await expect.poll(() => answers(), patience).toEqual(["200 near"]);
  });
});

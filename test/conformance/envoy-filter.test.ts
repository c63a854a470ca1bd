/**
 * Recipes of EnvoyFilters as Istio's users write them, in one control plane of ours, to which Envoy and our proxy are attached as gateways
 * and as sidecars: a real client sees the same limits, headers and answers from both, and they are those that the recipe is for.
 *
 * The files of envoy-filter/ are written as those of mesh/ (control-plane.test.ts); `{{limits}}` is the port of a rate limit service.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseAllDocuments, stringify } from "yaml";
import type { DescribedPatch } from "../../src/istiod/push/patch-status.ts";
import { startControlPlane, type TestControlPlane } from "../support/control-plane.ts";
import { envoyBinary } from "../support/envoy.ts";
import { describeWithoutPeer, exchange, type RequestSpec } from "../support/exchange.ts";
import { type Effect, type Expectation, problemsOf } from "../support/expectation.ts";
import { maskPort } from "../support/mask.ts";
import { meshBootstrap } from "../support/mesh-proxy.ts";
import { freePortRow } from "../support/ports.ts";
import { eventually, type RunningProxy, startOurProxy, startRealEnvoy } from "../support/proxies.ts";
import { RateLimitService } from "../support/rate-limit-service.ts";
import { RawConnection } from "../support/raw-client.ts";
import { startTcpUpstream, startUpstream, type TestTcpUpstream, type TestUpstream } from "../support/upstream.ts";

interface RecipeRequest extends RequestSpec {
  /** A port's name in double braces, by default `http`. */
  readonly port?: string;
  readonly expect?: Expectation;
}

/** Of /debug/push_status. */
interface PushStatus {
  readonly envoyFilters: readonly { readonly name: string; readonly patches: readonly DescribedPatch[] }[];
}

const directory = join(import.meta.dirname, "envoy-filter");
const files = readdirSync(directory).sort();
const portNames = ["http", "changed", "envoy-only", "tcp-plain", "tcp-local", "tcp-global", "inbound", "added"] as const;

const sides = [
  { name: "side-envoy", address: "127.0.9.1", start: startRealEnvoy },
  { name: "side-topsail", address: "127.0.9.2", start: startOurProxy },
] as const;
type Side = (typeof sides)[number];

function fill(text: string, values: ReadonlyMap<string, string>): string {
  return text.replace(/"?\{\{([\w.:-]+)\}\}"?/g, (all, key: string) => {
    const value = values.get(key);
    if (value === undefined) return all;
    return all.startsWith('"') && all.endsWith('"') ? value : all.replace(`{{${key}}}`, value);
  });
}

function readRecipe(name: string, values: ReadonlyMap<string, string>): { requests: RecipeRequest[]; configuration: string } {
  const [head, ...rest] = parseAllDocuments(fill(readFileSync(join(directory, name), "utf8"), values));
  const texts = rest.flatMap((document) => {
    const text = stringify(document.toJS({ maxAliasCount: -1 }), { aliasDuplicateObjects: false });
    const ofSide = ({ name: side, address }: Side) =>
      fill(
        text,
        new Map([
          ["side", side],
          ["address", address],
        ]),
      );
    return text.includes("{{side}}") ? sides.map(ofSide) : [text];
  });
  return { requests: (head!.toJS() as { requests: RecipeRequest[] }).requests, configuration: texts.join("---\n") };
}

describe.skipIf(!envoyBinary)("EnvoyFilters in Envoy and our proxy", () => {
  const stack = new AsyncDisposableStack();
  const values = new Map<string, string>();
  const proxies = new Map<string, RunningProxy>();
  let controlPlane: TestControlPlane;
  let upstream: TestUpstream;
  let tcp: TestTcpUpstream;
  let limits: RateLimitService;

  beforeAll(async () => {
    upstream = stack.use(await startUpstream("up"));
    tcp = stack.use(await startTcpUpstream());
    limits = stack.use(
      await RateLimitService.start(
        sides.flatMap(({ name }) => [
          { domain: `global-${name}`, descriptor: "PATH=/limited", requestsPerMinute: 2 },
          { domain: `global-${name}`, descriptor: "key", requestsPerMinute: 1 },
          { domain: `entry-${name}`, descriptor: "destination_cluster,generic_key=entry", requestsPerMinute: 1 },
          { domain: `connections-${name}`, descriptor: "client", requestsPerMinute: 1 },
        ]),
      ),
    );
    const first = await freePortRow(portNames.length);
    for (const [index, name] of portNames.entries()) values.set(name, String(first + index));
    for (const [name, port] of Object.entries({ up: upstream.port, tcp: tcp.port, limits: limits.port })) values.set(name, String(port));
    const configuration = Object.fromEntries(files.map((name) => [name, readRecipe(name, values).configuration]));
    controlPlane = stack.use(await startControlPlane("", { files: configuration }));
    expect(await problems()).toEqual([]);
    await Promise.all(
      sides.flatMap((side) =>
        (["router", "sidecar"] as const).map(async (type) => {
          const node = {
            type,
            name: `${side.name}-${type}`,
            address: side.address,
            labels: type === "router" ? { istio: "ingressgateway", side: side.name } : { app: "server", side: side.name },
            namespace: "default",
            xds: controlPlane.istiod.grpcPort,
            isDelta: true,
            sdsPath: "/dev/null",
            metadata: { INTERCEPTION_MODE: "NONE", PROXY_CONFIG: { controlPlaneAuthPolicy: "NONE" } },
          };
          proxies.set(node.name, stack.use(await side.start(meshBootstrap(node))));
        }),
      ),
    );
  }, 120_000);
  afterAll(() => stack.disposeAsync());

  async function debugPage<T>(page: string): Promise<T> {
    return (await fetch(`${controlPlane.debugUrl}/debug/${page}`)).json() as T;
  }
  const problems = () => debugPage<string[]>("problems");
  const patchesOf = async () => (await debugPage<PushStatus>("push_status")).envoyFilters;

  function mask(text: string): string {
    let masked = text;
    for (const [name, port] of values) masked = maskPort(masked, port, `<${name}>`);
    for (const { name, address } of sides) masked = masked.replaceAll(address, "<proxy>").replaceAll(name, "<side>");
    return masked;
  }

  async function ask({ name, address }: Side, request: RecipeRequest, caseId: string): Promise<Effect> {
    const before = upstream.seen.length;
    const port = Number(fill(request.port ?? "{{http}}", values));
    const spec = JSON.parse(fill(JSON.stringify(request), values)) as RecipeRequest;
    const { outcome, connection } = await exchange(port, spec, `${name}-${caseId}`, mask, address);
    connection?.[Symbol.dispose]();
    const seen = upstream.seen.slice(before).map((one) => ({ upstream: "up", request: describeWithoutPeer(one, mask) }));
    return { outcomes: [outcome], seen };
  }

  const labelOf = ({ line, host, port, headers }: RecipeRequest) =>
    [line, host, port, headers && JSON.stringify(headers)].filter(Boolean).join(" ");

  const asked = files.map((name) => [name, readRecipe(name, new Map()).requests] as const).filter(([, requests]) => requests.length > 0);
  describe.each(asked)("%s", (name, requests) => {
    it.each(requests.map((request, index) => [`${index}: ${labelOf(request)}`, request, index] as const))(
      "%s",
      async (_, request, index) => {
        const [theirs, ours] = [await ask(sides[0], request, `${name}-${index}`), await ask(sides[1], request, `${name}-${index}`)];
        expect(problemsOf(theirs, request.expect), "Envoy").toEqual([]);
        expect(problemsOf(ours, request.expect), "Topsail").toEqual([]);
        expect(ours).toEqual(theirs);
      },
    );
  });

  it("asked the rate limit service the same", () => {
    const [theirs, ours] = sides.map(({ name }) =>
      limits.asked
        .filter((question) => question.includes(`-${name} `))
        .map((question) => mask(question).replaceAll("127.0.0.1", "<client>")),
    );
    expect(theirs).toContain("global-<side> PATH=/limited");
    expect(theirs).toContain("global-<side> keyless=nobody");
    expect(ours).toEqual(theirs);
  });

  it("gave both a cluster with another timeout, and idle times", async () => {
    for (const { name } of sides) {
      const dump = await proxies.get(`${name}-router`)!.admin("/config_dump");
      const cluster = /\{[^{}]*"name": "outbound\|80\|\|up\.test"[\s\S]*?"connect_timeout": "(?<timeout>[^"]*)"/.exec(dump);
      expect(cluster?.groups?.timeout, name).toBe("7s");
      expect(dump, name).toContain('"stream_idle_timeout": "90s"');
    }
  });

  it.each(sides)("closes an idle connection of $name when its filter says so", async ({ address }) => {
    using connection = await RawConnection.open(Number(values.get("changed")), undefined, address);
    connection.write("GET /idle HTTP/1.1\r\nhost: any.example\r\n\r\n");
    expect(await connection.until((received) => received.includes("up GET /idle"))).toBe(true);
    expect(await connection.closes()).toBe(true);
  });

  it("gives Envoy filters that only it has, by ECDS too", async () => {
    const ask = async () => {
      const spec = { line: "GET /", host: "any.example" };
      const { outcome, connection } = await exchange(Number(values.get("envoy-only")), spec, "only", mask, sides[0].address);
      connection?.[Symbol.dispose]();
      return outcome.responses[0]!.headers.filter((header) => /^x-(lua|discovered)/.test(header)).sort();
    };
    expect(await ask()).toEqual(["x-discovered: first", "x-lua: yes"]);
    const envoy = proxies.get("side-envoy-router")!;
    const listeners = async () =>
      /lds\.update_success: (?<count>\d+)/.exec(await envoy.admin("/stats?filter=lds.update_success"))?.groups?.count;
    const before = await listeners();
    const { configuration } = readRecipe("envoy-only.yaml", values);
    await controlPlane.write("envoy-only.yaml", configuration.replace("value: first", "value: second"));
    await eventually(async () => ((await ask())[0] === "x-discovered: second" ? true : undefined), "the other configuration");
    expect(await listeners(), "listeners are not sent for it").toBe(before);
  });

  it("makes no proxy refuse anything", async () => {
    for (const [name, proxy] of proxies) {
      const stats = await proxy.admin("/stats?filter=update_rejected");
      const rejected = stats.split("\n").filter((line) => line !== "" && !line.endsWith(": 0"));
      expect(rejected, `${name}: ${proxy.log().slice(-2000)}`).toEqual([]);
    }
    expect(proxies.get("side-topsail-router")!.log()).not.toContain("HTTP/2 is not spoken");
  });

  it("has applied every patch of every filter", async () => {
    const filters = await patchesOf();
    const idle = filters.flatMap(({ name, patches }) => patches.filter(({ applied }) => !applied).map((patch) => ({ name, ...patch })));
    expect(idle).toEqual([]);
    expect(filters.length).toBeGreaterThan(8);
  });

  describe("that change", () => {
    const status = async ({ address }: Side, host: string, path: string) => {
      const { outcome, connection } = await exchange(Number(values.get("http")), { line: `GET ${path}`, host }, "change", mask, address);
      connection?.[Symbol.dispose]();
      return outcome.responses[0]?.status.split(" ")[1];
    };

    it("hold in both at once, and are taken back when they go", async () => {
      const { configuration } = readRecipe("local-route.yaml", values);
      for (const side of sides) expect(await status(side, "local.example", "/limited"), "still limited").toBe("429");
      await controlPlane.write(
        "local-route.yaml",
        configuration.replaceAll("max_tokens: 2", "max_tokens: 1").replaceAll("tokens_per_fill: 2", "tokens_per_fill: 1"),
      );
      for (const side of sides) {
        await eventually(
          async () => ((await status(side, "local.example", "/limited")) === "200" ? true : undefined),
          `a new bucket in ${side.name}`,
        );
        expect(await status(side, "local.example", "/limited")).toBe("429");
      }
      await controlPlane.write("local-route.yaml", configuration.slice(0, configuration.indexOf("---")));
      for (const side of sides) {
        await eventually(
          async () => ((await status(side, "local.example", "/limited")) === "200" ? true : undefined),
          `no limit in ${side.name}`,
        );
        for (let i = 0; i < 4; i++) expect(await status(side, "local.example", "/limited")).toBe("200");
      }
    });

    it("and can't be applied leave everything as it is", async () => {
      const filter = (patch: string) => `
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: { name: wrong, namespace: istio-system }
spec: { workloadSelector: { labels: { istio: ingressgateway } }, configPatches: [${patch}] }
`;
      const router =
        "filterChain: { filter: { name: envoy.filters.network.http_connection_manager, subFilter: { name: envoy.filters.http.router } } }";
      const merge = (type: string) =>
        `{ applyTo: HTTP_FILTER, match: { listener: { ${router} } }, patch: { operation: MERGE, value: { typed_config: { "@type": type.googleapis.com/${type} } } } }`;
      // One that the control plane refuses, with its place, and one that can only fail when it meets what it is for.
      await controlPlane.write(
        "wrong.yaml",
        filter(merge("envoy.extensions.filters.http.cors.v3.Cors, allow_everything: true")).replace("Cors,", "NoSuchCors,"),
      );
      await eventually(async () => ((await problems()).length > 0 ? true : undefined), "the refusal");
      expect((await problems())[0]).toMatch(
        /wrong\.yaml:5: EnvoyFilter istio-system\/wrong: spec\.configPatches\[0\]\.patch\.value\.typed_config: could not find @type/,
      );
      await controlPlane.write("wrong.yaml", filter(merge("envoy.extensions.filters.http.cors.v3.Cors")));
      const failures = async () => {
        return (await patchesOf()).find(({ name }) => name === "istio-system/wrong")?.patches[0]?.failures ?? [];
      };
      await eventually(async () => ((await failures()).length > 0 ? true : undefined), "the failure");
      expect(await failures()).toEqual([
        "envoy.extensions.filters.http.cors.v3.Cors can't be merged into envoy.extensions.filters.http.router.v3.Router",
      ]);
      expect(await problems()).toEqual([]);
      for (const side of sides) expect(await status(side, "plain.example", "/")).toBe("200");
    });
  });
});

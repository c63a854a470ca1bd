/** Ingresses by a stock kubectl, served by gateways: Envoy and our proxy, each asked the same. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ApiControlPlane, startApiControlPlane } from "../support/api-control-plane.ts";
import { makeCertificate } from "../support/certificate.ts";
import { envoyBinary } from "../support/envoy.ts";
import { type Kubectl, kubectlFor, kubectls } from "../support/kubectl.ts";
import { meshBootstrap } from "../support/mesh-proxy.ts";
import { freePortRow } from "../support/ports.ts";
import { eventually, startOurProxy, startRealEnvoy } from "../support/proxies.ts";
import { parseResponses, RawConnection } from "../support/raw-client.ts";
import { startUpstream } from "../support/upstream.ts";

const gateways = [
  { name: "envoy", start: startRealEnvoy, address: "127.0.7.1" },
  { name: "topsail", start: startOurProxy, address: "127.0.7.2" },
] as const;

const path = (path: string, pathType: string, service: string, port: object = { number: 80 }) => ({
  path,
  pathType,
  backend: { service: { name: service, port } },
});

describe.skipIf(!envoyBinary || kubectls.length === 0)("An Ingress", () => {
  const stack = new AsyncDisposableStack();
  const home = mkdtempSync(join(tmpdir(), "topsail-ingress-"));
  stack.defer(() => rmSync(home, { recursive: true, force: true }));
  const certificate = makeCertificate("secure.test");
  let plane: ApiControlPlane;
  let kubectl: Kubectl;
  let ports: { readonly http: number; readonly https: number };

  const apply = async (...objects: object[]) => {
    const list = { apiVersion: "v1", kind: "List", items: objects };
    const result = await kubectl.given(JSON.stringify(list), "apply", "-f", "-");
    expect(result).toMatchObject({ code: 0 });
    return result.stdout.trim().split("\n");
  };
  const ingress = (name: string, spec: object, more: object = {}) => ({
    apiVersion: "networking.k8s.io/v1",
    kind: "Ingress",
    metadata: { name, namespace: "default", annotations: { "kubernetes.io/ingress.class": "istio" }, ...more },
    spec,
  });
  const rule = (host: string, ...paths: object[]) => ({ ...(host && { host }), http: { paths } });

  beforeAll(async () => {
    plane = stack.use(await startApiControlPlane());
    kubectl = kubectlFor(kubectls[0]!, plane.kubeconfig, home);
    const first = await freePortRow(2);
    ports = { http: first, https: first + 1 };
    for (const [index, name] of ["one", "two", "three"].entries()) {
      const upstream = stack.use(await startUpstream(name));
      await apply(
        {
          apiVersion: "v1",
          kind: "Service",
          metadata: { name, namespace: "default" },
          spec: { selector: { app: name }, ports: [{ name: "http-web", port: 80 + index, targetPort: upstream.port }] },
        },
        {
          apiVersion: "networking.istio.io/v1",
          kind: "WorkloadEntry",
          metadata: { name, namespace: "default" },
          spec: { address: "127.0.0.1", labels: { app: name } },
        },
      );
    }
    await apply(
      {
        apiVersion: "v1",
        kind: "Service",
        metadata: { name: "istio-ingressgateway", namespace: "istio-system" },
        spec: {
          selector: { istio: "ingressgateway" },
          externalIPs: ["203.0.113.9", "198.51.100.1"],
          ports: [
            { name: "http2", port: 80, targetPort: ports.http },
            { name: "https", port: 443, targetPort: ports.https },
          ],
        },
      },
      ...gateways.map(({ name, address }) => ({
        apiVersion: "networking.istio.io/v1",
        kind: "WorkloadEntry",
        metadata: { name, namespace: "istio-system" },
        spec: { address, labels: { istio: "ingressgateway" } },
      })),
      {
        apiVersion: "v1",
        kind: "Secret",
        metadata: { name: "secure", namespace: "istio-system" },
        type: "kubernetes.io/tls",
        stringData: { "tls.crt": certificate.certificate, "tls.key": certificate.key },
      },
      {
        apiVersion: "networking.k8s.io/v1",
        kind: "IngressClass",
        metadata: { name: "ours" },
        spec: { controller: "istio.io/ingress-controller" },
      },
      { apiVersion: "networking.k8s.io/v1", kind: "IngressClass", metadata: { name: "others" }, spec: { controller: "example.com/nginx" } },
    );
    for (const { name, start, address } of gateways) {
      const node = { type: "router", name, address, labels: { istio: "ingressgateway" }, namespace: "istio-system" } as const;
      const metadata = { PROXY_CONFIG: { controlPlaneAuthPolicy: "NONE" } };
      stack.use(await start(meshBootstrap({ ...node, xds: plane.istiod.grpcPort, isDelta: true, sdsPath: join(home, "none"), metadata })));
    }
  }, 90_000);
  afterAll(() => stack.disposeAsync(), 30_000);

  async function ask(address: string, host: string, path: string, isTls = false): Promise<string> {
    const tls = isTls ? { servername: host, ALPNProtocols: ["http/1.1"] } : undefined;
    const port = isTls ? ports.https : ports.http;
    try {
      using connection = await RawConnection.open(port, tls, address);
      connection.write(`GET ${path} HTTP/1.1\r\nhost: ${host}\r\n\r\n`);
      const answer = () => parseResponses(connection.received, ["GET"]).responses.find(({ isFramed }) => isFramed);
      await connection.until(() => answer() !== undefined);
      const status = answer()?.statusLine.split(" ")[1];
      return status === "200" ? answer()!.body.split(" ")[0]! : String(status);
    } catch {
      return "none";
    }
  }

  /** Until both gateways say so: which service answers, or a status. */
  async function expectAnswers(answers: readonly (readonly [host: string, path: string, answer: string])[], isTls = false): Promise<void> {
    for (const { name, address } of gateways) {
      let said: string[] = [];
      const wanted = answers.map(([host, path, answer]) => `${host}${path} ${answer}`);
      await eventually(
        async () => {
          said = await Promise.all(answers.map(async ([host, path]) => `${host}${path} ${await ask(address, host, path, isTls)}`));
          return said.join() === wanted.join() ? true : undefined;
        },
        () => `${name}: ${said.filter((line, index) => line !== wanted[index]).join(", ")}`,
      );
    }
  }

  it("is served by its paths: the longest, then what is exact, and by parts of the path", async () => {
    await apply(
      ingress("paths", {
        rules: [
          rule(
            "paths.test",
            path("/", "Prefix", "one"),
            path("/shop", "Prefix", "two", { name: "http-web" }),
            path("/shop", "Exact", "three", { name: "http-web" }),
            path("/shop/cart/", "Prefix", "three", { number: 82 }),
            path("/legacy/*", "ImplementationSpecific", "two", { number: 81 }),
            path("/exactly", "ImplementationSpecific", "two", { number: 81 }),
            path("/nowhere", "Prefix", "two", { name: "no-such-port" }),
          ),
        ],
      }),
    );
    await expectAnswers([
      ["paths.test", "/", "one"],
      ["paths.test", "/shopping", "one"],
      ["paths.test", "/shop", "three"],
      ["paths.test", "/shop?q=1", "three"],
      ["paths.test", "/shop/", "two"],
      ["paths.test", "/shop/a", "two"],
      ["paths.test", "/shop/cart", "three"],
      ["paths.test", "/shop/cart/1", "three"],
      ["paths.test", "/shop/carton", "two"],
      ["paths.test", "/legacy/a", "two"],
      ["paths.test", "/legacyonly", "one"],
      ["paths.test", "/exactly", "two"],
      ["paths.test", "/exactly/not", "one"],
      ["paths.test", "/nowhere", "one"],
      ["elsewhere.test", "/", "404"],
    ]);
  });

  it("shares a host with others, and takes wildcards and all hosts", async () => {
    await apply(
      ingress("first", { rules: [rule("shared.test", path("/a", "Prefix", "one"))] }),
      ingress("second", { rules: [rule("shared.test", path("/b", "Prefix", "two", { number: 81 }))] }),
      ingress("wild", { rules: [rule("*.wild.test", path("/", "Prefix", "three", { number: 82 }))] }),
      ingress("any", { rules: [rule("", path("/any", "Exact", "two", { number: 81 }))] }),
    );
    await expectAnswers([
      ["shared.test", "/a", "one"],
      ["shared.test", "/b", "two"],
      ["shared.test", "/c", "404"],
      ["x.wild.test", "/", "three"],
      ["wild.test", "/", "404"],
      ["elsewhere.test", "/any", "two"],
    ]);
    expect((await kubectl("delete", "ingress", "first", "any")).code).toBe(0);
    await expectAnswers([
      ["shared.test", "/a", "404"],
      ["shared.test", "/b", "two"],
      ["elsewhere.test", "/any", "404"],
    ]);
  });

  it("has its TLS end at the gateway", async () => {
    const tls = [{ hosts: ["secure.test"], secretName: "secure" }];
    await apply(ingress("secure", { tls, rules: [rule("secure.test", path("/", "Prefix", "two", { number: 81 }))] }));
    const answers = [["secure.test", "/", "two"]] as const;
    await expectAnswers(answers);
    await expectAnswers(answers, true);
    for (const { address } of gateways) {
      using connection = await RawConnection.open(ports.https, { servername: "secure.test" }, address);
      expect(connection.peerCertificate.subject).toMatchObject({ CN: "secure.test" });
    }
  });

  it("is served if its class is ours", async () => {
    const rules = (host: string) => [rule(host, path("/", "Prefix", "one"))];
    const bare = { annotations: {} };
    const annotated = { annotations: { "kubernetes.io/ingress.class": "nginx" } };
    await apply(
      ingress("of-others", { ingressClassName: "others", rules: rules("others.test") }, bare),
      ingress("of-nobody", { rules: rules("nobody.test") }, bare),
      ingress("of-nginx", { ingressClassName: "ours", rules: rules("nginx.test") }, annotated),
      ingress("of-ours", { ingressClassName: "ours", rules: rules("ours.test") }, bare),
    );
    await expectAnswers([
      ["ours.test", "/", "one"],
      ["others.test", "/", "404"],
      ["nobody.test", "/", "404"],
      ["nginx.test", "/", "404"],
    ]);
  });

  it("says where it is served, and is shown as operators know it", async () => {
    const row = await eventually(async () => {
      const { stdout } = await kubectl("get", "ingress", "secure", "--no-headers");
      return stdout.includes("203.0.113.9") ? stdout.trim().split(/\s{2,}/) : undefined;
    }, "an address in the status");
    expect(row.slice(0, 5)).toEqual(["secure", "istio", "secure.test", "198.51.100.1,203.0.113.9", "80, 443"]);
    expect((await kubectl("get", "ingress", "of-others", "-o", "jsonpath={.status.loadBalancer}")).stdout).toBe("");
    expect(
      (await kubectl("get", "ingressclass", "ours", "--no-headers")).stdout
        .trim()
        .split(/\s{2,}/)
        .slice(0, 3),
    ).toEqual(["ours", "istio.io/ingress-controller", "<none>"]);
    expect((await kubectl("explain", "ingressclass.spec")).stdout).toContain("controller");
  });
});

import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { shellQuote } from "../../api/machine/shell-quote.ts";
import { compareNaturally } from "../../api/machine/yaml-text.ts";
import { run } from "../main.ts";

let directory: string;
let server: Server;
/** Answers of the API by path; what is not there is a 404. */
let objects: Record<string, unknown>;
let asked: { path: string; body: string }[];

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "topsail-workload-"));
  asked = [];
  objects = {
    "/api/v1/namespaces/istio-system/configmaps/istio": {
      data: {
        mesh: 'trustDomain: mesh.test\ndefaultConfig:\n  meshId: m1\n  proxyMetadata: {ISTIO_META_DNS_CAPTURE: "false", FROM_MESH: "1", BOTH: mesh}\n',
      },
    },
    "/api/v1/namespaces/istio-system/configmaps/istio-sidecar-injector": {
      data: { values: JSON.stringify({ global: { multiCluster: { clusterName: "edge" } } }) },
    },
    "/api/v1/namespaces/istio-system/services/istio-eastwestgateway": { status: { loadBalancer: { ingress: [{ ip: "192.0.2.7" }] } } },
    "/api/v1/namespaces/shop/configmaps/istio-ca-root-cert": { data: { "root-cert.pem": "ROOT\n" } },
    "/api/v1/namespaces/shop/serviceaccounts/ratings/token": { status: { token: "a.b.c" } },
  };
  server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => {
      body += chunk;
    });
    request.on("end", () => {
      asked.push({ path: request.url!, body });
      const object = objects[request.url!];
      response.writeHead(object ? 200 : 404, { "content-type": "application/json" });
      response.end(JSON.stringify(object ?? { message: `nothing at ${request.url}` }));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  writeFileSync(
    join(directory, "kubeconfig"),
    `current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: "http://127.0.0.1:${port}"}}]\n`,
  );
  writeFileSync(join(directory, "group.yaml"), group);
});
afterEach(async () => {
  server.close();
  rmSync(directory, { recursive: true, force: true });
});

const group = `apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: ratings, namespace: shop}
spec:
  metadata:
    labels: {app: ratings, note: "a<b"}
    annotations:
      proxy.istio.io/config: '{"proxyMetadata": {"BOTH": "group"}}'
  template:
    serviceAccount: ratings
    network: net1
    ports: {http: 9080, grpc: 81}
  probe: {httpGet: {port: 9080}}
`;

async function istioctl(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  let [out, err] = ["", ""];
  const code = await run(["--kubeconfig", join(directory, "kubeconfig"), ...args], {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
    readStdin: async () => new Uint8Array(),
  });
  return { code, out, err };
}
const configure = (...args: string[]) => istioctl("x", "workload", "entry", "configure", "-o", join(directory, "out"), ...args);
const written = (name: string) => readFileSync(join(directory, "out", name), "utf8");

describe("istioctl x workload group create", () => {
  it("prints a group, keys in order, with what was given", async () => {
    const { code, out } = await istioctl(
      ..."x workload group create --name web -n shop -l app=web,tier==x,bare -p http=80 -a note=1 -s web --network n --locality eu/a -w 5".split(
        " ",
      ),
    );
    expect(code).toBe(0);
    expect(out).toBe(`apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata:
  name: web
  namespace: shop
spec:
  metadata:
    annotations:
      note: "1"
    labels:
      app: web
      bare: ""
      tier: =x
  template:
    locality: eu/a
    network: n
    ports:
      http: 80
    serviceAccount: web
    weight: 5
`);
  });

  it.each([
    ["", "Error: expecting a workload name\n", 1],
    ["--name web", "Error: expecting a workload namespace\n", 1],
    ["--name web -n shop -p http=80x", 'Error: --ports http: "80x" is no number\n', 64],
    ["--name web -n shop -p http=65536", "Error: --ports http: 65536 is no port\n", 64],
    ["--name web -n shop -w -1", 'Error: --weight: "-1" is no number\n', 64],
  ])("refuses %j", async (flags, message, expected) => {
    expect(await istioctl("x", "workload", "group", "create", ...flags.split(" ").filter(Boolean))).toEqual({
      code: expected,
      out: "",
      err: message,
    });
  });
});

describe("istioctl x workload entry configure", () => {
  it("writes five files", async () => {
    const { code, out, err } = await configure("-f", join(directory, "group.yaml"), "--autoregister");
    expect(code).toBe(0);
    expect(out).toBe(`Configuration generation into directory ${join(directory, "out")} was successful\n`);
    expect(err).toContain('a security token for namespace "shop" and service account "ratings"');
    const labels =
      '{"app":"ratings","note":"a\\u003cb","service.istio.io/canonical-name":"ratings","service.istio.io/canonical-revision":"latest"}';
    const ports = '[{"name":"grpc","containerPort":81,"protocol":""},{"name":"http","containerPort":9080,"protocol":""}]';
    expect(written("mesh.yaml")).toBe(`defaultConfig:
  meshId: m1
  proxyMetadata:
    BOTH: group
    CANONICAL_REVISION: latest
    CANONICAL_SERVICE: ratings
    FROM_MESH: "1"
    ISTIO_META_AUTO_REGISTER_GROUP: ratings
    ISTIO_META_CLUSTER_ID: edge
    ISTIO_META_DNS_CAPTURE: "true"
    ISTIO_META_MESH_ID: m1
    ISTIO_META_NETWORK: net1
    ISTIO_META_POD_PORTS: '${ports}'
    ISTIO_META_WORKLOAD_NAME: ratings
    ISTIO_METAJSON_LABELS: '${labels}'
    POD_NAMESPACE: shop
    SERVICE_ACCOUNT: ratings
    TRUST_DOMAIN: mesh.test
  readinessProbe:
    httpGet:
      port: 9080
`);
    expect(written("cluster.env").split("\n")).toEqual([
      "BOTH='group'",
      "CANONICAL_REVISION='latest'",
      "CANONICAL_SERVICE='ratings'",
      "FROM_MESH='1'",
      "ISTIO_INBOUND_PORTS='81,9080'",
      "ISTIO_LOCAL_EXCLUDE_PORTS='22,15090,15021,15020'",
      `ISTIO_METAJSON_LABELS='${labels}'`,
      "ISTIO_META_AUTO_REGISTER_GROUP='ratings'",
      "ISTIO_META_CLUSTER_ID='edge'",
      "ISTIO_META_DNS_CAPTURE='true'",
      "ISTIO_META_MESH_ID='m1'",
      "ISTIO_META_NETWORK='net1'",
      `ISTIO_META_POD_PORTS='${ports}'`,
      "ISTIO_META_WORKLOAD_NAME='ratings'",
      "ISTIO_NAMESPACE='shop'",
      "ISTIO_SERVICE='ratings.shop'",
      "ISTIO_SERVICE_CIDR='*'",
      "POD_NAMESPACE='shop'",
      "SERVICE_ACCOUNT='ratings'",
      "TRUST_DOMAIN='mesh.test'",
      "",
    ]);
    expect([written("root-cert.pem"), written("istio-token"), written("hosts")]).toEqual([
      "ROOT\n",
      "a.b.c",
      "192.0.2.7 istiod.istio-system.svc\n",
    ]);
    expect(statSync(join(directory, "out", "istio-token")).mode & 0o077).toBe(0);
    const { spec } = JSON.parse(asked.find(({ path }) => path.endsWith("/token"))!.body);
    expect(spec).toEqual({ audiences: ["istio-ca"], expirationSeconds: 3600 });
  });

  it("takes the group from the API, a revision's control plane, and addresses as given", async () => {
    objects["/apis/networking.istio.io/v1/namespaces/shop/workloadgroups/bare"] = {
      apiVersion: "networking.istio.io/v1",
      kind: "WorkloadGroup",
      metadata: { name: "bare", namespace: "shop" },
      spec: { template: { serviceAccount: "ratings" } },
    };
    objects["/api/v1/namespaces/istio-system/configmaps/istio-next"] = { data: { mesh: "defaultConfig: {statusPort: 15021}" } };
    const flags =
      "--name bare -n shop -r next --clusterID c1 --externalIP 198.51.100.9 --ingressIP 2001:db8::1 --capture-dns=false --tokenDuration 60";
    expect((await configure(...flags.split(" "))).code).toBe(0);
    const environment = written("cluster.env");
    expect(environment).toContain("CA_ADDR='istiod-next.istio-system.svc:15012'");
    expect(environment).toContain("ISTIO_LOCAL_EXCLUDE_PORTS='22,15090,15021'");
    expect(environment).toContain("ISTIO_SVC_IP='198.51.100.9'");
    expect(environment).toContain("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION='true'");
    expect(environment).toContain("ISTIO_INBOUND_PORTS='*'");
    expect(environment).not.toContain("DNS_CAPTURE");
    expect(written("mesh.yaml")).toContain("discoveryAddress: istiod-next.istio-system.svc:15012");
    expect(written("hosts")).toBe("2001:db8::1 istiod-next.istio-system.svc\n");
    expect(asked.map(({ path }) => path)).not.toContain("/api/v1/namespaces/istio-system/configmaps/istio-sidecar-injector");
  });

  it.each([
    ["--autoregister", true],
    ["--autoregister=true", true],
    ["--autoregister=1", true],
    ["--autoregister=false", false],
  ])("takes a switch as Go's programs do: %s", async (flag, expected) => {
    expect((await configure("-f", join(directory, "group.yaml"), flag, "--capture-dns=T")).code).toBe(0);
    expect(written("cluster.env").includes("ISTIO_META_AUTO_REGISTER_GROUP")).toBe(expected);
    expect(written("cluster.env")).toContain("ISTIO_META_DNS_CAPTURE='true'");
  });

  it("keeps the token from others where a file of that name was for all to read", async () => {
    mkdirSync(join(directory, "out"));
    writeFileSync(join(directory, "out", "istio-token"), "old", { mode: 0o744 });
    expect((await configure("-f", join(directory, "group.yaml"))).code).toBe(0);
    expect([written("istio-token"), statSync(join(directory, "out", "istio-token")).mode & 0o777]).toEqual(["a.b.c", 0o600]);
  });

  it("says what is wrong with the directory", async () => {
    writeFileSync(join(directory, "out"), "");
    const { code, err } = await configure("-f", join(directory, "group.yaml"));
    expect([code, err]).toEqual([1, expect.stringMatching(/^Error: --output: EEXIST: .*\/out'\n$/)]);
  });

  it("warns, and writes no address, when nobody knows the gateway's", async () => {
    delete objects["/api/v1/namespaces/istio-system/services/istio-eastwestgateway"];
    const { code, err } = await configure("-f", join(directory, "group.yaml"));
    expect(code).toBe(0);
    expect(err).toContain("--ingressIP");
    expect(written("hosts")).toBe("");
  });

  const missing: readonly [string, string, string][] = [
    [
      "the cluster's name",
      "istio-system/configmaps/istio-sidecar-injector",
      "failed to automatically determine the --clusterID: nothing at",
    ],
    ["the mesh configuration", "istio-system/configmaps/istio", "configmap istio was not found in namespace istio-system"],
    ["the root", "shop/configmaps/istio-ca-root-cert", "configmap istio-ca-root-cert was not found in namespace shop"],
    ["the account", "shop/serviceaccounts/ratings/token", "could not create a token under service account ratings in namespace shop"],
  ];
  it.each(missing)("writes nothing without %s", async (_, path, message) => {
    delete objects[`/api/v1/namespaces/${path}`];
    const { code, err } = await configure("-f", join(directory, "group.yaml"));
    expect(code).toBe(1);
    expect(err).toContain(`Error: ${message}`);
    expect(() => written("mesh.yaml")).toThrow();
  });

  it.each([
    ["", "Error: expecting a WorkloadGroup artifact file or the name and namespace of an existing WorkloadGroup\n"],
    ["--name a", "Error: expecting a WorkloadGroup artifact file or the name and namespace of an existing WorkloadGroup\n"],
    ["--name a -n b --internalIP 1.1.1.1 --externalIP 1.1.1.2", "Error: the flags --internalIP and --externalIP are mutually exclusive\n"],
    ["--name a -n b --internalIP host", 'Error: --internalIP: "host" is no IP address\n'],
    ["--name a -n b --tokenDuration 1h", 'Error: --tokenDuration: "1h" is no number of seconds\n'],
    [
      "--name a -n b",
      "Error: workloadgroup a not found in namespace b: nothing at /apis/networking.istio.io/v1/namespaces/b/workloadgroups/a\n",
    ],
  ])("refuses %j", async (flags, message) => {
    const { code, err } = await configure(...flags.split(" ").filter(Boolean));
    expect(err).toBe(message);
    expect(code).not.toBe(0);
  });

  it("says which kubeconfig can't be used", async () => {
    writeFileSync(join(directory, "kubeconfig"), "current-context: b\ncontexts: []\n");
    expect((await configure("--name", "a", "-n", "b")).err).toBe(`Error: ${join(directory, "kubeconfig")}: there is no context ""\n`);
  });
});

describe("texts of the files", () => {
  it("put punctuation before letters and count numbers", () => {
    const keys = ["ISTIO_METAJSON_LABELS", "ISTIO_META_X", "a10", "a9", "CA_ADDR", "CANONICAL"];
    expect(keys.toSorted(compareNaturally)).toEqual(["CA_ADDR", "CANONICAL", "ISTIO_META_X", "ISTIO_METAJSON_LABELS", "a9", "a10"]);
  });

  it.each([
    ["", "''"],
    ["it's", `'it'"'"'s'`],
    ["22,15090", "'22,15090'"],
    ["w:/=.", "w:/=."],
  ])("quote %j as %s", (value, expected) => {
    expect(shellQuote(value)).toBe(expected);
  });
});

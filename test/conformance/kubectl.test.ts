/** A stock kubectl against the control plane: what an operator types, and what he reads. */
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Kubectl, type KubectlResult, kubectlFor, kubectls } from "../support/kubectl.ts";
import { TopsailProcess } from "../support/topsail.ts";

const shop = `
apiVersion: v1
kind: Service
metadata: { name: orders, labels: { app: orders } }
spec: { selector: { app: orders }, ports: [{ name: http, port: 8080 }] }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: orders }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: orders-v1, labels: { app: orders, version: v1 } }
spec:
  replicas: 2
  selector: { matchLabels: { app: orders, version: v1 } }
  template:
    metadata: { labels: { app: orders, version: v1 } }
    spec:
      serviceAccountName: orders
      containers:
        - { name: orders, image: "example.com/orders:1", env: [{ name: A, value: "1" }, { name: B, value: "2" }], ports: [{ containerPort: 8080 }] }
        - { name: helper, image: "example.com/helper:1" }
`;

const routing = `
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata: { name: front }
spec:
  selector: { istio: ingressgateway }
  servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: ["*"] }]
---
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: { name: shop }
spec:
  hosts: ["*"]
  gateways: [front]
  http: [{ route: [{ destination: { host: orders, port: { number: 8080 } } }] }]
`;

async function startIstiod(directory: string): Promise<TopsailProcess> {
  const any = "127.0.0.1:0";
  const istiod = new TopsailProcess(
    [
      ...["istiod", "--dataDir", "data", "--grpcAddr", any, "--secureGRPCAddr", any, "--monitoringAddr", any],
      ...["--kubeAPIAddr", any, "--kubeconfig-out", "kubeconfig"],
    ],
    { cwd: directory },
  );
  await istiod.printed("serving");
  return istiod;
}

function lines({ stdout }: KubectlResult): string[] {
  return stdout.trimEnd().split("\n");
}

/** A table's rows, cells parted by two spaces or more. */
function table(result: KubectlResult): string[][] {
  return lines(result).map((line) => line.trimEnd().split(/ {2,}/));
}

describe.skipIf(kubectls.length === 0)("kubectl", () => {
  let directory: string;
  let istiod: TopsailProcess;
  let kubectl: Kubectl;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "topsail-kubectl-"));
    istiod = await startIstiod(directory);
    kubectl = kubectlFor(kubectls[0]!, join(directory, "kubeconfig"), directory);
  });
  afterAll(async () => {
    await istiod[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  /** Runs and expects success. */
  const run = async (...args: string[]) => {
    const result = await kubectl(...args);
    expect(result, args.join(" ")).toMatchObject({ code: 0 });
    return result;
  };

  it("finds the resources, their short names and versions", async () => {
    const resources = new Map((await table(await run("api-resources", "--no-headers"))).map((row) => [row[0], row.slice(1)]));
    expect(resources.get("virtualservices")).toEqual(["vs", "networking.istio.io/v1", "true", "VirtualService"]);
    expect(resources.get("gateways")).toEqual(["gw", "networking.istio.io/v1", "true", "Gateway"]);
    expect(resources.get("deployments")).toEqual(["deploy", "apps/v1", "true", "Deployment"]);
    expect(resources.get("namespaces")).toEqual(["ns", "v1", "false", "Namespace"]);
    expect(lines(await run("api-versions"))).toEqual(
      expect.arrayContaining(["networking.istio.io/v1alpha3", "security.istio.io/v1beta1", "v1"]),
    );
    expect((await run("version")).stdout).toMatch(/Server Version: v1\.\d+\.\d+\+topsail/);
    expect((await run("explain", "virtualservice.spec.http.retries")).stdout).toContain("perTryTimeout");
    expect((await run("explain", "deployment.spec.template.spec.containers")).stdout).toContain("imagePullPolicy");
  });

  it("is at home in the namespaces of a mesh", async () => {
    expect(table(await run("get", "ns")).map(([name, status]) => `${name} ${status}`)).toEqual([
      "NAME STATUS",
      "default Active",
      "istio-system Active",
      "kube-node-lease Active",
      "kube-public Active",
      "kube-system Active",
    ]);
    expect((await run("label", "namespace", "default", "istio-injection=enabled")).stdout).toBe("namespace/default labeled\n");
    expect(table(await run("get", "ns", "default", "-Listio-injection"))[1]).toEqual(["default", "Active", expect.any(String), "enabled"]);
    expect((await run("label", "ns", "default", "istio-injection-")).stdout).toBe("namespace/default unlabeled\n");
    expect((await run("get", "cm", "-n", "istio-system", "istio", "-o", "jsonpath={.data.mesh}")).stdout).toContain(
      "trustDomain: cluster.local",
    );
    expect((await run("get", "cm", "istio-ca-root-cert", "-o", "jsonpath={.data.root-cert\\.pem}")).stdout).toContain("BEGIN CERTIFICATE");
    expect(
      JSON.parse((await run("get", "cm", "-n", "istio-system", "istio-sidecar-injector", "-o", "jsonpath={.data.values}")).stdout),
    ).toMatchObject({ global: { multiCluster: { clusterName: "Kubernetes" } } });
  });

  it("applies: what is new, the same, and changed", async () => {
    expect(lines(await kubectl.given(shop, "apply", "-f", "-"))).toEqual([
      "service/orders created",
      "serviceaccount/orders created",
      "deployment.apps/orders-v1 created",
    ]);
    expect(lines(await kubectl.given(shop, "apply", "-f", "-"))).toEqual([
      "service/orders unchanged",
      "serviceaccount/orders unchanged",
      "deployment.apps/orders-v1 unchanged",
    ]);
    const changed = shop.replace('{ name: A, value: "1" }, ', "").replace("helper:1", "helper:2");
    const diff = await kubectl.given(changed, "diff", "-f", "-");
    expect(diff.code).toBe(1);
    expect(diff.stdout).toMatch(/^-.*helper:1[\s\S]*^\+.*helper:2/m);
    expect((await kubectl.given(changed, "apply", "-f", "-", "--dry-run=server")).stdout).toContain(
      "deployment.apps/orders-v1 configured (server dry run)",
    );
    expect(lines(await kubectl.given(changed, "apply", "-f", "-"))[2]).toBe("deployment.apps/orders-v1 configured");
    const spec = await run(
      "get",
      "deploy",
      "orders-v1",
      "-o",
      "jsonpath={.spec.template.spec.containers[*].image} {.spec.template.spec.containers[0].env[*].name} {.metadata.generation}",
    );
    expect(spec.stdout).toBe("example.com/orders:1 example.com/helper:2 B 2");
  });

  it("prints what it gets in every form", async () => {
    const wide = table(await run("get", "deploy,svc", "-o", "wide"));
    expect(wide[0]).toEqual(["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]);
    expect(wide[1]?.slice(0, 6)).toEqual(["deployment.apps/orders-v1", "0/2", "0", "0", expect.any(String), "orders,helper"]);
    expect(wide.find(([name]) => name === "service/orders")).toEqual([
      "service/orders",
      "ClusterIP",
      expect.stringMatching(/^240\.241\./),
      "<none>",
      "8080/TCP",
      expect.any(String),
      "app=orders",
    ]);
    expect((await run("get", "svc", "-l", "app=orders", "-o", "name")).stdout).toBe("service/orders\n");
    expect((await run("get", "svc", "-l=app!=orders", "-o", "name")).stdout).toBe("");
    expect((await run("get", "svc", "-A", "--field-selector", "metadata.name=orders", "--no-headers")).stdout).toMatch(/^default +orders /);
    expect((await run("get", "all", "-o", "name")).stdout).toBe("service/orders\ndeployment.apps/orders-v1\n");
    expect((await run("get", "sa", "orders", "-o", "yaml")).stdout).toMatch(/^apiVersion: v1\nkind: ServiceAccount\nmetadata:\n/);
    expect((await run("describe", "deploy", "orders-v1")).stdout).toMatch(/Replicas: +2 desired \| 0 updated \| 0 total/);
    expect((await run("describe", "svc", "orders")).stdout).toMatch(/Selector: +app=orders/);
    expect(await kubectl("get", "svc", "none")).toMatchObject({
      code: 1,
      stderr: 'Error from server (NotFound): services "none" not found\n',
    });
    expect(await kubectl("get", "vs", "none", "-n", "nowhere")).toMatchObject({
      stderr: expect.stringContaining('namespaces "nowhere" not found'),
    });
  });

  it("scales, and waits for what comes of it", async () => {
    expect(await kubectl("wait", "--for=condition=Available", "deploy/orders-v1", "--timeout=1s")).toMatchObject({ code: 1 });
    const waiting = kubectl("wait", "--for=condition=Available", "deploy/orders-v1", "--timeout=30s");
    expect((await run("scale", "deploy", "orders-v1", "--replicas=0")).stdout).toBe("deployment.apps/orders-v1 scaled\n");
    expect((await waiting).stdout).toBe("deployment.apps/orders-v1 condition met\n");
    expect((await run("rollout", "status", "deploy/orders-v1", "--timeout=30s")).stdout).toContain("successfully rolled out");
    expect(table(await run("get", "deploy", "orders-v1", "--no-headers"))[0]?.slice(0, 2)).toEqual(["orders-v1", "0/0"]);
    expect((await run("wait", "--for=jsonpath={.spec.replicas}=0", "deploy/orders-v1", "--timeout=30s")).code).toBe(0);
    expect(await kubectl("scale", "deploy", "orders-v1", "--current-replicas=5", "--replicas=1")).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("Expected replicas to be 5, was 0"),
    });
  });

  it("changes objects by every kind of patch", async () => {
    const images = async () => (await run("get", "deploy", "orders-v1", "-o", "jsonpath={.spec.template.spec.containers[*].image}")).stdout;
    await run("patch", "deploy", "orders-v1", "-p", '{"spec":{"template":{"spec":{"containers":[{"name":"helper","image":"h:3"}]}}}}');
    expect((await images()).split(" ").sort()).toEqual(["example.com/orders:1", "h:3"]);
    await run(
      "patch",
      "deploy",
      "orders-v1",
      "--type=json",
      "-p",
      '[{"op":"test","path":"/spec/replicas","value":0},{"op":"replace","path":"/spec/replicas","value":4}]',
    );
    expect(
      await kubectl("patch", "deploy", "orders-v1", "--type=json", "-p", '[{"op":"test","path":"/spec/replicas","value":0}]'),
    ).toMatchObject({ code: 1, stderr: expect.stringContaining("test failed") });
    await run(
      "patch",
      "deploy",
      "orders-v1",
      "--type=merge",
      "-p",
      '{"spec":{"template":{"spec":{"containers":[{"name":"only","image":"o:1"}]}}}}',
    );
    expect(await images()).toBe("o:1");
    expect((await run("set", "image", "deploy/orders-v1", "only=o:2")).stdout).toBe("deployment.apps/orders-v1 image updated\n");
    expect((await run("annotate", "deploy", "orders-v1", "note=hello")).stdout).toBe("deployment.apps/orders-v1 annotated\n");
    expect((await run("annotate", "deploy", "orders-v1", "note-")).stdout).toBe("deployment.apps/orders-v1 annotated\n");
    expect((await run("rollout", "restart", "deploy/orders-v1")).stdout).toBe("deployment.apps/orders-v1 restarted\n");
    expect(await kubectl("patch", "deploy", "orders-v1", "-p", "{")).toMatchObject({ code: 1 });
    expect(await kubectl("patch", "deploy", "orders-v1", "-p", '{"spec":{"replicas":"many"}}')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("spec.replicas: must be a whole number"),
    });
  });

  it("keeps Istio's objects in all their versions, and prints their columns", async () => {
    expect(lines(await kubectl.given(routing, "apply", "-f", "-"))).toEqual([
      "gateway.networking.istio.io/front created",
      "virtualservice.networking.istio.io/shop created",
    ]);
    expect(lines(await kubectl.given(routing, "apply", "-f", "-"))).toEqual([
      "gateway.networking.istio.io/front unchanged",
      "virtualservice.networking.istio.io/shop unchanged",
    ]);
    expect(table(await run("get", "vs"))).toEqual([
      ["NAME", "GATEWAYS", "HOSTS", "AGE"],
      ["shop", '["front"]', '["*"]', expect.any(String)],
    ]);
    for (const version of ["v1", "v1beta1", "v1alpha3"])
      expect((await run("get", `virtualservices.${version}.networking.istio.io`, "shop", "-o", "jsonpath={.apiVersion}")).stdout).toBe(
        `networking.istio.io/${version}`,
      );
    expect(
      lines(
        await kubectl.given(routing.replace('hosts: ["*"]\n  gateways', 'hosts: ["shop.example.com"]\n  gateways'), "apply", "-f", "-"),
      )[1],
    ).toBe("virtualservice.networking.istio.io/shop configured");
    expect((await run("get", "vs", "shop", "-o", "jsonpath={.spec.hosts}")).stdout).toBe('["shop.example.com"]');
    const editor = kubectl.with({ KUBE_EDITOR: "sed -i s/shop.example.com/edited.example.com/" });
    expect((await editor("edit", "vs", "shop")).stdout).toBe("virtualservice.networking.istio.io/shop edited\n");
    const written = (await run("get", "vs", "shop", "-o", "yaml")).stdout;
    expect((await kubectl.given(written.replaceAll("edited.", "replaced."), "replace", "-f", "-")).stdout).toBe(
      "virtualservice.networking.istio.io/shop replaced\n",
    );
    expect(await kubectl.given(written.replaceAll("edited.", "late."), "replace", "-f", "-")).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("the object has been modified"),
    });
    expect((await run("get", "vs", "shop", "-o", "jsonpath={.spec.hosts}")).stdout).toBe('["replaced.example.com"]');
  });

  it("is told what is wrong with an object, in Istio's words", async () => {
    const virtualService = (route: string) =>
      `apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: wrong }\nspec: { hosts: [a.example.com], http: [{ ${route} }] }\n`;
    const refusal = async (text: string, ...args: string[]) => (await kubectl.given(text, "create", "-f", "-", ...args)).stderr;
    expect(await refusal(virtualService("route: [{ destination: { host: a } }], timeout: 0.1ms"))).toBe(
      'Error from server: error when creating "STDIN": admission webhook "validation.istio.io" denied the request: configuration is invalid: 1 error occurred:\n\t* spec.http[0].timeout: must be at least 1ms\n\n',
    );
    expect(await refusal(virtualService("route: [{ destination: { host: a } }], timeout: soon"))).toContain(
      'The VirtualService "wrong" is invalid: spec.http[0].timeout: Invalid value: "soon" is not a duration',
    );
    expect(await refusal(virtualService("rout: []"))).toContain(
      'VirtualService in version "v1" cannot be handled as a VirtualService: strict decoding error: unknown field "spec.http[0].rout"',
    );
    expect(await refusal(virtualService("redirect: { uri: / }, foo: 1"), "--validate=warn")).toContain(
      'Warning: unknown field "spec.http[0].foo"',
    );
    expect((await run("get", "vs", "wrong", "-o", "jsonpath={.spec.http}")).stdout).toBe('[{"redirect":{"uri":"/"}}]');
    expect(await refusal(virtualService("redirect: { uri: / }"))).toContain('virtualservices.networking.istio.io "wrong" already exists');
    expect(await refusal(shop.replace("replicas: 2", "replica: 2").replace("orders-v1", "wrong"))).toContain(
      'unknown field "spec.replica"',
    );
    expect(await refusal("apiVersion: v1\nkind: Service\nmetadata: { name: wrong }\nspec: { ports: [{ port: 99999 }] }\n")).toContain(
      "spec.ports[0].port: Invalid value: 99999: must be between 1 and 65535",
    );
    expect(await refusal("apiVersion: example.com/v1\nkind: Thing\nmetadata: { name: wrong }\n")).toContain('no matches for kind "Thing"');
    expect(await refusal(shop, "-n", "nowhere")).toContain('namespaces "nowhere" not found');
  });

  it("creates what it sends as protobuf", async () => {
    expect((await run("create", "namespace", "made")).stdout).toBe("namespace/made created\n");
    const made = async (...args: string[]) => (await run("create", "-n", "made", ...args)).stdout.trim();
    expect(await made("deployment", "web", "--image=nginx:1", "--replicas=3", "--port=80")).toBe("deployment.apps/web created");
    expect(await made("configmap", "settings", "--from-literal=a=1")).toBe("configmap/settings created");
    expect(await made("secret", "generic", "keys", "--from-literal=k=v")).toBe("secret/keys created");
    expect(await made("serviceaccount", "robot")).toBe("serviceaccount/robot created");
    expect(await made("service", "clusterip", "web", "--tcp=80:8080")).toBe("service/web created");
    expect(await made("ingress", "web", "--rule=web.example.com/*=web:80")).toBe("ingress.networking.k8s.io/web created");
    expect(await made("token", "robot", "--audience=istio-ca", "--duration=1h")).toMatch(/^ey[\w-]+\.[\w-]+\.[\w-]+$/);
    const get = async (what: string, path: string) =>
      (await run("get", "-n", "made", ...what.split(" "), "-o", `jsonpath={${path}}`)).stdout;
    expect(
      await get(
        "deploy web",
        ".spec.replicas}{.spec.template.spec.containers[0].image}{.spec.template.spec.containers[0].ports[0].containerPort",
      ),
    ).toBe("3nginx:180");
    expect(await get("secret keys", ".data.k")).toBe("dg==");
    expect(await get("svc web", ".spec.ports[0].port}:{.spec.ports[0].targetPort")).toBe("80:8080");
    expect(await get("ingress web", ".spec.rules[0].http.paths[0].backend.service.port.number")).toBe("80");
    expect((await run("auth", "can-i", "create", "pods")).stdout).toBe("yes\n");
    expect((await run("auth", "whoami")).stdout).toContain("topsail-admin");
    expect(await kubectl("create", "quota", "none")).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("could not find the requested resource"),
    });
    expect(await kubectl("create", "token", "nobody")).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('serviceaccounts "nobody" not found'),
    });
  });

  it("applies at the server, and tells whose fields are in the way", async () => {
    const owned = shop.split("---")[2]!.replace("orders-v1", "owned");
    expect((await kubectl.given(owned, "apply", "--server-side", "-f", "-")).stdout).toBe("deployment.apps/owned serverside-applied\n");
    await run("scale", "deploy", "owned", "--replicas=7");
    const conflict = await kubectl.given(owned, "apply", "--server-side", "-f", "-");
    expect(conflict).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /Apply failed with 1 conflict: conflict with "kubectl[^"]*" with subresource "scale" using apps\/v1.*: \.spec\.replicas/,
      ),
    });
    expect((await kubectl.given(owned, "apply", "--server-side", "--force-conflicts", "-f", "-")).code).toBe(0);
    const replicas = async () => (await run("get", "deploy", "owned", "-o", "jsonpath={.spec.replicas}")).stdout;
    expect(await replicas()).toBe("2");
    // What is applied no longer goes, and then the default holds again.
    expect((await kubectl.given(owned.replace("replicas: 2", ""), "apply", "--server-side", "-f", "-")).code).toBe(0);
    expect(await replicas()).toBe("1");
    // From client-side to server-side apply and back.
    const both = routing.split("---")[1]!.replace("name: shop", "name: both");
    expect((await kubectl.given(both, "apply", "-f", "-")).stdout).toContain("created");
    expect((await kubectl.given(both, "apply", "--server-side", "-f", "-")).stdout).toContain("serverside-applied");
    expect((await kubectl.given(both.replace('"*"', '"b.c"'), "apply", "-f", "-")).stdout).toContain("configured");
    expect((await run("get", "vs", "both", "-o", "yaml", "--show-managed-fields")).stdout).toContain("manager: kubectl");
  });

  it("watches", async () => {
    const entry = (name: string, address: string) =>
      `apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: ${name} }\nspec: { address: ${address} }\n`;
    await kubectl.given(entry("orders-1", "10.0.0.1"), "apply", "-f", "-");
    const watch = kubectl.start("get", "workloadentry", "--watch");
    try {
      await expect.poll(() => watch.output(), { timeout: 20_000 }).toContain("orders-1");
      await kubectl.given(entry("orders-2", "10.0.0.2"), "apply", "-f", "-");
      await expect.poll(() => watch.output(), { timeout: 20_000 }).toContain("orders-2");
    } finally {
      watch.kill();
      await once(watch, "close");
    }
    expect(
      watch
        .output()
        .trimEnd()
        .split("\n")
        .map((line) => line.split(/ +/)),
    ).toEqual([
      ["NAME", "AGE", "ADDRESS"],
      ["orders-1", expect.any(String), "10.0.0.1"],
      ["orders-2", expect.any(String), "10.0.0.2"],
    ]);
  });

  it("keeps a pod's record, whose status is another's to write", async () => {
    await run("run", "probe", "--image=example.com/probe:1");
    expect(table(await run("get", "po", "probe", "--no-headers"))[0]?.slice(0, 4)).toEqual(["probe", "0/1", "Pending", "0"]);
    const status = {
      phase: "Running",
      podIP: "10.1.1.1",
      conditions: [{ type: "Ready", status: "True" }],
      containerStatuses: [{ name: "probe", ready: true, restartCount: 1, state: { running: {} } }],
    };
    await run("patch", "pod", "probe", "--subresource=status", "--type=merge", "-p", JSON.stringify({ status }));
    expect((await run("wait", "--for=condition=Ready", "pod/probe", "--timeout=30s")).code).toBe(0);
    expect(table(await run("get", "po", "probe", "--no-headers", "-o", "wide"))[0]?.slice(0, 6)).toEqual([
      "probe",
      "1/1",
      "Running",
      "1",
      expect.any(String),
      "10.1.1.1",
    ]);
    expect((await run("describe", "pod", "probe")).stdout).toMatch(/Status: +Running/);
  });

  it("deletes, one and many, a namespace with all that is in it", async () => {
    const deleted = async (...args: string[]) =>
      lines(await run("delete", ...args)).map((line) => line.replace(" from default namespace", ""));
    expect(await deleted("pod", "probe")).toEqual(['pod "probe" deleted']);
    expect(await deleted("deploy", "orders-v1", "owned")).toEqual([
      'deployment.apps "orders-v1" deleted',
      'deployment.apps "owned" deleted',
    ]);
    expect(await deleted("we", "--all")).toEqual([
      'workloadentry.networking.istio.io "orders-1" deleted',
      'workloadentry.networking.istio.io "orders-2" deleted',
    ]);
    expect(await deleted("gateway", "front")).toEqual(['gateway.networking.istio.io "front" deleted']);
    expect(await kubectl.given(shop, "delete", "-f", "-")).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('deployments.apps "orders-v1" not found'),
    });
    expect(await deleted("vs", "-l", "nothing=here")).toEqual(["No resources found"]);
    expect((await run("delete", "ns", "made")).stdout).toBe('namespace "made" deleted\n');
    expect(await kubectl("get", "deploy", "-n", "made", "web")).toMatchObject({ code: 1 });
    expect(
      (await run("get", "secret,cm,sa,svc,ingress,deploy", "-A", "-o", "jsonpath={.items[*].metadata.namespace}")).stdout,
    ).not.toContain("made");
    expect(await kubectl("delete", "ns", "default")).toMatchObject({ code: 1, stderr: expect.stringContaining("may not be deleted") });
  });

  it("finds all that was acknowledged after the control plane was killed", async () => {
    for (let index = 0; index < 3; index++) await run("create", "configmap", `kept-${index}`, `--from-literal=n=${index}`);
    await run("delete", "configmap", "kept-1");
    const uid = (await run("get", "cm", "kept-0", "-o", "jsonpath={.metadata.uid}")).stdout;
    istiod.child.kill("SIGKILL");
    await istiod.exited;
    expect(await kubectl("get", "cm")).toMatchObject({ code: 1 });
    istiod = await startIstiod(directory);
    expect((await run("get", "cm", "-o", "name")).stdout).toBe("configmap/istio-ca-root-cert\nconfigmap/kept-0\nconfigmap/kept-2\n");
    expect((await run("get", "cm", "kept-0", "-o", "jsonpath={.metadata.uid}")).stdout).toBe(uid);
    expect((await run("get", "vs", "-o", "name")).stdout).toContain("virtualservice.networking.istio.io/shop");
  });

  it.skipIf(kubectls.length < 2)("works with the machine's own kubectl as well", async () => {
    const own = kubectlFor(kubectls[1]!, join(directory, "kubeconfig"), directory);
    const other = `${shop}---${routing}`.replaceAll(/name: (orders|front|shop|orders-v1)\b/g, "name: own-$1");
    expect(await own.given(other, "apply", "-f", "-")).toMatchObject({ code: 0 });
    expect(new Set(lines(await own.given(other, "apply", "-f", "-")).map((line) => line.split(" ").at(-1)))).toEqual(
      new Set(["unchanged"]),
    );
    expect(await own("create", "deploy", "own", "--image=nginx")).toMatchObject({ code: 0 });
    expect(await own("create", "token", "default")).toMatchObject({ code: 0, stdout: expect.stringMatching(/^ey/) });
    expect(await own("scale", "deploy", "own-orders-v1", "--replicas=0")).toMatchObject({ code: 0 });
    expect(await own("get", "deploy", "own-orders-v1", "-o", "jsonpath={.spec.replicas}")).toMatchObject({ stdout: "0" });
    expect(await own.given(other, "delete", "-f", "-")).toMatchObject({ code: 0 });
  });
});

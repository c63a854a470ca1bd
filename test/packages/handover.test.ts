/**
 * New settings and a new program while everybody talks: the packages on machines, reloaded and upgraded under traffic. Not a request fails.
 *
 *   host: clients ──> edge: gateway (HTTP, TCP) ──> host: servers
 *                 ──> app: sidecar ──> httpbin          app: curl ──> sidecar ──> host: servers, by a name of the mesh
 */
import { createServer, type Server } from "node:http";
import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { createToken, readKubeconfig } from "../support/kube-api.ts";
import { type Machine, MachineNetwork, machinesProblem } from "../support/machine.ts";
import { anotherVersion, buildPackages, debOf, install, packagingProblem } from "../support/packages.ts";
import { SteadyTraffic } from "../support/steady-traffic.ts";

const problem = machinesProblem() ?? packagingProblem();
if (problem) process.stderr.write(`hand-over on machines: skipped: ${problem}\n`);

const drainSeconds = 5;

const echoPath = "/test.Echo/Stream";

/** HTTP/1.1 with WebSocket, TCP, gRPC: each gives back what it gets. */
const mesh = (host: string, http: number, tcp: number, grpc: number) => `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}
  - {port: {number: 9000, name: tcp, protocol: TCP}, hosts: ["*"]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: default}
spec:
  hosts: [web.mesh]
  addresses: [240.1.1.1]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: ${http}}, {number: 9000, name: tcp, protocol: TCP, targetPort: ${tcp}}, {number: 7070, name: grpc, protocol: GRPC, targetPort: ${grpc}}]
  resolution: STATIC
  endpoints: [{address: ${host}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge, namespace: istio-system}
spec:
  hosts: ["*"]
  gateways: [edge]
  http:
  - {match: [{uri: {exact: ${echoPath}}}], route: [{destination: {host: web.mesh, port: {number: 7070}}}]}
  - {route: [{destination: {host: web.mesh, port: {number: 80}}}]}
  tcp: [{match: [{port: 9000}], route: [{destination: {host: web.mesh, port: {number: 9000}}}]}]
`;

const defaults = `defaultConfig: {concurrency: 2, drainDuration: ${drainSeconds}s, terminationDrainDuration: 1s}\n`;

const variables = (name: string, account: string) => `CANONICAL_SERVICE='${name}'
ISTIO_INBOUND_PORTS='*'
ISTIO_META_DNS_CAPTURE='true'
ISTIO_NAMESPACE='default'
ISTIO_SERVICE='${name}.default'
ISTIO_SERVICE_CIDR='*'
POD_NAMESPACE='default'
SERVICE_ACCOUNT='${account}'
`;

describe.skipIf(problem !== undefined)("hand-over on machines", { timeout: 120_000 }, () => {
  let network: MachineNetwork;
  let edge: Machine;
  let app: Machine;
  let http: Server;
  let tcp: ReturnType<typeof createTcpServer>;
  let grpc: Http2Server;

  const pidOf = (machine: Machine, unit: string) => machine.property(unit, "MainPID");

  beforeAll(async () => {
    await buildPackages(["--arch", process.arch === "arm64" ? "arm64" : "amd64", "--only", "deb"]);
    network = await MachineNetwork.start();
    [edge, app] = await Promise.all([network.boot("edge", 10), network.boot("app", 11)]);
    http = createServer({ keepAliveTimeout: 600_000 }, (_, response) => response.end("web"));
    http.on("upgrade", (_, socket) => {
      socket.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
      );
      socket.on("error", () => undefined).pipe(socket);
    });
    grpc = createHttp2Server();
    grpc.on("stream", (stream: ServerHttp2Stream) => {
      stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.on("error", () => undefined).pipe(stream);
    });
    tcp = createTcpServer((socket) => socket.on("error", () => undefined).pipe(socket));
    for (const server of [http, tcp, grpc]) await new Promise<void>((resolve) => server.listen(0, network.hostAddress, resolve));
    const ports = [http, tcp, grpc].map((server) => (server.address() as AddressInfo).port) as [number, number, number];
    await Promise.all([install(edge, "istio-control-plane").then(() => install(edge, "istio-sidecar")), install(app, "istio-sidecar")]);
    await edge.write("/etc/istiod/config/mesh.yaml", mesh(network.hostAddress, ...ports));
    await edge.write("/etc/istiod/istiod.env", `ISTIOD_FLAGS="--kubeAPIAddr 0.0.0.0:6443 --serverName ${edge.address}"\n`);
    await edge.sh("systemctl start istio-control-plane");
    const config = { ...readKubeconfig(join(edge.root, "var/lib/istiod/kubeconfig")), server: `https://${edge.address}:6443` };
    const root = join(edge.root, "var/lib/istiod/ca/root-cert.pem");

    const at = "/var/lib/istio-gateway/ingress";
    await edge.write(`${at}/var/run/secrets/tokens/istio-token`, await createToken(config, "istio-system", "default"));
    await edge.write(`${at}/var/lib/istio/envoy/cluster.env`, "SERVICE_ACCOUNT='default'\n");
    await edge.write(`${at}/etc/istio/config/mesh`, defaults);
    await edge.push(root, `${at}/etc/certs/root-cert.pem`);
    await app.write("/var/run/secrets/tokens/istio-token", await createToken(config, "default", "default"));
    await app.write("/var/lib/istio/envoy/cluster.env", variables("httpbin", "default"));
    await app.write("/etc/istio/config/mesh", defaults);
    await app.push(root, "/etc/certs/root-cert.pem");
    await app.sh(`
      chown -R istio-proxy /etc/certs /var/run/secrets /var/lib/istio /etc/istio/config /etc/istio/proxy
      echo '${edge.address} istiod.istio-system.svc' >> /etc/hosts
      systemd-run --unit httpbin $(readlink -f /usr/local/bin/pilot-agent) sample httpbin --listen 0.0.0.0:8000`);
    await Promise.all([
      edge.sh("echo '127.0.0.1 istiod.istio-system.svc' >> /etc/hosts; systemctl start istio-gateway@ingress"),
      app.sh("systemctl start istio"),
    ]);
  }, 400_000);

  afterAll(async () => {
    http?.close();
    tcp?.close();
    grpc?.close();
    await network?.[Symbol.asyncDispose]();
  });

  const clients = () => {
    const traffic = new SteadyTraffic();
    for (let count = 0; count < 4; count++) traffic.http(edge.address, 80, "/", { keepsAlive: true });
    for (let count = 0; count < 2; count++) traffic.http(edge.address, 80, "/", { keepsAlive: false });
    for (let count = 0; count < 2; count++) traffic.http(app.address, 8000, "/status/200", { keepsAlive: true });
    traffic.http(app.address, 8000, "/status/200", { keepsAlive: false });
    traffic.tcp(edge.address, 9000);
    traffic.http2(edge.address, 80, "/", 4);
    traffic.grpc(edge.address, 80, echoPath);
    return traffic;
  };
  /** On the machine, by DNS proxy and outbound capture; prints what failed. */
  const insider = () =>
    app.sh(
      "while [ ! -e /tmp/enough ]; do curl -sS -o /dev/null --max-time 4 --fail http://web.mesh/ 2>&1 || true; done; rm /tmp/enough; echo end",
    );

  it.each([
    ["a reload", "systemctl reload istio-gateway@ingress", "systemctl reload istio"],
    ["an upgrade", "dpkg -i /root/newer.deb", "dpkg -i /root/newer.deb"],
  ])("lose no request and no connection by %s", async (what, atEdge, atApp) => {
    if (what === "an upgrade") {
      using newer = anotherVersion(debOf("istio-sidecar"), "99.0");
      await Promise.all([edge, app].map((machine) => machine.push(newer.file, "/root/newer.deb")));
    }
    for (const machine of [edge, app]) expect((await machine.sh("cat /proc/sys/net/ipv4/tcp_migrate_req")).trim()).toBe("1");
    const before = [await pidOf(edge, "istio-gateway@ingress"), await pidOf(app, "istio")] as const;
    const traffic = clients();
    const inside = insider();
    const session = traffic.session(edge.address, 9000);
    await session.echo("before");
    const socket = await traffic.webSocket(edge.address, 80, "/socket");
    await socket.echo("before");
    const [short, long] = [traffic.grpcStream(edge.address, 80, echoPath), traffic.grpcStream(edge.address, 80, echoPath)];
    for (const stream of [short, long]) await stream.echo("before");
    await traffic.more(500);

    await Promise.all([edge.sh(atEdge), app.sh(atApp)]);
    const after = [await pidOf(edge, "istio-gateway@ingress"), await pidOf(app, "istio")] as const;
    expect(after[0]).not.toBe(before[0]);
    expect(after[1]).not.toBe(before[1]);
    // By the old process, which is still there for them.
    await Promise.all([session, socket, short, long].map((one) => one.echo("after")));
    await edge.sh(`kill -0 ${before[0]}`);
    // Who has only a stream is told to go too, and loses nothing when he does.
    await Promise.all([short.goodbye, long.goodbye]);
    expect(await short.end()).toBe("0");
    await traffic.more(500);
    // When their time is over the others end in order, and the process with them.
    expect(await Promise.all([session.ended, socket.ended])).toEqual(["end", "end"]);
    for (const one of [session, socket]) one.end();
    // What a stream is told whose connection ends before it: there is no other way to say so.
    expect(await long.status).toBe("reset 8");
    expect(await long.ended).toBe("end");
    await edge.until(`! kill -0 ${before[0]}`);
    await app.until(`! kill -0 ${before[1]}`);
    await traffic.more(500);
    await traffic.stop();
    await app.sh("touch /tmp/enough");
    expect({ failures: traffic.failures, inside: await inside }).toEqual({ failures: [], inside: "end\n" });
    for (const [machine, unit] of [
      [edge, "istio-gateway@ingress"],
      [app, "istio"],
    ] as const) {
      expect(await machine.property(unit, "ActiveState")).toBe("active");
      expect(await machine.property(unit, "NRestarts")).toBe("0");
      expect(await machine.property(unit, "StatusText")).toContain("Serving, configured by");
    }
  });

  it("serve who is connected to the first of three processes, also when the second has gone", async () => {
    const [unit, file] = ["istio-gateway@ingress", "/var/lib/istio-gateway/ingress/etc/istio/config/mesh"];
    // Longer than both reloads take, on any machine.
    await edge.sh(`echo 'defaultConfig: {concurrency: 2, drainDuration: 100s}' > ${file}; systemctl reload ${unit}`);
    const first = await pidOf(edge, unit);
    const traffic = new SteadyTraffic();
    const session = traffic.session(edge.address, 9000);
    await session.echo("before");
    await edge.sh(`systemctl reload ${unit}`);
    const second = await pidOf(edge, unit);
    await edge.sh(`systemctl reload ${unit}`);
    // Nobody is connected to it.
    await edge.until(`! kill -0 ${second}`);
    await session.echo("after");
    await edge.sh(`kill -0 ${first}`);
    session.end();
    await edge.until(`! kill -0 ${first}`);
    await traffic.stop();
    expect(traffic.failures).toEqual([]);
    await edge.sh(`echo '${defaults.trim()}' > ${file}; systemctl reload ${unit}`);
  });

  it("go on as they are when the new process does not come up: process, and what is captured", async () => {
    const rules = () => app.sh("iptables-save | grep -- ^-A");
    const before = await pidOf(app, "istio");
    const rulesBefore = await rules();
    const file = "/var/lib/istio/envoy/sidecar.env";
    await app.sh(`cp ${file} /root/; echo "ISTIO_AGENT_FLAGS=--log_output_level=nonsense ISTIO_LOCAL_EXCLUDE_PORTS=7777" >> ${file}`);
    expect((await app.exec(["systemctl", "reload", "istio"])).code).not.toBe(0);
    expect(await pidOf(app, "istio")).toBe(before);
    expect(await rules()).toBe(rulesBefore);
    expect(await app.property("istio", "ActiveState")).toBe("active");
    expect(await app.journal("istio")).toContain("the new process has ended before it served");
    await app.sh(`cp /root/sidecar.env ${file}; systemctl reload istio`);
    expect(await pidOf(app, "istio")).not.toBe(before);
  });

  it("hand over to the new program also when an upgrade comes in the middle of a reload", async () => {
    using newer = anotherVersion(debOf("istio-sidecar"), "99.0.1");
    await app.push(newer.file, "/root/newer.deb");
    const settings = "/run/systemd/system/istio.service.d/slow.conf";
    await app.write(settings, "[Service]\nExecReload=/bin/sleep 5\n");
    const before = await pidOf(app, "istio");
    await app.sh("systemctl daemon-reload; systemctl reload --no-block istio");
    await app.until(`[ "$(systemctl show -P MainPID istio)" != ${before} ]`);
    const between = await pidOf(app, "istio");
    await app.sh(`dpkg -i /root/newer.deb; rm ${settings}; systemctl daemon-reload`);
    await app.until(`[ "$(systemctl show -P MainPID istio)" != ${between} ]`);
  });

  it("are looked after as before: a new process that dies is restarted, one that is stopped ends in order", async () => {
    await app.sh("systemctl reload istio; kill -9 $(systemctl show -P MainPID istio)");
    await app.until('[ "$(systemctl show -P NRestarts istio)" = 1 ] && [ "$(systemctl show -P ActiveState istio)" = active ]');
    await app.sh("systemctl reload istio; systemctl stop istio");
    expect(await app.property("istio", "Result")).toBe("success");
  });

  describe.skipIf(envoyBinary === undefined)("with an Envoy of the user's, which can't share its ports", () => {
    const envoyPid = async () => (await app.sh("pgrep -f '^/opt/envoy '")).trim();
    beforeAll(async () => {
      await app.push(envoyBinary!, "/opt/envoy");
      await app.write("/etc/istio/config/mesh", defaults.replace("{", "{binaryPath: /opt/envoy, "));
      await app.sh("chmod 755 /opt/envoy; chown istio-proxy /etc/istio/config/mesh; systemctl restart istio");
    }, 120_000);
    const throughEnvoy = () => {
      const traffic = new SteadyTraffic();
      for (const keepsAlive of [true, false]) traffic.http(app.address, 8000, "/status/200", { keepsAlive });
      return traffic;
    };

    it("lose nothing by a reload, which says that the process goes on as it is, and what was captured is by the new settings", async () => {
      const before = [await pidOf(app, "istio"), await envoyPid()];
      const traffic = throughEnvoy();
      await traffic.more(100);
      await app.sh("echo ISTIO_LOCAL_EXCLUDE_PORTS=8111 >> /var/lib/istio/envoy/cluster.env; systemctl reload istio");
      expect(await app.sh("iptables-save")).toMatch(/-A ISTIO_INBOUND .*--dport 8111 -j RETURN/);
      await traffic.more(100);
      await traffic.stop();
      expect(traffic.failures).toEqual([]);
      expect([await pidOf(app, "istio"), await envoyPid()]).toEqual(before);
      expect(await app.journal("istio")).toContain("the running process goes on, by the settings that it began with");
    });

    it("are restarted by an upgrade: who is connected is told to go, capture stays, and the new one serves", async () => {
      const before = [await pidOf(app, "istio"), await envoyPid()] as const;
      using newer = anotherVersion(debOf("istio-sidecar"), "99.1");
      await app.push(newer.file, "/root/newer.deb");
      const traffic = throughEnvoy();
      await traffic.more(100);
      const rules = app.sh(
        "while [ ! -e /tmp/enough ]; do iptables-save | grep -q -- '-A ISTIO_INBOUND' || echo free; sleep 0.05; done; rm /tmp/enough; echo end",
      );
      await app.sh("dpkg -i /root/newer.deb", { timeoutMs: 120_000 });
      await app.until('[ "$(systemctl show -P ActiveState istio)" = active ]');
      await traffic.more(100);
      await traffic.stop();
      await app.sh("touch /tmp/enough");
      expect(await rules).toBe("end\n");
      expect(await pidOf(app, "istio")).not.toBe(before[0]);
      expect(await envoyPid()).not.toBe(before[1]);
      await app.until(`! kill -0 ${before[1]}`);
      expect(await app.property("istio", "NRestarts")).toBe("0");
      expect(await app.property("istio", "Result")).toBe("success");
      // Nobody is answered with an error, nor left without an answer: for a moment there is nobody.
      expect(traffic.failures.filter((failure) => !/ECONNREFUSED|ECONNRESET|socket hang up/.test(failure))).toEqual([]);
    });
  });
});

/**
 * Mutual TLS on a small mesh: customers and httpbin have sidecars, web-frontend has none and calls customers in plaintext. What an observer
 * draws a padlock by is in the metrics: who called whom, and how. The steps build on each other, as somebody types them.
 */
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { httpGet, istioObject, LabMesh, labProxies } from "../support/lab-mesh.ts";
import { samplesOf } from "../support/prometheus.ts";
import { eventually } from "../support/proxies.ts";

/** So that certificates are renewed while the steps run. */
const certificateSeconds = 6;
const namespaceOf = (workload: string) => (workload === "ingress" ? "istio-system" : "default");
const principalOf = (workload: string) => `spiffe://cluster.local/ns/${namespaceOf(workload)}/sa/${workload}`;
const unknown = "unknown";

describe.each(labProxies)("A mesh with mutual TLS, run by $name", ({ binaryPath }) => {
  let lab: LabMesh;

  beforeAll(async () => {
    const workloads = [{ name: "customers" }, { name: "httpbin" }, { name: "web-frontend", hasSidecar: false }] as const;
    lab = await LabMesh.start({ network: binaryPath ? 7 : 6, binaryPath, workloads, certificateSeconds });
  }, 90_000);
  afterAll(() => lab?.[Symbol.asyncDispose](), 30_000);

  const frontend = async () => {
    const { body } = await lab.viaGateway("web-frontend");
    return body.includes("Ada Lindqvist") ? "customers" : /did not answer: (\w+)/.exec(body)?.[1];
  };

  it("encrypts between workloads by itself, and tells the application who called", async () => {
    const { body } = await lab.viaGateway("httpbin", "/headers");
    const { headers } = JSON.parse(body) as { headers: Record<string, string> };
    const certificate = headers["X-Forwarded-Client-Cert"];
    expect(certificate).toContain(`By=${principalOf("httpbin")}`);
    expect(certificate).toContain(`URI=${principalOf("ingress")}`);
    expect(JSON.parse((await lab.between("httpbin", "customers")).body)).toContainEqual(expect.objectContaining({ name: "Ada Lindqvist" }));
  });

  it("shows the certificates of a proxy", () => {
    const { status, stdout } = lab.istioctl("proxy-config", "secret", "customers");
    expect(status).toBe(0);
    const rows = stdout
      .trimEnd()
      .split("\n")
      .map((line) => line.split(/ {2,}/).slice(0, 4));
    expect(rows[0]).toEqual(["RESOURCE NAME", "TYPE", "STATUS", "VALID CERT"]);
    expect(rows.slice(1).sort()).toEqual([
      ["ROOTCA", "CA", "ACTIVE", "true"],
      ["default", "Cert Chain", "ACTIVE", "true"],
    ]);
  });

  it("takes the plaintext of a service without a sidecar while it is permissive, and sends it plaintext", async () => {
    expect(await frontend()).toBe("customers");
    expect(await lab.outside("customers")).toBe(200);
  });

  it("refuses the plaintext when strict, and only that", async () => {
    lab.apply("strict", istioObject("security", "PeerAuthentication", "default", { mtls: { mode: "STRICT" } }));
    await expect.poll(() => lab.outside("customers"), { timeout: 15_000 }).toBe("ECONNRESET");
    // Connections that there were are let go, each with its next answer.
    await expect.poll(frontend, { timeout: 15_000 }).toBe("ECONNRESET");
    expect((await lab.viaGateway("customers")).status).toBe(200);
    expect((await lab.between("httpbin", "customers")).status).toBe(200);
    const selector = { matchLabels: { app: "customers" } };
    lab.apply("strict-but-one", istioObject("security", "PeerAuthentication", "customers", { selector, mtls: { mode: "PERMISSIVE" } }));
    await expect.poll(() => lab.outside("customers"), { timeout: 15_000 }).toBe(200);
    expect(await lab.outside("httpbin")).toBe("ECONNRESET");
    lab.remove("strict-but-one");
    await expect.poll(() => lab.outside("customers"), { timeout: 15_000 }).toBe("ECONNRESET");
    lab.remove("strict");
    await expect.poll(() => lab.outside("customers"), { timeout: 15_000 }).toBe(200);
    await expect.poll(frontend, { timeout: 15_000 }).toBe("customers");
  }, 90_000);

  describe.skipIf(binaryPath)("has in its metrics", () => {
    /** Since the step began; a counter whose labels are new comes to the page a moment after the response. */
    async function added(proxy: string, wanted: Record<string, string>, act: () => Promise<unknown>, name = "istio_requests_total") {
      const read = async () => samplesOf(await lab.metrics(proxy), name, wanted).reduce((sum, { value }) => sum + value, 0);
      const before = await read();
      await act();
      const after = await eventually(
        async () => {
          const now = await read();
          return now > before ? now : undefined;
        },
        `${name} of ${proxy}: ${JSON.stringify(wanted)}\n${(await lab.metrics(proxy))
          .split("\n")
          .filter((line) => line.startsWith(name))
          .join("\n")}`,
      );
      return after - before;
    }
    const between = (reporter: "source" | "destination", source: string, destination: string) => ({
      reporter,
      source_workload: source,
      source_workload_namespace: source === unknown ? unknown : namespaceOf(source),
      destination_workload: destination,
      destination_workload_namespace: namespaceOf(destination),
      destination_service: `${destination}.default.svc.cluster.local`,
      destination_service_name: destination,
      response_code: "200",
    });

    it.each(["ingress", "httpbin"])("a padlock from %s to customers, as the server saw it; the client can't say", async (client) => {
      const ask = () => (client === "ingress" ? lab.viaGateway("customers") : lab.between(client, "customers"));
      const principals = { source_principal: principalOf(client), destination_principal: principalOf("customers") };
      const labels = {
        ...principals,
        destination_app: "customers",
        destination_version: "v1",
        request_protocol: "http",
        response_flags: "-",
      };
      const server = { ...between("destination", client, "customers"), ...labels, connection_security_policy: "mutual_tls" };
      expect(await added("customers", server, ask)).toBe(1);
      expect(await added(client, { ...between("source", client, "customers"), ...labels, connection_security_policy: unknown }, ask)).toBe(
        1,
      );
    });

    it("no padlock from a service without a sidecar, and nothing of who it is", async () => {
      const nobody = { source_principal: unknown, source_app: unknown, source_canonical_service: unknown };
      const plaintext = { ...between("destination", unknown, "customers"), ...nobody, connection_security_policy: "none" };
      expect(await added("customers", plaintext, frontend)).toBe(1);
    });

    it("no padlock to a service without a sidecar, which is known by its endpoint alone", async () => {
      const labels = { source_canonical_service: "ingress", destination_canonical_service: "web-frontend" };
      const plaintext = {
        ...between("source", "ingress", "web-frontend"),
        ...labels,
        destination_principal: unknown,
        connection_security_policy: unknown,
      };
      expect(await added("ingress", plaintext, frontend)).toBe(1);
    });

    it("what policies refused, under the names of those who asked", async () => {
      lab.apply("nothing", istioObject("security", "AuthorizationPolicy", "nothing", { selector: { matchLabels: { app: "customers" } } }));
      await lab.settled("customers").toBe(403);
      const denied = { ...between("destination", "ingress", "customers"), response_code: "403", connection_security_policy: "mutual_tls" };
      expect(await added("customers", denied, () => lab.viaGateway("customers"))).toBe(1);
      lab.remove("nothing");
      await lab.settled("customers").toBe(200);
    }, 40_000);

    it("bytes and connections of TCP, with the same padlock", async () => {
      const labels = { reporter: "destination", source_workload: "ingress", destination_workload: "customers" };
      const mutual = {
        ...labels,
        source_principal: principalOf("ingress"),
        request_protocol: "tcp",
        connection_security_policy: "mutual_tls",
      };
      const ask = async () => {
        const { status } = await httpGet("127.0.0.1", lab.ports.gateway + 1, "any.test");
        expect(status).toBe(200);
      };
      const names = { opened: "connections_opened_total", closed: "connections_closed_total", sent: "sent_bytes_total" };
      expect(await added("customers", mutual, ask, `istio_tcp_${names.opened}`)).toBe(1);
      expect(await added("customers", mutual, ask, `istio_tcp_${names.closed}`)).toBeGreaterThanOrEqual(1);
      expect(await added("customers", mutual, ask, `istio_tcp_${names.sent}`)).toBeGreaterThan(100);
      const source = { ...labels, reporter: "source", connection_security_policy: unknown };
      expect(await added("ingress", source, ask, "istio_tcp_received_bytes_total")).toBeGreaterThan(10);
    });
  });

  it("renews certificates under load without losing a request", async () => {
    const serial = () => {
      const { stdout } = lab.istioctl("pc", "secret", "httpbin.default");
      return /^default +.* true +(?<serial>[0-9a-f]{20,})/m.exec(stdout)?.groups?.serial;
    };
    const serials = new Set([serial()]);
    const until = Date.now() + certificateSeconds * 2000;
    const failures: string[] = [];
    let requests = 0;
    const client = async () => {
      while (Date.now() < until) {
        const answer = await lab.viaGateway("httpbin", "/get").catch((error: Error) => ({ status: 0, body: error.message }));
        requests++;
        if (answer.status !== 200) failures.push(`${answer.status} ${answer.body}`.slice(0, 200));
      }
    };
    const watch = async () => {
      while (Date.now() < until) {
        await delay(1000);
        serials.add(serial());
      }
    };
    await Promise.all([client(), client(), client(), client(), watch()]);
    expect(failures.slice(0, 5)).toEqual([]);
    expect(requests).toBeGreaterThan(100);
    expect(serials.size).toBeGreaterThanOrEqual(3);
    expect(serials.has(undefined)).toBe(false);
  }, 60_000);
});

/** Configuration that changes twenty times a second under load: nothing fails, nothing grows, and the last word holds. */
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { Agent, get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { freePortRow } from "../support/ports.ts";
import { TopsailProcess } from "../support/topsail.ts";

const seconds = 60;
const changesPerSecond = 20;
const clients = 4;

// Only the gateway sees what changes: the heaps of eleven proxies would take minutes to settle.
const serviceEntry = (name: string, port: number) => `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ${name}, namespace: default}
spec:
  exportTo: [istio-system]
  hosts: [${name}.test]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.1.7, ports: {http: ${port}}, weight: ${1 + Math.floor(Math.random() * 5)}}]
`;

const destinationRule = (name: string) => `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ${name}, namespace: default}
spec:
  exportTo: [istio-system]
  host: ${name}.test
  trafficPolicy:
    loadBalancer: {simple: ${Math.random() < 0.5 ? "ROUND_ROBIN" : "RANDOM"}}
    connectionPool: {tcp: {connectTimeout: ${1 + Math.floor(Math.random() * 9)}s}}
`;

const virtualService = (round: string, target: string) => `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: churn, namespace: default}
spec:
  hosts: [churn.localhost]
  gateways: [gateway]
  http:
  - headers: {response: {set: {x-round: "${round}"}}}
    route: [{destination: {host: ${target}.test}}]
`;

interface Size {
  readonly anonymousMiB: number;
  readonly descriptors: number;
}

function sizeOf(pid: number): Size {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return { anonymousMiB: Number(/RssAnon:\s+(\d+)/.exec(status)![1]) / 1024, descriptors: readdirSync(`/proc/${pid}/fd`).length };
}

describe("configuration churn under load", () => {
  it("fails no request, leaks nothing and ends right", { timeout: (seconds + 60) * 1000 }, async () => {
    const directory = mkdtempSync(join(tmpdir(), "churn-"));
    const port = await freePortRow(12);
    const config = join(directory, "config");
    await using quickstart = new TopsailProcess(["quickstart", "--ports-from", String(port), "--dir", config]);
    const agent = new Agent({ keepAlive: true, maxSockets: clients });
    // By a rename, as editors and deployment tools do.
    const write = (name: string, yaml: string) => {
      writeFileSync(join(directory, name), yaml);
      renameSync(join(directory, name), join(config, name));
    };
    const ask = () =>
      new Promise<string>((resolve) => {
        const call = get({ host: "127.0.0.1", port, path: "/uuid", headers: { host: "churn.localhost" }, agent }, (response) => {
          response.resume();
          response.on("end", () =>
            resolve(response.statusCode === 200 ? `round ${response.headers["x-round"]}` : `status ${response.statusCode}`),
          );
          response.on("error", (error) => resolve(String(error)));
        });
        call.on("error", (error) => resolve(String(error)));
      });
    try {
      await quickstart.printed("Ctrl-C stops everything.");
      for (const name of ["one", "two"]) write(`${name}.yaml`, serviceEntry(name, port + 8));
      await expect
        .poll(async () => (await fetch(`http://127.0.0.1:${port + 4}/clusters`)).text(), { timeout: 10_000 })
        .toContain("two.test");
      write("churn.yaml", virtualService("first", "one"));
      await expect.poll(ask, { timeout: 10_000 }).toBe("round first");

      const failures: string[] = [];
      let requests = 0;
      let isOver = false;
      const load = Array.from({ length: clients }, async () => {
        while (!isOver) {
          const answer = await ask();
          requests++;
          if (!answer.startsWith("round ")) failures.push(answer);
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      });
      const started = Date.now();
      const sizes: Size[] = [];
      for (let change = 0; change < seconds * changesPerSecond; change++) {
        const name = Math.random() < 0.5 ? "one" : "two";
        const kind = change % 4;
        if (kind === 0) write(`${name}.yaml`, serviceEntry(name, port + 8));
        else if (kind === 1) write(`${name}-rule.yaml`, destinationRule(name));
        else if (kind === 2) write("churn.yaml", virtualService(String(change), name));
        else if (change % 8 === 3) write("extra.yaml", serviceEntry(`extra-${change % 50}`, port + 8));
        else rmSync(join(config, "extra.yaml"), { force: true });
        if (change % changesPerSecond === 0) sizes.push(sizeOf(quickstart.pid));
        const next = started + ((change + 1) * 1000) / changesPerSecond;
        await new Promise((resolve) => setTimeout(resolve, Math.max(0, next - Date.now())));
      }
      write("churn.yaml", virtualService("last", "two"));
      await expect.poll(ask, { timeout: 10_000 }).toBe("round last");
      isOver = true;
      await Promise.all(load);

      expect(failures).toEqual([]);
      expect(requests).toBeGreaterThan(seconds * 100);
      // The heap breathes with collections: its lowest points before and after are what a leak would lift. V8 collects the eleven proxies of
      // this process for the first time after a minute or more, at some 330 MiB; until then it grows by 2 MiB a second.
      const third = Math.floor(sizes.length / 3);
      const [middle, last] = [sizes.slice(third, 2 * third), sizes.slice(-third)];
      const lowest = (part: readonly Size[]) => Math.min(...part.map(({ anonymousMiB }) => anonymousMiB));
      expect(lowest(last) - lowest(middle)).toBeLessThan(100);
      const most = (part: readonly Size[]) => Math.max(...part.map(({ descriptors }) => descriptors));
      expect(most(last) - most(middle)).toBeLessThan(40);
      const syncz = (await (await fetch(`http://127.0.0.1:${port + 3}/debug/syncz`)).json()) as Record<string, string>[];
      expect(Object.keys(syncz[0]!).filter((key) => key.endsWith("_error"))).toEqual([]);
    } finally {
      agent.destroy();
      rmSync(directory, { recursive: true, force: true });
    }
  });
});

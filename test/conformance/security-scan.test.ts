/**
 * Mutated ClientHellos, client certificates and tokens, ten thousand of a kind, against a listener that wants all of them: nothing is
 * accepted that must not be, the proxy lives on, and its memory stays flat. The mutations are random with a seed that is printed, so that
 * a find can be had again: SCAN_SEED=N.
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:https";
import type { AddressInfo } from "node:net";
import { connect as connectTcp, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls, createSecureContext, type SecureContext } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeTokens } from "../support/jwt.ts";
import { type Identity, makeMeshCa } from "../support/mesh-ca.ts";
import { freePortRow } from "../support/ports.ts";
import { TopsailProcess } from "../support/topsail.ts";

const seed = Number(process.env.SCAN_SEED ?? Math.floor(Math.random() * 2 ** 31));
const rounds = 10_000;
const atOnce = 50;

/** mulberry32: small, and the same everywhere. */
function randomFrom(start: number): (below: number) => number {
  let state = start;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** One to four changes: a byte, a bit, a cut, a repetition, an insertion; or only such as leave the length. Never the original. */
function mutate(original: Buffer, random: (below: number) => number, keepsLength = false): Buffer {
  let bytes = Buffer.from(original);
  do {
    for (let left = 1 + random(4); left > 0 && bytes.length > 0; left--) {
      const at = random(bytes.length);
      switch (random(keepsLength ? 2 : 5)) {
        case 0:
          bytes[at] = random(256);
          break;
        case 1:
          bytes[at]! ^= 1 << random(8);
          break;
        case 2:
          bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + random(8))]);
          break;
        case 3:
          bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(Math.max(0, at - random(64)))]);
          break;
        default:
          bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from([random(256), random(256)]), bytes.subarray(at)]);
      }
    }
  } while (bytes.equals(original));
  return bytes;
}

async function inParallel(count: number, work: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

describe(`A listener under a scan, seed ${seed}`, () => {
  const ca = makeMeshCa();
  const server = ca.issueFor("DNS:scan.example");
  const client = ca.issue("spiffe://cluster.local/ns/a/sa/client");
  const claims = { iss: "scan.example", sub: "s", exp: 4_102_444_800 };
  const made = makeTokens({
    keys: { rsa: {}, ec: { type: "P-256" } },
    jwks: { main: ["rsa", "ec"] },
    tokens: { rsa: { key: "rsa", claims }, ec: { key: "ec", claims } },
  });
  let directory: string;
  let port: number;
  let proxy: TopsailProcess;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "security-scan-"));
    port = await freePortRow(2);
    writeFileSync(join(directory, "envoy.json"), JSON.stringify(bootstrap()), { mode: 0o600 });
    proxy = new TopsailProcess(["envoy", "-c", join(directory, "envoy.json"), "--concurrency", "1", "-l", "error"]);
    await expectServing(15_000);
  }, 30_000);
  afterAll(async () => {
    await proxy[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  });

  function bootstrap(): unknown {
    const inline = (text: string) => ({ inline_string: text });
    const address = (number: number) => ({ socket_address: { address: "127.0.0.1", port_value: number } });
    const type = (name: string) => `type.googleapis.com/envoy.extensions.${name}`;
    const manager = {
      "@type": type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
      stat_prefix: "scan",
      route_config: {
        virtual_hosts: [
          { name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, direct_response: { status: 200, body: inline("in") } }] },
        ],
      },
      http_filters: [
        {
          name: "envoy.filters.http.jwt_authn",
          typed_config: {
            "@type": type("filters.http.jwt_authn.v3.JwtAuthentication"),
            providers: { scan: { issuer: claims.iss, local_jwks: inline(made["jwks:main"]!) } },
            rules: [{ match: { prefix: "/token" }, requires: { provider_name: "scan" } }],
          },
        },
        { name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } },
      ],
    };
    const tls = {
      "@type": type("transport_sockets.tls.v3.DownstreamTlsContext"),
      require_client_certificate: true,
      common_tls_context: {
        tls_certificates: [{ certificate_chain: inline(server.certificate), private_key: inline(server.key) }],
        validation_context: {
          trusted_ca: inline(ca.root),
          match_typed_subject_alt_names: [{ san_type: "URI", matcher: { prefix: "spiffe://cluster.local/" } }],
        },
      },
    };
    return {
      admin: { address: address(port + 1) },
      static_resources: {
        listeners: [
          {
            name: "scan",
            address: address(port),
            listener_filters: [
              {
                name: "envoy.filters.listener.tls_inspector",
                typed_config: { "@type": type("filters.listener.tls_inspector.v3.TlsInspector") },
              },
            ],
            filter_chains: [
              {
                filter_chain_match: { transport_protocol: "tls" },
                filters: [{ name: "envoy.filters.network.http_connection_manager", typed_config: manager }],
                transport_socket: { name: "envoy.transport_sockets.tls", typed_config: tls },
              },
            ],
          },
        ],
      },
    };
  }

  /** Status, or 0 when there is no answer at all. */
  function get(
    path: string,
    identity: Identity | { readonly secureContext: SecureContext } | undefined,
    headers: Record<string, string> = {},
    agent: Agent | false = false,
  ): Promise<number> {
    return new Promise((resolve) => {
      const options = { host: "127.0.0.1", port, path, headers, agent, ca: ca.root, servername: "scan.example", timeout: 10_000 };
      const proof = identity && ("secureContext" in identity ? identity : { cert: identity.certificate, key: identity.key });
      const sent = request({ ...options, ...proof }, (response) => {
        response.resume().on("end", () => resolve(response.statusCode ?? 0));
      });
      sent.on("timeout", () => sent.destroy());
      sent.on("error", () => resolve(0)).end();
    });
  }

  async function expectServing(patienceMs = 0): Promise<void> {
    const until = Date.now() + patienceMs;
    let status = await get("/", client);
    while (status !== 200 && Date.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      status = await get("/", client);
    }
    expect(status, proxy.stderr).toBe(200);
    expect(await get("/token", client, { authorization: `Bearer ${made["jwt:rsa"]}` })).toBe(200);
  }

  const anonymousMiB = () => Number(/^RssAnon:\s+(\d+) kB/m.exec(readFileSync(`/proc/${proxy.pid}/status`, "utf8"))![1]) / 1024;

  it("lives through mutated ClientHellos", async () => {
    const hello = await recordHello();
    const random = randomFrom(seed);
    const send = (bytes: Buffer) =>
      new Promise<void>((resolve) => {
        const socket = connectTcp(port, "127.0.0.1", () => {
          socket.end(bytes);
        });
        // Half of a message is waited for: the client's end is an answer, too.
        const timer = setTimeout(() => socket.destroy(), 2000);
        socket.resume().on("error", () => {});
        socket.on("close", () => {
          clearTimeout(timer);
          resolve();
        });
      });
    await inParallel(1000, () => send(mutate(hello, random)));
    const before = anonymousMiB();
    await inParallel(rounds - 1000, () => send(mutate(hello, random)));
    await expectServing();
    expect(anonymousMiB()).toBeLessThan(before + 40);
  }, 120_000);

  it("lets in nobody with a certificate that is not good", async () => {
    const other = makeMeshCa("other");
    const strangers: Record<string, Identity | undefined> = {
      "no certificate": undefined,
      "of another authority": other.issue("spiffe://cluster.local/ns/a/sa/client"),
      "of another trust domain": ca.issue("spiffe://elsewhere/ns/a/sa/client"),
      "a name that begins alike": ca.issue("spiffe://cluster.localhost/ns/a/sa/client"),
      "a DNS name alone": ca.issueFor("DNS:cluster.local"),
    };
    const statuses = Object.fromEntries(
      await Promise.all(Object.entries(strangers).map(async ([name, one]) => [name, await get("/", one)])),
    );
    expect(statuses).toEqual(Object.fromEntries(Object.keys(strangers).map((name) => [name, 0])));
    await expectServing();
  });

  it("lets in nobody with a mutated certificate", async () => {
    const random = randomFrom(seed + 1);
    const der = Buffer.from(client.certificate.replace(/-----[^-]+-----|\s/g, ""), "base64");
    const accepted: string[] = [];
    let shown = 0;
    await inParallel(rounds, async (index) => {
      // Of those that keep their length most can still be read, and so shown; of the others few.
      const mutated = mutate(der, random, index % 4 === 0).toString("base64");
      const certificate = `-----BEGIN CERTIFICATE-----\n${mutated}\n-----END CERTIFICATE-----\n`;
      let secureContext: SecureContext;
      try {
        // What this side's OpenSSL can't load, or what doesn't fit the key, can't be shown at all.
        secureContext = createSecureContext({ cert: certificate, key: client.key, ca: ca.root });
      } catch {
        return;
      }
      shown++;
      if ((await get("/", { secureContext })) !== 0) accepted.push(mutated);
    });
    expect(accepted).toEqual([]);
    expect(shown).toBeGreaterThan(rounds / 10);
    // Shown in the same way, the original is good.
    const secureContext = createSecureContext({ cert: client.certificate, key: client.key, ca: ca.root });
    expect(await get("/", { secureContext })).toBe(200);
    await expectServing();
  }, 120_000);

  it("takes no mutated token", async () => {
    const random = randomFrom(seed + 2);
    const agent = new Agent({ keepAlive: true, maxSockets: atOnce });
    const originals = ["jwt:rsa", "jwt:ec"].map((name) => made[name]!);
    /**
     * Another spelling of the same bytes is the same token: base64 leaves some bits of its last letter open, and it begins, in Envoy as
     * in ours, with the first character that a token may have (jwt-tokens.yaml, /before).
     */
    const bytesOf = (token: string) => {
      const begun = token.replace(/^[^A-Za-z0-9_.-]+/, "");
      const [header, payload, signature = "", ...more] = begun.split(".").filter(Boolean);
      return [header, payload, Buffer.from(signature, "base64url").toString("hex"), ...more].join(".");
    };
    const accepted: string[] = [];
    const before = anonymousMiB();
    await inParallel(rounds, async (index) => {
      const original = originals[index % 2]!;
      // Bytes that no header can carry would be refused before anybody looks at the token.
      const token = mutate(Buffer.from(original), random)
        .toString("latin1")
        .replace(/[^\x21-\x7e]/g, "A");
      if (bytesOf(token) === bytesOf(original)) return;
      if ((await get("/token", client, { authorization: `Bearer ${token}` }, agent)) === 200) accepted.push(token);
    });
    agent.destroy();
    expect(accepted).toEqual([]);
    await expectServing();
    expect(anonymousMiB()).toBeLessThan(before + 60);
  }, 120_000);
});

/** The first flight of a client that means it. */
function recordHello(): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const recorder = createServer((socket) => {
      socket.once("data", (bytes) => {
        resolve(bytes as Buffer);
        socket.destroy();
        recorder.close();
      });
    });
    recorder.on("error", reject);
    recorder.listen(0, "127.0.0.1", () => {
      const { port } = recorder.address() as AddressInfo;
      connectTls({ port, host: "127.0.0.1", servername: "scan.example", ALPNProtocols: ["h2", "http/1.1"] }).on("error", () => {});
    });
  });
}

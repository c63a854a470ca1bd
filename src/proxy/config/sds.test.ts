import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { connect } from "node:tls";
import { fromJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { afterEach, describe, expect, it } from "vitest";
import { adsBootstrap, socket, startProxyServer } from "../../../test/support/proxy-server.ts";
import { pack, startScriptedAdsServer } from "../../../test/support/scripted-ads-server.ts";
import { envoyTypes } from "../../api/envoy/type-registry.ts";
import { ListenerSchema } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import { SecretSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { typeUrls } from "../../api/type-urls.ts";

const stacks: AsyncDisposableStack[] = [];
afterEach(async () => {
  for (const stack of stacks.splice(0)) await stack.disposeAsync();
});

function scratch(): { readonly stack: AsyncDisposableStack; readonly directory: string } {
  const stack = new AsyncDisposableStack();
  stacks.push(stack);
  const directory = mkdtempSync(path.join(tmpdir(), "topsail-sds-"));
  stack.defer(() => rmSync(directory, { recursive: true }));
  return { stack, directory };
}

interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}

function makeCertificate(directory: string, name: string): KeyPair {
  const [key, certificate] = [path.join(directory, `${name}.key`), path.join(directory, `${name}.pem`)];
  const args = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  execFileSync("openssl", [...args, "-keyout", key, "-out", certificate, "-subj", `/CN=${name}`], { stdio: "ignore" });
  return { certificate: readFileSync(certificate, "utf8"), key: readFileSync(key, "utf8") };
}

const secretJson = (name: string, { certificate, key }: KeyPair): JsonValue => ({
  name,
  tls_certificate: { certificate_chain: { inline_string: certificate }, private_key: { inline_string: key } },
});
const secret = (name: string, pair: KeyPair) => pack(SecretSchema, fromJson(SecretSchema, secretJson(name, pair)));

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Subject of the certificate that a new connection is shown; the error's code where there is none. */
function subjectAt(port: number): Promise<string> {
  return new Promise((resolve) => {
    const connection = connect({ port, host: "127.0.0.1", rejectUnauthorized: false }, () => {
      resolve(connection.getPeerCertificate().subject.CN as string);
      connection.destroy();
    });
    connection.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
}

/** A filter chain with the certificate of that name. */
function chainOf(name: string, sdsConfig: object, serverNames: readonly string[] = []): JsonObject {
  const type = (of: string) => `type.googleapis.com/envoy.extensions.${of}`;
  const chain = {
    ...(serverNames.length > 0 && { filter_chain_match: { server_names: serverNames } }),
    transport_socket: {
      name: "tls",
      typed_config: {
        "@type": type("transport_sockets.tls.v3.DownstreamTlsContext"),
        common_tls_context: { tls_certificate_sds_secret_configs: [{ name, sds_config: sdsConfig }] },
      },
    },
    filters: [
      {
        name: "tcp",
        typed_config: { "@type": type("filters.network.tcp_proxy.v3.TcpProxy"), stat_prefix: "tcp", cluster: "nowhere" },
      },
    ],
  };
  return chain as unknown as JsonObject;
}

function bootstrap(port: number, sdsConfig: object, clusters: object[]) {
  return {
    node: { id: "n", cluster: "c" },
    admin: { address: socket(0) },
    static_resources: {
      clusters,
      listeners: [{ name: "tls", address: socket(port), filter_chains: [chainOf("server", sdsConfig)] }],
    },
  };
}

describe("Secrets", () => {
  it("come over a gRPC stream of their own on a Unix domain socket, and change certificates of new connections", async () => {
    const { stack, directory } = scratch();
    const [first, second] = [makeCertificate(directory, "first"), makeCertificate(directory, "second")];
    const socketPath = path.join(directory, "sds.sock");
    const server = stack.use(await startScriptedAdsServer(`unix:${socketPath}`));
    const port = await freePort();
    const sds = {
      api_config_source: { api_type: "GRPC", transport_api_version: "V3", grpc_services: [{ envoy_grpc: { cluster_name: "sds-grpc" } }] },
    };
    const cluster = {
      name: "sds-grpc",
      connect_timeout: "1s",
      load_assignment: {
        cluster_name: "sds-grpc",
        endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: socketPath } } } }] }],
      },
    };
    const proxy = stack.use(await startProxyServer(bootstrap(port, sds, [cluster])));
    const stream = await server.nextStream();
    expect(await stream.next(typeUrls.sds)).toMatchObject({ resourceNames: ["server"] });
    stream.respond(typeUrls.sds, "1", [secret("server", first)]);
    await stream.next(typeUrls.sds);
    await proxy.server.live;
    expect(await subjectAt(port)).toBe("first");
    stream.respond(typeUrls.sds, "2", [secret("server", second)]);
    await stream.next(typeUrls.sds);
    expect(await subjectAt(port)).toBe("second");

    const dump = (await proxy.admin("/config_dump?resource=dynamic_active_secrets")).body;
    expect(JSON.parse(dump)).toMatchObject({
      configs: [{ name: "server", version_info: "2", secret: { tls_certificate: { private_key: { inline_string: "[redacted]" } } } }],
    });
    expect(dump).not.toContain("PRIVATE KEY");
  });

  it("of hundreds of servers are asked for at once, and let go of with their listener", async () => {
    const { stack, directory } = scratch();
    const names = Array.from({ length: 300 }, (_, index) => `server-${String(index).padStart(3, "0")}`);
    const control = stack.use(await startScriptedAdsServer());
    const proxy = stack.use(await startProxyServer(adsBootstrap(control.port, { fetchTimeout: "0s" })));
    const stream = await control.nextStream();
    const ads = { ads: {}, resource_api_version: "V3" };
    const listener = (count: number) => {
      const filter_chains = names.slice(0, count).map((name) => chainOf(name, ads, [name]));
      const json: JsonObject = { name: "tls", address: socket(0), filter_chains };
      return pack(ListenerSchema, fromJson(ListenerSchema, json, { registry: envoyTypes }));
    };
    await stream.next(typeUrls.cds);
    stream.respond(typeUrls.cds, "1", []);
    await stream.next(typeUrls.lds);
    stream.respond(typeUrls.lds, "1", [listener(300)]);
    expect((await stream.next(typeUrls.sds)).resourceNames).toEqual(names);
    const pair = makeCertificate(directory, "all");
    stream.respond(
      typeUrls.sds,
      "1",
      names.map((name) => secret(name, pair)),
    );
    await stream.next(typeUrls.sds);
    await proxy.server.live;
    stream.respond(typeUrls.lds, "2", [listener(2)]);
    expect((await stream.next(typeUrls.sds)).resourceNames).toEqual(names.slice(0, 2));
  });

  it("are refused when the key does not belong to the certificate, and the old one stays", async () => {
    const { stack, directory } = scratch();
    const [first, second] = [makeCertificate(directory, "first"), makeCertificate(directory, "second")];
    const file = path.join(directory, "secrets.json");
    const write = (version: string, pair: KeyPair) => {
      const resource = { "@type": typeUrls.sds, ...(secretJson("server", pair) as object) };
      writeFileSync(`${file}.new`, JSON.stringify({ version_info: version, resources: [resource] }));
      renameSync(`${file}.new`, file);
    };
    write("1", first);
    const port = await freePort();
    const proxy = stack.use(await startProxyServer(bootstrap(port, { path_config_source: { path: file } }, [])));
    await proxy.server.live;
    expect(await subjectAt(port)).toBe("first");
    write("2", { certificate: second.certificate, key: first.key });
    await proxy.logged("Rejected a configuration file");
    expect(await subjectAt(port)).toBe("first");
    write("3", second);
    while ((await subjectAt(port)) !== "second") await new Promise((resolve) => setTimeout(resolve, 10));
  });
});

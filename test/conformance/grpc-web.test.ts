/** gRPC as browsers speak it, binary and as text: Envoy and our proxy before the same server, the answers byte by byte. */
import { request } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { EchoServer } from "../support/grpc-echo.ts";
import { httpBootstrap, proxies, staticCluster, type } from "../support/static-bootstrap.ts";

function bootstrap(upstream: number): object {
  const manager = {
    route_config: { virtual_hosts: [{ name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "up" } }] }] },
    http_filters: [
      { name: "envoy.filters.http.grpc_web", typed_config: { "@type": type("filters.http.grpc_web.v3.GrpcWeb") } },
      { name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } },
    ],
  };
  return httpBootstrap([staticCluster("up", [upstream])], manager);
}

interface WebCall {
  readonly path?: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Each is written by itself. */
  readonly parts: readonly string[];
}

function call(port: number, { path = "/test.Echo/Unary", headers, parts }: WebCall): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const asked = request(
      { port, host: "127.0.0.1", path, method: "POST", agent: false, headers: { host: "web.test", ...headers } },
      (response) => {
        let body = "";
        response.setEncoding("latin1").on("data", (chunk: string) => {
          body += chunk;
        });
        response.on("end", () => {
          const { date: _, "x-envoy-upstream-service-time": __, "x-seen": seen, ...rest } = response.headers;
          resolve({ status: response.statusCode, headers: rest, seen: withoutIds(String(seen)), body, trailers: response.rawTrailers });
        });
      },
    );
    asked.on("error", reject);
    const next = (index: number) => {
      if (index === parts.length) asked.end();
      else asked.write(Buffer.from(parts[index]!, "latin1"), () => setTimeout(next, 20, index + 1));
    };
    next(0);
  });
}

const withoutIds = (seen: string) => seen.replace(/x-forwarded-for=\S+ ?|user-agent=\S+ ?/g, "");

const framed = (message: string, flags = 0) => {
  const prefix = Buffer.alloc(5);
  prefix[0] = flags;
  prefix.writeUInt32BE(message.length, 1);
  return prefix.toString("latin1") + message;
};
const base64 = (text: string) => Buffer.from(text, "latin1").toString("base64");
const binary = { "content-type": "application/grpc-web" };
const text = { "content-type": "application/grpc-web-text", accept: "application/grpc-web-text" };
const encoded = base64(framed("hello"));

const calls: Readonly<Record<string, WebCall>> = {
  "a message": { headers: binary, parts: [framed("hello")] },
  "a message in two parts": { headers: binary, parts: [framed("hello").slice(0, 3), framed("hello").slice(3)] },
  "with a length": { headers: { ...binary, "content-length": "10" }, parts: [framed("hello")] },
  "with +proto": { headers: { "content-type": "application/grpc-web+proto" }, parts: [framed("hello")] },
  "a message as text": { headers: text, parts: [encoded] },
  "a message as text, in odd parts": { headers: text, parts: [encoded.slice(0, 3), encoded.slice(3, 9), encoded.slice(9)] },
  "text for a binary answer": { headers: { "content-type": "application/grpc-web-text" }, parts: [encoded] },
  "binary for an answer as text": { headers: { ...binary, accept: "application/grpc-web-text+proto" }, parts: [framed("hello")] },
  "several messages as text": { path: "/test.Echo/ServerStream", headers: text, parts: [base64(framed("3"))] },
  "a failure behind headers": { headers: { ...binary, "x-do": "fail 9" }, parts: [framed("x")] },
  "a failure without anything before": { headers: { ...binary, "x-do": "fail 5.0" }, parts: [framed("x")] },
  "a failure as text": { headers: { ...text, "x-do": "fail 9" }, parts: [base64(framed("x"))] },
  "no such method": { path: "/test.Echo/Nothing", headers: binary, parts: [framed("x")] },
  "what is no base64": { headers: text, parts: ["!!!!"] },
  "plain gRPC goes as it is": { headers: { "content-type": "application/grpc", te: "trailers" }, parts: [framed("hello")] },
  "another type": { headers: { "content-type": "text/plain" }, parts: ["x"] },
};

describe.skipIf(!envoyBinary)("gRPC-Web, beside Envoy", () => {
  const stack = new AsyncDisposableStack();
  const ports = new Map<string, number>();

  beforeAll(async () => {
    await Promise.all(
      proxies.map(async ({ name, start }) => {
        const server = stack.use(new EchoServer());
        const proxy = stack.use(await start(bootstrap(await server.listen())));
        ports.set(name, await proxy.listenerPort("in"));
      }),
    );
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  it.each(Object.keys(calls))("%s", async (name) => {
    const [theirs, ours] = await Promise.all(proxies.map(({ name: side }) => call(ports.get(side)!, calls[name]!)));
    expect(ours).toEqual(theirs);
  });

  it("answers with the message, and with the status as the last one", async () => {
    const answer = (await call(ports.get("topsail")!, calls["a message"]!)) as { readonly body: string };
    expect(answer.body.startsWith(framed("hello"))).toBe(true);
    expect(answer.body).toContain("grpc-status:0\r\n");
  });
});

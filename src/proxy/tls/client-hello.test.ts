import { once } from "node:events";
import * as net from "node:net";
import * as tls from "node:tls";
import { describe, expect, it } from "vitest";
import { inspectClientHello } from "./client-hello.ts";

/** The first bytes of a real client. */
async function hello(options: tls.ConnectionOptions): Promise<Buffer> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = tls.connect({ port: (server.address() as net.AddressInfo).port, host: "127.0.0.1", ...options });
  client.on("error", () => {});
  const [socket] = (await once(server, "connection")) as [net.Socket];
  socket.on("error", () => {});
  const [bytes] = (await once(socket, "data")) as [Buffer];
  socket.destroy();
  client.destroy();
  server.close();
  return bytes;
}

describe("inspectClientHello", () => {
  it("reads name and protocols of a real hello, byte by byte", async () => {
    const bytes = await hello({ servername: "Foo.Example", ALPNProtocols: ["h2", "http/1.1"] });
    for (let length = 0; length < bytes.length; length++) expect(inspectClientHello(bytes.subarray(0, length)).kind).toBe("more");
    expect(inspectClientHello(bytes)).toMatchObject({ kind: "tls", hello: { serverName: "foo.example", alpn: ["h2", "http/1.1"] } });
  });

  it("reads a hello without name", async () => {
    expect(inspectClientHello(await hello({}))).toMatchObject({ kind: "tls", hello: { serverName: "", alpn: [] } });
  });

  it("joins a hello that is spread over records", async () => {
    const bytes = await hello({ servername: "foo.example" });
    const payload = bytes.subarray(5);
    const record = (part: Buffer) => Buffer.concat([Buffer.from([22, 3, 1, part.length >> 8, part.length & 255]), part]);
    const spread = Buffer.concat([record(payload.subarray(0, 3)), record(payload.subarray(3, 50)), record(payload.subarray(50))]);
    expect(inspectClientHello(spread)).toMatchObject({ kind: "tls", hello: { serverName: "foo.example", alpn: [] } });
  });

  it("tells what the client can do", async () => {
    const found = inspectClientHello(
      await hello({ maxVersion: "TLSv1.2", requestOCSP: true, sigalgs: "ECDSA+SHA256", ecdhCurve: "P-384" }),
    );
    expect(found).toMatchObject({
      hello: {
        namesVersions: false,
        takesTickets: true,
        wantsStaple: true,
        groups: Buffer.from("0018", "hex"),
        signatureSchemes: Buffer.from("0403", "hex"),
      },
    });
    expect(inspectClientHello(await hello({}))).toMatchObject({ hello: { namesVersions: true, wantsStaple: false } });
  });

  it("tells what is no TLS at once", () => {
    expect(inspectClientHello(Buffer.from("GET")).kind).toBe("none");
    expect(inspectClientHello(Buffer.from([22, 3, 1, 0, 4, 2, 0, 0, 0])).kind).toBe("none");
    expect(inspectClientHello(Buffer.from([22, 3, 1, 0, 6, 1, 0, 0, 2, 3, 3])).kind).toBe("none");
  });
});

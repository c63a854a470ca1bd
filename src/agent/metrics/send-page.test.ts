import { createServer, get, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { gunzipSync } from "node:zlib";
import { afterEach, describe, expect, it } from "vitest";
import { sendPage, takesGzip } from "./send-page.ts";

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function serve(parts: () => AsyncGenerator<Buffer, void>, onSent: (sent: Promise<void>) => void = () => undefined): Promise<number> {
  const server = createServer((request, response) => {
    onSent(sendPage(response, "text/plain", parts(), takesGzip(request.headers["accept-encoding"])));
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

function ask(port: number, encoding: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    get({ port, headers: { "accept-encoding": encoding }, agent: false }, resolve).once("error", reject);
  });
}

async function fetched(port: number, encoding: string): Promise<{ readonly headers: IncomingMessage["headers"]; readonly body: Buffer }> {
  const answer = await ask(port, encoding);
  return { headers: answer.headers, body: Buffer.concat(await Array.fromAsync(answer)) };
}

const short = async function* () {
  yield Buffer.from("a 1\n");
};
const line = Buffer.from("metric 1\n".repeat(1000));
const long = async function* () {
  for (let part = 0; part < 100; part++) yield line;
};

describe("sendPage", () => {
  it("sends a short page with its length, and a long one as it comes", async () => {
    expect(await fetched(await serve(short), "")).toMatchObject({ headers: { "content-length": "4" }, body: Buffer.from("a 1\n") });
    const { headers, body } = await fetched(await serve(long), "");
    expect(headers).toMatchObject({ "transfer-encoding": "chunked", vary: "accept-encoding" });
    expect(body.equals(Buffer.concat(Array.from({ length: 100 }, () => line)))).toBe(true);
  });

  it("packs what is long enough if the client takes that", async () => {
    expect((await fetched(await serve(short), "gzip")).headers["content-encoding"]).toBeUndefined();
    expect((await fetched(await serve(long), "gzip;q=0")).headers["content-encoding"]).toBeUndefined();
    const { headers, body } = await fetched(await serve(long), "br, gzip;q=0.5");
    expect(headers["content-encoding"]).toBe("gzip");
    expect(gunzipSync(body).length).toBe(100 * line.length);
  });

  it("leaves the parts when the client goes away", async () => {
    for (const encoding of ["", "gzip"]) {
      let isLeft = false;
      const sending = Promise.withResolvers<Promise<void>>();
      const endless = async function* () {
        try {
          for (;;) yield line;
        } finally {
          isLeft = true;
        }
      };
      const answer = await ask(await serve(endless, sending.resolve), encoding);
      answer.destroy();
      await await sending.promise;
      expect(isLeft).toBe(true);
    }
  });

  it("says what went wrong with a part", async () => {
    const outcome = Promise.withResolvers<unknown>();
    const broken = async function* () {
      yield* long();
      throw new Error("broken");
    };
    const port = await serve(broken, (sent) => void sent.catch(outcome.resolve));
    await expect(fetched(port, "")).rejects.toThrow("aborted");
    expect(await outcome.promise).toMatchObject({ message: "broken" });
  });
});

import { once } from "node:events";
import * as http2 from "node:http2";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { HpackDecoder } from "./hpack-decoder.ts";
import { HpackEncoder } from "./hpack-encoder.ts";
import { decodeHuffman } from "./huffman.ts";

const hex = (text: string) => Buffer.from(text.replaceAll(/\s/g, ""), "hex");
const roomy = 1 << 20;

function decode(decoder: HpackDecoder, block: Buffer): string[] {
  const headers: string[] = [];
  expect(decoder.decode(block, headers, roomy)).toBe("ok");
  return headers;
}

/** RFC 7541, appendix C. */
describe("HpackDecoder", () => {
  it("reads requests without Huffman's code (C.3)", () => {
    const decoder = new HpackDecoder();
    const first = [":method", "GET", ":scheme", "http", ":path", "/", ":authority", "www.example.com"];
    expect(decode(decoder, hex("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d"))).toEqual(first);
    expect(decode(decoder, hex("8286 84be 5808 6e6f 2d63 6163 6865"))).toEqual([...first, "cache-control", "no-cache"]);
    expect(decode(decoder, hex("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65"))).toEqual([
      ...[":method", "GET", ":scheme", "https", ":path", "/index.html", ":authority", "www.example.com"],
      ...["custom-key", "custom-value"],
    ]);
  });

  it("reads responses with Huffman's code, and forgets what does not fit (C.6)", () => {
    const decoder = new HpackDecoder(256);
    expect(
      decode(
        decoder,
        hex(
          "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        ),
      ),
    ).toEqual([
      ...[":status", "302", "cache-control", "private", "date", "Mon, 21 Oct 2013 20:13:21 GMT"],
      ...["location", "https://www.example.com"],
    ]);
    expect(decode(decoder, hex("4883 640e ffc1 c0bf"))).toEqual([
      ...[":status", "307", "cache-control", "private", "date", "Mon, 21 Oct 2013 20:13:21 GMT"],
      ...["location", "https://www.example.com"],
    ]);
  });

  it.each([
    ["an index that is nothing", "80"],
    ["an index beyond the table", "c0"],
    ["an integer without an end", "ff ff ff ff ff ff ff"],
    ["an integer that is cut off", "ff"],
    ["a string that is cut off", "40 0a 63"],
    ["a name without a value", "40 01 61"],
    ["a table larger than allowed", "3f e2 1f"],
    ["a new table size after a field", "82 20"],
    ["the end of Huffman's code within a string", "40 84 ff ff ff ff 00"],
    ["padding of a whole byte", "00 82 1f ff 00"],
    ["padding of zeros", "00 81 10 00"],
  ])("refuses %s", (_, block) => {
    expect(new HpackDecoder().decode(hex(block), [], roomy)).toBe("compressionError");
  });

  it("reads a list that is too long to its end, and keeps no more than is allowed", () => {
    const decoder = new HpackDecoder();
    const headers: string[] = [];
    expect(decoder.decode(hex("40 01 61 01 62 40 01 63 01 64"), headers, 40)).toBe("tooLarge");
    expect(headers).toEqual(["a", "b"]);
    expect(decode(decoder, hex("be bf"))).toEqual(["c", "d", "a", "b"]);
  });

  it("survives 20,000 blocks of garbage", () => {
    for (let round = 0; round < 20_000; round++) {
      const block = Buffer.from(Array.from({ length: 1 + (round % 60) }, () => Math.floor(Math.random() * 256)));
      new HpackDecoder().decode(block, [], 4096);
    }
  });
});

describe("HpackEncoder", () => {
  it("is read by our decoder, whatever the values, as long as the connection lives", () => {
    const [encoder, decoder] = [new HpackEncoder(), new HpackDecoder()];
    const values = Array.from({ length: 256 }, (_, index) => String(index));
    for (let round = 0; round < 2_000; round++) {
      const headers = [
        ...["server", "istio-envoy", "content-length", String(round)],
        ...["x-a", values[round % 7]!, "x-b", "b".repeat(round % 300), "set-cookie", `s=${round}`],
        ...["content-type", round % 2 ? "text/html" : "application/json", `x-${round % 40}`, "y".repeat((round * 37) % 1500)],
      ];
      const block = Buffer.from(encoder.response(round % 3 ? 200 : 418, headers), "latin1");
      expect(decode(decoder, block)).toEqual([":status", round % 3 ? "200" : "418", ...headers]);
    }
  });

  it("needs a byte for a field that is as it was before", () => {
    const encoder = new HpackEncoder();
    const headers = ["server", "istio-envoy", "content-type", "text/html"];
    encoder.response(200, headers);
    expect(encoder.response(200, headers).length).toBe(3);
  });

  it("announces a smaller table, and keeps to it", () => {
    const [encoder, decoder] = [new HpackEncoder(), new HpackDecoder()];
    encoder.response(200, ["a", "b"]);
    encoder.setTableLimit(0);
    expect(decode(decoder, Buffer.from(encoder.response(200, ["a", "b"]), "latin1"))).toEqual([":status", "200", "a", "b"]);
    expect(encoder.response(200, ["a", "b"]).length).toBeGreaterThan(3);
  });
});

describe("HpackEncoder whose table is made smaller and larger again", () => {
  it("says both before the next block, once", () => {
    const encoder = new HpackEncoder();
    encoder.response(200, ["a", "b"]);
    encoder.setTableLimit(0);
    encoder.setTableLimit(4096);
    expect(Buffer.from(encoder.response(200, []), "latin1").toString("hex")).toBe("20" + "3fe11f" + "88");
    expect(Buffer.from(encoder.response(200, []), "latin1").toString("hex")).toBe("88");
  });
});

describe("decodeHuffman", () => {
  it("reads what Node's client writes, each byte that a header may have", async () => {
    const value = Buffer.from(Array.from({ length: 0x5e }, (_, index) => 0x21 + index)).toString("latin1");
    const raw = createServer();
    await new Promise<void>((resolve) => raw.listen(0, "127.0.0.1", resolve));
    const client = http2.connect(`http://127.0.0.1:${(raw.address() as AddressInfo).port}`);
    client.on("error", () => {});
    client.request({ ":path": "/", "x-all": value }).on("error", () => {});
    const [socket] = (await once(raw, "connection")) as [Socket];
    const headers = await new Promise<string[]>((resolve) => {
      let bytes = Buffer.alloc(0);
      socket.on("data", (chunk: Buffer) => {
        bytes = Buffer.concat([bytes, chunk]);
        for (let at = 24; at + 9 <= bytes.length; at += 9 + bytes.readUIntBE(at, 3)) {
          const end = at + 9 + bytes.readUIntBE(at, 3);
          if (bytes[at + 3] === 1 && end <= bytes.length) resolve(decode(new HpackDecoder(), bytes.subarray(at + 9, end)));
        }
      });
    });
    client.destroy();
    socket.destroy();
    raw.close();
    expect(headers[headers.indexOf("x-all") + 1]).toBe(value);
  });

  it("knows symbols that no text has", () => {
    // 30 bits of the line feed, then padding.
    expect(decodeHuffman(hex("ff ff ff f3"), 0, 4)).toBe("\n");
  });
});

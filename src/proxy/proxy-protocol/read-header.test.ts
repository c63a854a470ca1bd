import { describe, expect, it } from "vitest";
import { binaryHeader, ipv6Addresses } from "../../../test/support/proxy-header.ts";
import { readProxyHeader } from "./read-header.ts";

const strict = { isOptional: false, takesText: true, takesBinary: true };
const read = (text: string, terms = strict) => readProxyHeader(Buffer.from(text, "latin1"), terms);
const addresses = { sourceIp: "10.1.2.3", sourcePort: 1111, destinationIp: "10.9.8.7", destinationPort: 2222 };
const text = "PROXY TCP4 10.1.2.3 10.9.8.7 1111 2222\r\n";
const binary = binaryHeader({
  tlvs: [
    [1, "h2"],
    [0xea, "vpce"],
  ],
});

describe("a PROXY header", () => {
  it.each([
    ["text", text, { version: 1, addresses, tlvs: [] }],
    [
      "binary",
      binary,
      {
        version: 2,
        addresses,
        tlvs: [
          { type: 1, value: Buffer.from("h2") },
          { type: 0xea, value: Buffer.from("vpce") },
        ],
      },
    ],
    ["LOCAL", binaryHeader({ command: 0x20, rest: "whatever" }), { version: 2, addresses: null, tlvs: [] }],
    [
      "IPv6",
      binaryHeader({ family: 0x21, addresses: ipv6Addresses([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7], [0, 0, 0, 0, 0, 0, 0, 1]) }),
      { version: 2, addresses: { sourceIp: "2001:db8::7", sourcePort: 1111, destinationIp: "::1", destinationPort: 2222 }, tlvs: [] },
    ],
  ])("of %s is read, whatever follows, and waited for byte by byte", (_, bytes, header) => {
    for (const rest of ["", "G", "\r\n", "GET / HTTP/1.1\r\n\r\n"]) {
      expect(read(bytes + rest)).toEqual({ kind: "found", header: { ...header, length: bytes.length } });
    }
    for (let length = 1; length < bytes.length; length++) {
      expect(read(bytes.slice(0, length)), `${length} bytes`).toEqual({ kind: "more" });
      expect(read(bytes.slice(0, length), { ...strict, isOptional: true }), `${length} bytes`).toEqual({ kind: "more" });
    }
  });

  it("is of a version that may be disallowed, or absent where it may be", () => {
    expect(read(text, { ...strict, takesText: false })).toEqual({ kind: "disallowed", version: 1 });
    expect(read(binary, { ...strict, takesBinary: false })).toEqual({ kind: "disallowed", version: 2 });
    expect(read(binary, { isOptional: true, takesText: true, takesBinary: false })).toEqual({ kind: "absent" });
    expect(read("GET", { ...strict, isOptional: true })).toEqual({ kind: "absent" });
  });

  it("is never taken out of what was changed at random without saying so in its length", () => {
    let state = 7;
    const random = (below: number) => {
      state = (state * 48_271) % 0x7fff_ffff;
      return state % below;
    };
    for (const good of [text, binary]) {
      for (let round = 0; round < 5000; round++) {
        const bytes = Buffer.from(good, "latin1");
        for (let changes = 1 + random(3); changes > 0; changes--) bytes[random(bytes.length)] = random(256);
        const reading = readProxyHeader(bytes, strict);
        if (reading.kind === "found") expect(reading.header.length).toBeLessThanOrEqual(bytes.length);
      }
    }
  });
});

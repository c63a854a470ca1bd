import { describe, expect, it } from "vitest";
import { Query } from "./query.ts";

const bytes = (hex: string) => Buffer.from(hex.replace(/\s+/g, ""), "hex");
/** www.example.com A IN, id 1234, recursion desired. */
const head = "1234 0100 0001 0000 0000 0000";
const name = "03777777 076578616d706c65 03636f6d 00";
const plain = `${head} ${name} 0001 0001`;
const opt = (size: string, ttl = "00000000", data = "0000") => `00 0029 ${size} ${ttl} ${data}`;
const withOne = (record: string) => `${plain.replace("0000 0000 0000 03", "0000 0000 0001 03")} ${record}`;

function read(hex: string): { reading: string; query: Query } {
  const query = new Query();
  return { reading: query.read(bytes(hex)), query };
}

describe("Query", () => {
  it("reads name, type and class, the name in lower case", () => {
    const { reading, query } = read(plain.replace("777777", "775777").replace("65786170", "45584150"));
    expect(reading).toBe("query");
    expect(query).toMatchObject({
      name: "\x03www\x07example\x03com\0",
      type: 1,
      class: 1,
      questionEnd: 33,
      maxUdpBytes: 512,
      hasEdns: false,
    });
  });

  it("reads the root, and labels of any bytes", () => {
    expect(read(`${head} 00 0002 0001`).query).toMatchObject({ name: "\0", type: 2, questionEnd: 17 });
    expect(read(`${head} 03 002eff 00 0001 0001`).query.name).toBe("\x03\0.\xff\0");
  });

  it("reads the client's size, and nothing below 512", () => {
    expect(read(withOne(opt("1000"))).query).toMatchObject({ maxUdpBytes: 4096, hasEdns: true, wantsDnssec: false });
    expect(read(withOne(opt("0010"))).query.maxUdpBytes).toBe(512);
    expect(read(withOne(opt("1000", "00008000"))).query.wantsDnssec).toBe(true);
    expect(read(withOne(opt("1000", "00000000", "0008 000a 0004 01020304"))).reading).toBe("query");
  });

  it("forgets the last one", () => {
    const query = new Query();
    query.read(bytes(withOne(opt("1000", "00008000"))));
    expect(query.read(bytes(plain))).toBe("query");
    expect(query).toMatchObject({ maxUdpBytes: 512, hasEdns: false, wantsDnssec: false });
  });

  it.each([
    ["nothing", ""],
    ["less than a header", "1234 0100 0001 0000 0000 00"],
    ["an answer", plain.replace("0100", "8180")],
  ])("passes over %s", (_, hex) => {
    expect(read(hex).reading).toBe("ignore");
  });

  const formatError = 1;
  it.each([
    ["a header alone", head, formatError],
    ["no question", "1234 0100 0000 0000 0000 0000", formatError],
    ["two questions", `${plain.replace("0001 0000", "0002 0000")} ${name} 0001 0001`, formatError],
    ["an answer record", plain.replace("0001 0000 0000", "0001 0001 0000"), formatError],
    ["three additional records", plain.replace("0000 0000 0000 03", "0000 0000 0003 03"), formatError],
    ["a name without end", `${head} 03777777 07657861`, formatError],
    ["a name without type", `${head} ${name} 0001`, formatError],
    ["a pointer for a name", `${head} c00c 0001 0001`, formatError],
    ["a pointer within a name", `${head} 03777777 c00c 0001 0001`, formatError],
    ["a label of a kind that is none", `${head} 43777777 00 0001 0001`, formatError],
    ["a name of 256 bytes", `${head} ${`3f${"61".repeat(63)}`.repeat(3)}3e${"61".repeat(62)} 00 0001 0001`, formatError],
    ["bytes behind the end", `${plain} 00`, formatError],
    ["an additional record that is not there", withOne(""), formatError],
    ["data that ends behind the packet", withOne(opt("1000", "00000000", "0001")), formatError],
    ["EDNS under a name", withOne(`01 61 ${opt("1000")}`), formatError],
    ["EDNS of another version", withOne(opt("1000", "00010000")), 16],
    ["an update", plain.replace("0100", "2900"), 4],
  ])("refuses %s", (_, hex, code) => {
    const { reading, query } = read(hex);
    expect(reading).toBe("refuse");
    expect(query.refusal).toBe(code);
  });

  it("takes the longest name there is", () => {
    const longest = `${`3f${"61".repeat(63)}`.repeat(3)}3d${"61".repeat(61)} 00`;
    expect(read(`${head} ${longest} 0001 0001`).query.questionEnd).toBe(12 + 255 + 4);
  });

  it("refuses EDNS twice", () => {
    expect(read(`${plain.replace("0000 0000 0000 03", "0000 0000 0002 03")} ${opt("1000")} ${opt("1000")}`).reading).toBe("refuse");
  });
});

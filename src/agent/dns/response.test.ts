import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { decodeResponse, encodeQuery, type QueryInit } from "../../../test/support/dns-client.ts";
import { NameTableSchema } from "../../api/gen/istio/networking/nds/v1/nds_pb.js";
import { LookupTable } from "./lookup-table.ts";
import { rcode } from "./protocol.ts";
import { Query } from "./query.ts";
import { addressResponse, emptyResponse } from "./response.ts";

const table = (ips: readonly string[], host = "a.test") =>
  new LookupTable(
    create(NameTableSchema, { table: { [host]: { ips: [...ips], registry: "External" } } }),
    { namespace: "ns", domain: "svc.d" },
    "corp.test",
  );

function answer(name: string, ips: readonly string[], init: QueryInit = {}, maxBytes = 512): Buffer {
  const packet = encodeQuery(name, init);
  const query = new Query();
  expect(query.read(packet)).toBe("query");
  return addressResponse(packet, query, table(ips).find(query.name)!, maxBytes);
}

const hex = (bytes: Buffer) => bytes.toString("hex");
const spaceless = (text: string) => text.replace(/\s+/g, "");

describe("addressResponse", () => {
  it("is a header, the question as it came, and records that point at its name", () => {
    expect(hex(answer("A.test", ["10.1.2.3"]))).toBe(
      spaceless(`1234 8580 0001 0001 0000 0000  0141 0474657374 00 0001 0001
                 c00c 0001 0001 0000001e 0004 0a010203`),
    );
    expect(hex(answer("a.test", ["10.1.2.3", "2001:db8::ff00:42:8329"], { type: "AAAA" }))).toBe(
      spaceless(`1234 8580 0001 0001 0000 0000  0161 0474657374 00 001c 0001
                 c00c 001c 0001 0000001e 0010 20010db8000000000000ff0000428329`),
    );
  });

  it("answers EDNS by EDNS, with a size of its own", () => {
    expect(hex(answer("a.test", ["10.1.2.3"], { edns: 4096 }))).toBe(
      spaceless(`1234 8580 0001 0001 0000 0001  0161 0474657374 00 0001 0001
                 c00c 0001 0001 0000001e 0004 0a010203  00 0029 04d0 00 00 0000 0000`),
    );
  });

  it("leads from the search domain's form to the name by a CNAME, and gives the addresses under that", () => {
    expect(hex(answer("a.test.corp.test", ["10.1.2.3"]))).toBe(
      spaceless(`1234 8580 0001 0002 0000 0000  0161 0474657374 04636f7270 0474657374 00 0001 0001
                 c00c 0005 0001 0000001e 0008 0161 0474657374 00
                 c02e 0001 0001 0000001e 0004 0a010203`),
    );
    expect(decodeResponse(answer("a.test.corp.test", ["10.1.2.3"])).answers).toEqual([
      "a.test.corp.test. 30 CNAME a.test.",
      "a.test. 30 A 10.1.2.3",
    ]);
  });

  it("is empty, and no error, for a name that has addresses of the other family alone", () => {
    expect(decodeResponse(answer("a.test", ["10.1.2.3"], { type: "AAAA" }))).toMatchObject({
      code: "NOERROR",
      flags: "qr aa rd ra",
      answers: [],
    });
    expect(decodeResponse(answer("a.test.corp.test", ["fd00::1"]))).toMatchObject({ code: "NOERROR", answers: [] });
  });

  const many = Array.from({ length: 64 }, (_, index) => `240.0.0.${index}`);

  it("holds as many addresses as the client takes, and says when there are more", () => {
    const cut = answer("a.test", many);
    const decoded = decodeResponse(cut);
    expect(cut.length).toBeLessThanOrEqual(512);
    expect(decoded.flags).toBe("qr aa tc rd ra");
    expect(decoded.answers).toHaveLength(Math.floor((512 - 24) / 16));
    expect(decodeResponse(answer("a.test", many, { edns: 600 }, 600)).answers).toHaveLength(Math.floor((600 - 24 - 11) / 16));
    expect(decodeResponse(answer("a.test", many, { edns: 600 }, 600)).edns).toBe(1232);
    expect(decodeResponse(answer("a.test", many, {}, 65535))).toMatchObject({ flags: "qr aa rd ra" });
    expect(decodeResponse(answer("a.test", many, {}, 65535)).answers).toHaveLength(64);
  });

  it("gives up all records where the CNAME alone is too long", () => {
    const label = "x".repeat(60);
    const host = `${label}.${label}.${label}.test`;
    const packet = encodeQuery(`${host}.corp.test`);
    const query = new Query();
    query.read(packet);
    const made = addressResponse(packet, query, table(many, host).find(query.name)!, 400);
    expect(decodeResponse(made)).toMatchObject({ flags: "qr aa tc rd ra", answers: [] });
    expect(made.length).toBeLessThanOrEqual(400);
  });

  it("gives all addresses, each first once in a while", () => {
    const firsts = new Set<string>();
    for (let round = 0; round < 200; round++) {
      const { answers } = decodeResponse(answer("a.test", ["10.0.0.1", "10.0.0.2", "10.0.0.3"]));
      expect([...answers].sort()).toEqual(["a.test. 30 A 10.0.0.1", "a.test. 30 A 10.0.0.2", "a.test. 30 A 10.0.0.3"]);
      firsts.add(answers[0]!);
    }
    expect(firsts.size).toBe(3);
  });

  it("gives the same address not twice when there is no room for all", () => {
    for (let round = 0; round < 50; round++) {
      const { answers } = decodeResponse(answer("a.test", many));
      expect(new Set(answers).size).toBe(answers.length);
    }
  });
});

describe("emptyResponse", () => {
  it("keeps the client's id and wish for recursion, and shows the question where it could be read", () => {
    const packet = encodeQuery("a.test", { edns: 4096 });
    const query = new Query();
    query.read(packet);
    expect(decodeResponse(emptyResponse(packet, query, rcode.serverFailure))).toMatchObject({
      id: 0x1234,
      code: "SERVFAIL",
      flags: "qr rd ra",
      question: "a.test. A",
      edns: 1232,
    });
    expect(decodeResponse(emptyResponse(packet, query, rcode.badVersion)).code).toBe("BADVERS");
    const broken = packet.subarray(0, 14);
    query.read(broken);
    expect(hex(emptyResponse(broken, query, rcode.formatError))).toBe(spaceless("1234 8181 0000 0000 0000 0000"));
  });
});

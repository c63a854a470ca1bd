import * as crypto from "node:crypto";
import { describe, expect, it } from "vitest";
import { parseJwks } from "./jwks.ts";
import { checkTime, type Jwt, parseJwt } from "./jwt.ts";
import { type JwtStatus, jwtStatus } from "./status.ts";
import { decodeBase64Url, parseStrictObject } from "./strict-json.ts";
import { verifySignature } from "./verify-signature.ts";

const encode = (text: string) => Buffer.from(text, "latin1").toString("base64url");
const token = (header: string, payload = "{}", signature = "AAAA") => `${encode(header)}.${encode(payload)}.${signature}`;
const hs256 = '{"alg":"HS256"}';

function parsed(text: string): Jwt {
  const jwt = parseJwt(text);
  if ("text" in jwt) throw new Error(jwt.text);
  return jwt;
}

/** Numbers that are the same in every run. */
function randomBytes(seed: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

const ed = crypto.generateKeyPairSync("ed25519");
const p256 = crypto.generateKeyPairSync("ec", { namedCurve: "P-256" });
const p384 = crypto.generateKeyPairSync("ec", { namedCurve: "P-384" });
const rsa = crypto.generateKeyPairSync("rsa", { modulusLength: 2048 });
const jwkOf = (key: crypto.KeyObject, more: object = {}) => ({ ...key.export({ format: "jwk" }), ...more });
const setOf = (...jwks: object[]) => {
  const keys = parseJwks(Buffer.from(JSON.stringify({ keys: jwks })));
  if (typeof keys === "string") throw new Error(keys);
  return keys;
};
const allKeys = setOf(jwkOf(ed.publicKey), jwkOf(p256.publicKey), jwkOf(p384.publicKey), jwkOf(rsa.publicKey), {
  kty: "oct",
  k: "c2VjcmV0",
});
const verdict = (jwt: Jwt, keys = allKeys) => new Promise<JwtStatus>((resolve) => verifySignature(jwt, keys, resolve));

function signed(alg: string, key: crypto.KeyObject, payload = '{"iss":"me"}', header: object = {}): string {
  const text = `${encode(JSON.stringify({ alg, ...header }))}.${encode(payload)}`;
  const options = { key, ...(key.asymmetricKeyType === "ec" && { dsaEncoding: "ieee-p1363" as const }) };
  return `${text}.${crypto.sign(alg === "EdDSA" ? null : `sha${alg.slice(2)}`, Buffer.from(text), options).toString("base64url")}`;
}

describe("parseJwt", () => {
  it("takes a token apart", () => {
    const jwt = parsed(token('{"alg":"RS256","kid":"k"}', '{"iss":"a","sub":"b","aud":["x","y"],"exp":7.9,"nbf":3}', "_-8"));
    expect(jwt).toMatchObject({ alg: "RS256", kid: "k", iss: "a", sub: "b", audiences: ["x", "y"], exp: 7, nbf: 3 });
    expect(jwt.signature).toEqual(Buffer.from([0xff, 0xef]));
    expect(jwt.signed).toBe(`${encode('{"alg":"RS256","kid":"k"}')}.${jwt.payloadText}`);
  });

  it("never throws and never takes garbage for a token", () => {
    for (let seed = 1; seed <= 2000; seed++) {
      const bytes = randomBytes(seed, seed % 97);
      const part = bytes.toString("base64url");
      for (const text of [
        bytes.toString("latin1"),
        `${part}.${part}.${part}`,
        `${encode(hs256)}.${part}.${part}`,
        token(bytes.toString("latin1")),
      ]) {
        const result = parseJwt(text);
        // What happens to be JSON without claims may pass; its bytes then are an object's.
        if (!("text" in result)) expect(result.algorithm).toBeDefined();
      }
    }
  });

  it("survives every single change of a good token, and no change passes for good", async () => {
    const good = signed("ES256", p256.privateKey);
    expect(await verdict(parsed(good))).toBe(jwtStatus.ok);
    const last = good.length - 1;
    for (let at = 0; at < good.length; at++) {
      for (const replacement of ["", "A", ".", "\0", "ÿ"]) {
        const changed = good.slice(0, at) + replacement + good.slice(at + 1);
        // The last character has bits that are no byte's; two dots are as good as one.
        if (changed === good || (at === last && replacement !== "")) continue;
        const jwt = parseJwt(changed);
        if (!("text" in jwt)) expect([await verdict(jwt), changed]).not.toEqual([jwtStatus.ok, changed]);
      }
    }
  });

  it("refuses huge tokens as fast as small ones", () => {
    const started = performance.now();
    for (const text of [
      ".".repeat(1_000_000),
      "a.".repeat(500_000),
      `${"A".repeat(1_000_000)}.b.c`,
      token("[".repeat(100_000)),
      token(hs256, `{"a":${"[".repeat(50_000)}${"]".repeat(50_000)}}`),
    ]) {
      expect("text" in parseJwt(text)).toBe(true);
    }
    expect(performance.now() - started).toBeLessThan(2000);
  });

  it.each([
    ["a number for iss", '{"iss":1}', jwtStatus.badIss],
    ["null for sub", '{"sub":null}', jwtStatus.badSub],
    ["text for exp", '{"exp":"1"}', jwtStatus.badExp],
    ["true for nbf", '{"nbf":true}', jwtStatus.badNbf],
    ["a negative iat", '{"iat":-1}', jwtStatus.iatOutOfRange],
    ["an exp of 2^64", '{"exp":18446744073709551616}', jwtStatus.expOutOfRange],
    ["an object for aud", '{"aud":{}}', jwtStatus.badAud],
    ["a list in aud", '{"aud":[[]]}', jwtStatus.badAud],
    ["a list for jti", '{"jti":[]}', jwtStatus.badJti],
    ["claims by a prototype", '{"__proto__":{"iss":"a"}}', undefined],
  ])("judges %s", (_name, payload, status) => {
    const jwt = parseJwt(token(hs256, payload));
    if (status) expect(jwt).toBe(status);
    else expect(jwt).toMatchObject({ iss: "", sub: "" });
  });

  it("knows when a token is in force", () => {
    const jwt = parsed(token(hs256, '{"nbf":100,"exp":200}'));
    expect([39, 40, 260, 261].map((now) => checkTime(jwt, now, 60).text)).toEqual(["Jwt not yet valid", "OK", "OK", "Jwt is expired"]);
    expect(checkTime(parsed(token(hs256)), 1e12, 0)).toBe(jwtStatus.ok);
  });
});

describe("parseStrictObject", () => {
  const parse = (text: string) => parseStrictObject(Buffer.from(text, "latin1"));

  it.each([
    '{"a":1,"a":2}',
    '{"a":{"b":1,"\\u0062":2}}',
    "[]",
    '"a"',
    "1",
    "",
    "{",
    '{"a":1}x',
    '{"a":1e999}',
    '{"a":"\\ud800"}',
    '{"\\udc00":1}',
    '{"a":"\xff"}',
    "{'a':1}",
    '{"a":1,}',
    '{"a":NaN}',
    "\xef\xbb\xbf{}",
  ])("refuses %s", (text) => expect(parse(text)).toBeNull());

  it.each(['{"a":"x:\\"y\\":z\\\\"}', '{"a:b":[{"c":":"},{"c":1}]}', ' { "a" : { } } ', '{"":"","__proto__":1}'])("takes %s", (text) =>
    expect(JSON.stringify(parse(text))).toBe(JSON.stringify(JSON.parse(text))),
  );

  it("takes a hundred levels and no more", () => {
    const nested = (levels: number) => `{"a":${"[".repeat(levels - 1)}${"]".repeat(levels - 1)}}`;
    expect(parse(nested(100))).not.toBeNull();
    expect(parse(nested(101))).toBeNull();
  });
});

describe("decodeBase64Url", () => {
  it.each([
    ["AAEC", "000102"],
    ["_-8", "ffef"],
    ["_-8=", "ffef"],
    ["_w==", "ff"],
    ["_w", "ff"],
    ["_x", "ff"],
    ["A A\tE\nC", "000102"],
    ["", ""],
  ])("reads %j", (text, hex) => expect(decodeBase64Url(text)?.toString("hex")).toBe(hex));

  it.each(["A", "AAAAA", "_w=", "_-8==", "AAEC=", "=", "A=AA", "+A==", "/A", "AA.A", "AA\0A", "ÄÖÜ"])("refuses %j", (text) =>
    expect(decodeBase64Url(text)).toBeNull(),
  );
});

describe("verifySignature", () => {
  it.each([
    ["RS256", rsa.privateKey],
    ["ES256", p256.privateKey],
    ["ES384", p384.privateKey],
    ["EdDSA", ed.privateKey],
  ])("knows whose a token of %s is", async (alg, key) => {
    const jwt = parsed(signed(alg, key));
    expect(
      await verdict(
        jwt,
        allKeys.filter(({ kind }) => (kind === "OKP") === (alg === "EdDSA")),
      ),
    ).toBe(jwtStatus.ok);
    const others = setOf(jwkOf(crypto.generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey));
    expect(await verdict(jwt, others)).toBe(jwtStatus.verificationFailed);
  });

  it.each(["none", "None", "NONE", "", "HS1", "RS", "rs256", "ES256K", "Ed25519", "constructor", "__proto__"])(
    "has no algorithm %j",
    (alg) => expect(parseJwt(token(JSON.stringify({ alg }), "{}", ""))).not.toHaveProperty("algorithm"),
  );

  it("never verifies by a key of another kind, whatever the token calls its algorithm", async () => {
    const byKey = { RSA: rsa.privateKey, EC: p256.privateKey, OKP: ed.privateKey };
    for (const claimed of ["RS256", "PS256", "ES256", "ES384", "HS256", "EdDSA"]) {
      for (const [kind, key] of Object.entries(byKey)) {
        const real = { RSA: "RS256", EC: "ES256", OKP: "EdDSA" }[kind]!;
        if (claimed === real) continue;
        const text = `${encode(JSON.stringify({ alg: claimed }))}.${encode("{}")}`;
        const options = { key, ...(kind === "EC" && { dsaEncoding: "ieee-p1363" as const }) };
        const signature = crypto.sign(real === "EdDSA" ? null : "sha256", Buffer.from(text), options).toString("base64url");
        expect([claimed, kind, (await verdict(parsed(`${text}.${signature}`))).text]).not.toEqual([claimed, kind, "OK"]);
      }
    }
  });

  it("takes no public key for an HMAC's", async () => {
    for (const { publicKey } of [rsa, p256, ed]) {
      for (const format of ["pem", "der"] as const) {
        const secret = publicKey.export({ type: "spki", format } as { type: "spki"; format: "pem" });
        const text = `${encode(hs256)}.${encode("{}")}`;
        const signature = crypto.createHmac("sha256", secret).update(text).digest("base64url");
        expect(await verdict(parsed(`${text}.${signature}`), allKeys.slice(1))).toBe(jwtStatus.verificationFailed);
      }
    }
  });

  it("refuses signatures that are cut, long, of zeros, or another form of the same", async () => {
    const good = signed("ES256", p256.privateKey);
    const [head, body] = good.split(".") as [string, string];
    const signature = parsed(good).signature;
    const [r, s] = [signature.subarray(0, 32), signature.subarray(32)];
    const zero = Buffer.alloc(1);
    const der = crypto.sign("sha256", Buffer.from(`${head}.${body}`), p256.privateKey);
    const keys = setOf(jwkOf(p256.publicKey));
    for (const bytes of [
      signature.subarray(0, 63),
      r,
      Buffer.concat([signature, zero]),
      Buffer.concat([zero, r, zero, s]),
      Buffer.alloc(64),
      Buffer.alloc(10_000),
      der,
      zero,
    ]) {
      expect(await verdict(parsed(`${head}.${body}.${bytes.toString("base64url")}`), keys)).toBe(jwtStatus.verificationFailed);
    }
  });

  it("tries every key of one id, and none of another", async () => {
    const other = crypto.generateKeyPairSync("ec", { namedCurve: "P-256" });
    const jwt = parsed(signed("ES256", p256.privateKey, "{}", { kid: "k" }));
    const [same, wrong] = [jwkOf(p256.publicKey, { kid: "k" }), jwkOf(other.publicKey, { kid: "k" })];
    expect(await verdict(jwt, setOf(wrong, same))).toBe(jwtStatus.ok);
    expect(await verdict(jwt, setOf(wrong, wrong))).toBe(jwtStatus.verificationFailed);
    expect(await verdict(jwt, setOf({ ...same, kid: "other" }))).toBe(jwtStatus.noMatchingKey);
    expect(await verdict(jwt, setOf({ ...same, kid: undefined }))).toBe(jwtStatus.ok);
    expect(await verdict(jwt, [])).toBe(jwtStatus.noMatchingKey);
  });

  it("is done before it returns, but for slow curves", () => {
    let isDone = false;
    const done = () => {
      isDone = true;
    };
    verifySignature(parsed(signed("ES256", p256.privateKey)), setOf(jwkOf(p256.publicKey)), done);
    expect(isDone).toBe(true);
    isDone = false;
    verifySignature(parsed(signed("ES384", p384.privateKey)), setOf(jwkOf(p384.publicKey)), done);
    expect(isDone).toBe(false);
  });
});

describe("parseJwks", () => {
  it("never throws", () => {
    for (let seed = 1; seed <= 500; seed++) {
      const bytes = randomBytes(seed, seed % 200);
      const garbage = bytes.toString("base64url");
      expect(typeof parseJwks(bytes)).toBe("string");
      for (const kty of ["RSA", "EC", "OKP", "oct"]) {
        const key = { kty, n: garbage, e: "AQAB", x: garbage, y: garbage, crv: kty === "OKP" ? "Ed25519" : "P-256", k: garbage };
        parseJwks(Buffer.from(JSON.stringify({ keys: [key] })));
      }
      parseJwks(Buffer.from(JSON.stringify({ a: `-----BEGIN CERTIFICATE-----\n${garbage}\n-----END CERTIFICATE-----\n` })));
    }
  });

  it("keeps the private parts of keys out", () => {
    const keys = setOf(jwkOf(rsa.privateKey), jwkOf(p256.privateKey), jwkOf(ed.privateKey));
    expect(keys.map(({ key }) => key.type)).toEqual(["public", "public", "public"]);
  });
});

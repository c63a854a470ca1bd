import { describe, expect, it } from "vitest";
import type { Jwt } from "./jwt.ts";
import { TokenCache } from "./token-cache.ts";

const jwt = {} as Jwt;

describe("TokenCache", () => {
  it("forgets the token that was used longest ago", () => {
    const cache = new TokenCache(2, 100);
    cache.add("a", jwt);
    cache.add("b", jwt);
    cache.get("a");
    cache.add("c", jwt);
    expect(["a", "b", "c"].filter((token) => cache.get(token) !== undefined)).toEqual(["a", "c"]);
  });

  it("stays within its bounds", () => {
    const cache = new TokenCache(10, 5);
    for (let i = 0; i < 1000; i++) cache.add(String(i), jwt);
    cache.add("123456", jwt);
    expect(cache.size).toBe(10);
    expect(cache.get("123456")).toBeUndefined();
    expect(cache.get("999")).toBe(jwt);
  });
});

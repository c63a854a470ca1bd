import { afterEach, describe, expect, it } from "vitest";
import { samples } from "./index.ts";
import { type SampleOptions, SampleServer } from "./sample.ts";

const running: AsyncDisposable[] = [];
afterEach(async () => {
  for (const server of running.splice(0)) await server[Symbol.asyncDispose]();
});

async function start(app: string, service: string, version = "v1", options: Partial<SampleOptions> = {}): Promise<string> {
  const server = await SampleServer.start(
    samples[app]![service]!.create(),
    { version, workload: `${service}-${version}`, ...options },
    "127.0.0.1",
    0,
  );
  running.push(server);
  return `http://127.0.0.1:${server.port}`;
}

describe("bookinfo", () => {
  it("has details by numeric id", async () => {
    const url = await start("bookinfo", "details");
    expect(await (await fetch(`${url}/details/123`)).json()).toMatchObject({
      id: 123,
      author: "William Shakespeare",
      "ISBN-10": "1234567890",
    });
    expect((await fetch(`${url}/details/abc`)).status).toBe(400);
  });

  it("keeps ratings that are posted, and refuses what is none", async () => {
    const url = await start("bookinfo", "ratings");
    expect(await (await fetch(`${url}/ratings/0`)).json()).toEqual({ id: 0, ratings: { Reviewer1: 5, Reviewer2: 4 } });
    await fetch(`${url}/ratings/0`, { method: "POST", body: '{"Reviewer1": 1}' });
    expect(await (await fetch(`${url}/ratings/0`)).json()).toEqual({ id: 0, ratings: { Reviewer1: 1 } });
    expect((await fetch(`${url}/ratings/0`, { method: "POST", body: "{" })).status).toBe(400);
  });

  it("gives reviews no stars in v1, black ones in v2, red ones in v3", async () => {
    const via = await start("bookinfo", "ratings");
    const stars = async (version: string) => {
      const url = await start("bookinfo", "reviews", version, { via });
      const { reviews } = (await (await fetch(`${url}/reviews/0`)).json()) as { reviews: { rating?: unknown }[] };
      return reviews[0]?.rating;
    };
    expect(await stars("v1")).toBeUndefined();
    expect(await stars("v2")).toEqual({ stars: 5, color: "black" });
    expect(await stars("v3")).toEqual({ stars: 5, color: "red" });
  });

  it("shows a page although a service is gone, and says which", async () => {
    const url = await start("bookinfo", "productpage", "v1", { via: "http://127.0.0.1:9" });
    const page = await (await fetch(`${url}/productpage`)).text();
    expect(page).toContain("product details are currently unavailable");
    expect(page).toContain("product reviews are currently unavailable");
  });

  it("hands the user who signed in on as a header, and shows no markup of theirs", async () => {
    const httpbin = await start("httpbin", "httpbin");
    const url = await start("bookinfo", "productpage", "v1", { via: httpbin });
    const login = await fetch(`${url}/login`, { method: "POST", body: new URLSearchParams({ username: "<b>jason" }), redirect: "manual" });
    expect(login.status).toBe(302);
    const page = await (await fetch(`${url}/productpage`, { headers: { cookie: login.headers.get("set-cookie")!.split(";")[0]! } })).text();
    expect(page).toContain("&lt;b&gt;jason");
    expect(page).not.toContain("<b>jason");
  });
});

describe("httpbin", () => {
  it("says what it was asked", async () => {
    const url = await start("httpbin", "httpbin");
    const answer = (await (
      await fetch(`${url}/anything/x?a=1`, { method: "PUT", body: '{"b":2}', headers: { "x-test": "yes" } })
    ).json()) as Record<string, unknown>;
    expect(answer).toMatchObject({ method: "PUT", args: { a: "1" }, json: { b: 2 } });
    expect((answer.headers as Record<string, string>)["X-Test"]).toBe("yes");
  });

  it("answers with the status that it is told", async () => {
    const url = await start("httpbin", "httpbin");
    expect((await fetch(`${url}/status/418`)).status).toBe(418);
    expect((await fetch(`${url}/status/999`)).status).toBe(400);
    expect((await fetch(`${url}/get`, { method: "POST" })).status).toBe(405);
    expect((await fetch(`${url}/nowhere`)).status).toBe(404);
  });

  it("does not let a client split its response headers", async () => {
    const url = await start("httpbin", "httpbin");
    const answer = await fetch(`${url}/response-headers?x-a=1%0d%0ax-b:2&x-ok=yes`);
    expect(answer.headers.get("x-b")).toBeNull();
    expect(answer.headers.get("x-ok")).toBe("yes");
  });
});

describe("customers and web-frontend", () => {
  it("adds cities in v2", async () => {
    const frontend = async (version: string) =>
      (await fetch(await start("web-frontend", "web-frontend", "v1", { via: await start("customers", "customers", version) }))).text();
    expect(await frontend("v1")).not.toContain("CITY");
    expect(await frontend("v2")).toContain("<th>CITY</th>");
  });
});

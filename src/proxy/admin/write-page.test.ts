import { once } from "node:events";
import { createServer, get, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Writable } from "node:stream";
import { afterEach, describe, expect, it, vi } from "vitest";
import { writePage } from "./write-page.ts";

afterEach(() => vi.restoreAllMocks());

/** Takes one write at a time; the next when it is told to. */
function slowReader() {
  const taken: string[] = [];
  let proceed: (() => void) | undefined;
  const out = new Writable({
    highWaterMark: 1,
    write(chunk: Buffer, _encoding, done) {
      taken.push(chunk.toString());
      proceed = done;
    },
  });
  const goOn = () => {
    const done = proceed;
    proceed = undefined;
    done?.();
  };
  return { out, taken, proceed: goOn };
}

async function turns(count = 5): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise(setImmediate);
}

describe("writePage", () => {
  it("writes what it makes in some milliseconds, and lets others have their turn before it goes on", async () => {
    let now = 0;
    vi.spyOn(performance, "now").mockImplementation(() => now);
    const seen: string[] = [];
    function* pieces() {
      for (let piece = 1; piece <= 5; piece++) {
        seen.push(`piece ${piece}`);
        now += 5;
        yield `${piece}`;
      }
    }
    const taken: string[] = [];
    const out = new Writable({
      write(chunk: Buffer, _encoding, done) {
        taken.push(chunk.toString());
        done();
      },
    });
    const written = writePage(out, pieces());
    for (let turn = 1; !out.writableFinished; turn++) {
      seen.push(`others ${turn}`);
      await new Promise(setImmediate);
    }
    await written;
    expect(seen.slice(0, 8)).toEqual([...["others 1", "piece 1", "piece 2", "others 2", "piece 3", "piece 4", "others 3", "piece 5"]]);
    expect(taken).toEqual(["12", "34", "5"]);
  });

  it("makes no more than the reader takes", async () => {
    const { out, taken, proceed } = slowReader();
    let made = 0;
    const long = "x".repeat(40_000);
    function* pieces() {
      for (; made < 6; made++) yield long;
    }
    const written = writePage(out, pieces());
    await turns();
    // Two pieces are one write.
    expect([taken.length, made]).toEqual([1, 1]);
    proceed();
    await turns();
    expect([taken.length, made]).toEqual([2, 3]);
    while (!out.writableFinished) {
      proceed();
      await turns(1);
    }
    await written;
    expect(taken.join("")).toBe(long.repeat(6));
  });

  it("ends the work when the client goes away, whether it waits for it or not", async () => {
    const ends: string[] = [];
    function* endless(name: string, piece: string) {
      try {
        for (;;) yield piece;
      } finally {
        ends.push(name);
      }
    }
    const works: Promise<void>[] = [];
    const server = createServer((request, response: ServerResponse) => {
      response.writeHead(200);
      works.push(writePage(response, request.url === "/much" ? endless("much", "x".repeat(10_000)) : endless("nothing yet", "")));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const { port } = server.address() as AddressInfo;
      const much = get({ port, path: "/much" });
      const [answer] = (await once(much, "response")) as [NodeJS.ReadableStream];
      await once(answer, "data");
      answer.pause();
      much.destroy();
      await works[0];
      const nothing = get({ port, path: "/nothing" });
      nothing.on("error", () => undefined);
      await once(server, "request");
      nothing.destroy();
      await works[1];
      expect(ends).toEqual(["much", "nothing yet"]);
    } finally {
      server.close();
    }
  });

  it("waits no longer for a reader that is closed", async () => {
    const { out, taken } = slowReader();
    let isEnded = false;
    function* endless() {
      try {
        for (;;) yield "x".repeat(100_000);
      } finally {
        isEnded = true;
      }
    }
    const written = writePage(out, endless());
    await turns();
    expect([taken.length, isEnded]).toEqual([1, false]);
    out.destroy();
    await written;
    expect([taken.length, isEnded]).toEqual([1, true]);
  });

  it("says what went wrong in the middle, and asks for no more", async () => {
    const { out } = slowReader();
    function* pieces() {
      yield "a";
      throw new Error("broken");
    }
    await expect(writePage(out, pieces())).rejects.toThrow("broken");
    expect(out.writableEnded).toBe(false);
  });
});

/** Ports for processes that can't be told 0: not those that the system chooses for others (ip_local_port_range). */
import { createServer } from "node:net";

const firstPort = 20_000;
const rowLength = 20;
const rows = 400;
/** Test files that run at the same time have rows of their own. */
const pools = 16;
const pool = Number(process.env.VITEST_POOL_ID ?? 0) % pools;

/** Ports that were given out may not be listened to yet. */
let unused: number[] = [];

/** The first of a row of ports on loopback that are free now; another one each time. */
export async function freePortRow(length: number): Promise<number> {
  for (let attempt = 0; attempt < 2 * (rows / pools); attempt++) {
    if (unused.length === 0) unused = Array.from({ length: rows / pools }, (_, index) => firstPort + (index * pools + pool) * rowLength);
    const [first] = unused.splice(Math.floor(Math.random() * unused.length), 1) as [number];
    const row = Array.from({ length }, (_, index) => first + index);
    if ((await Promise.all(row.map(isFree))).every(Boolean)) return first;
  }
  throw new Error(`no row of ${length} free ports`);
}

export function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

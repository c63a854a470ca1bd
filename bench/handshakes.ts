/** Load of new TLS connections by openssl's s_time, one request on each: several processes at once, because each waits for its turn. */
import { spawn } from "node:child_process";

const processes = 6;

export interface HandshakeOptions {
  readonly port: number;
  readonly seconds: number;
  /** Each takes up the session of the first. */
  readonly resumes: boolean;
  readonly cpu: number;
}

/** Resolves to how many connections there were. */
export async function handshakes(options: HandshakeOptions): Promise<number> {
  const counts = await Promise.all(Array.from({ length: processes }, () => timeConnections(options)));
  return counts.reduce((sum, count) => sum + count, 0);
}

/** s_time asks by HTTP/1.0 and reads to the end. It first makes one whole handshake where it is to take up a session. */
function timeConnections({ port, seconds, resumes, cpu }: HandshakeOptions): Promise<number> {
  const asked = ["-connect", `127.0.0.1:${port}`, "-time", String(seconds), resumes ? "-reuse" : "-new", "-www", "/"];
  const child = spawn("taskset", ["-c", String(cpu), "openssl", "s_time", ...asked], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
  }
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", () => {
      const count = Number(/(\d+) connections in \d+ real seconds/.exec(output)?.[1]);
      // A letter for each connection: t and * are whole handshakes of TLS 1.2 and 1.3, r one that took up a session.
      const isAsWanted = !resumes || /r{20}/.test(output);
      if (count > 0 && isAsWanted) resolve(count);
      else reject(new Error(`s_time: ${output.slice(-500)}`));
    });
  });
}

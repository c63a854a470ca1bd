/** The node's own address, which stands in X-Forwarded-For where the proxy itself, or a loopback address, is the one who asks. */
import { networkInterfaces } from "node:os";

let known: string | undefined;

/** The first that isn't loopback. */
export function localAddress(): string {
  known ??=
    Object.values(networkInterfaces())
      .flat()
      .find((address) => address !== undefined && !address.internal && address.family === "IPv4")?.address ?? "127.0.0.1";
  return known;
}

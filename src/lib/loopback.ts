/** Whether a socket's address is this machine; IPv4 may come mapped into IPv6, as a dual-stack listener reports it. */
export function isLoopback(address: string | undefined): boolean {
  return address === "::1" || address?.startsWith("127.") === true || address?.startsWith("::ffff:127.") === true;
}

/**
 * Where parts of one workload talk to each other: 127.0.0.1, or its own address where that is another of 127.0.0.0/8. So several
 * workloads of one machine may use the same ports.
 */
export function ownLoopback(address: string | undefined): string {
  return address?.startsWith("127.") ? address : "127.0.0.1";
}

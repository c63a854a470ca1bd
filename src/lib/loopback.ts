/** Whether a socket's address is this machine; IPv4 may come mapped into IPv6, as a dual-stack listener reports it. */
export function isLoopback(address: string | undefined): boolean {
  return address === "::1" || address?.startsWith("127.") === true || address?.startsWith("::ffff:127.") === true;
}

/** Numbers of the DNS protocol. Source: RFC 1035, RFC 6891. */

export const headerBytes = 12;
export const minUdpBytes = 512;
export const maxMessageBytes = 0xffff;
/** A name in its wire form, the root's zero byte included. */
export const maxNameBytes = 255;

export const flag = {
  response: 0x8000,
  opcode: 0x7800,
  authoritative: 0x0400,
  truncated: 0x0200,
  recursionDesired: 0x0100,
  recursionAvailable: 0x0080,
  checkingDisabled: 0x0010,
} as const;

export const recordType = { a: 1, cname: 5, opt: 41, aaaa: 28, ixfr: 251, axfr: 252 } as const;

export const classInternet = 1;

export const rcode = { ok: 0, formatError: 1, serverFailure: 2, nameError: 3, notImplemented: 4, refused: 5, badVersion: 16 } as const;

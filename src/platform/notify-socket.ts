/**
 * The socket by which a service tells systemd how it is: one datagram a message, to a Unix socket that Node has no call for.
 * Source: sd_notify(3), "Standalone Implementations".
 */

const [familyUnix, datagram, closeOnExec] = [1, 2, 0o2000000];
/** MSG_NOSIGNAL */
const noSignal = 0x4000;
/** Of sockaddr_un, without its terminating zero. */
const maxPathBytes = 107;

type Socket = (family: number, type: number, protocol: number) => number;
type SendTo = (fd: number, bytes: bigint, length: bigint, flags: number, address: bigint, addressLength: number) => bigint;

export class NotifySocket implements Disposable {
  readonly #library: Disposable;
  readonly #sendTo: SendTo;
  readonly #close: (fd: number) => number;
  readonly #address: Buffer;
  readonly #addressAt: bigint;
  readonly #pointerOf: (bytes: Buffer) => bigint;
  readonly #fd: number;

  /** `address` is a path, or `@name` for one of the abstract namespace. Throws when there is no such socket to be had. */
  constructor(address: string) {
    if (!/^[/@]/.test(address) || Buffer.byteLength(address) > maxPathBytes)
      throw new Error(`NOTIFY_SOCKET: "${address}" is no address of a Unix socket`);
    // Loaded here: it is experimental, and what does not use it need not hear so.
    const { dlopen, getRawPointer } = process.getBuiltinModule("node:ffi");
    const library = dlopen("libc.so.6", {
      socket: { return: "int32", arguments: ["int32", "int32", "int32"] },
      sendto: { return: "int64", arguments: ["int32", "pointer", "uint64", "int32", "pointer", "uint32"] },
      close: { return: "int32", arguments: ["int32"] },
    });
    this.#library = library;
    this.#sendTo = library.functions.sendto as SendTo;
    this.#close = library.functions.close as (fd: number) => number;
    this.#pointerOf = (bytes) => getRawPointer(bytes);
    this.#fd = (library.functions.socket as Socket)(familyUnix, datagram | closeOnExec, 0);
    if (this.#fd < 0) throw new Error("NOTIFY_SOCKET: a Unix socket can't be made");
    this.#address = socketAddress(address);
    this.#addressAt = getRawPointer(this.#address);
  }

  /** `KEY=value`, a line each. Whether it was sent: nobody is bound to listen. */
  send(assignments: readonly string[]): boolean {
    const bytes = Buffer.from(assignments.join("\n"));
    const sent = this.#sendTo(this.#fd, this.#pointerOf(bytes), BigInt(bytes.length), noSignal, this.#addressAt, this.#address.length);
    return BigInt(sent) === BigInt(bytes.length);
  }

  [Symbol.dispose](): void {
    this.#close(this.#fd);
    this.#library[Symbol.dispose]();
  }
}

/** A struct sockaddr_un: the family in the machine's byte order, then the path; a name of the abstract namespace begins with a zero. */
function socketAddress(address: string): Buffer {
  const path = address.startsWith("@") ? Buffer.from(`\0${address.slice(1)}`) : Buffer.from(`${address}\0`);
  const bytes = Buffer.allocUnsafeSlow(2 + path.length);
  bytes.writeUInt16LE(familyUnix);
  path.copy(bytes, 2);
  return bytes;
}

/**
 * The files (and standard streams) that access logs go to, one set per worker.
 *
 * Lines are collected and written in one go when 64 KiB wait or the flush interval has passed, in the thread pool, so a
 * slow disk never stalls a request. All loggers of a path share one sink; workers append to the same file, each in whole
 * lines. A sink whose disk is stuck drops lines rather than eat the memory; what was dropped is counted.
 *
 * Strings are latin1 that carries bytes, as headers are; a character above that (a route's name) is written as UTF-8.
 */
import * as fs from "node:fs";
import { ConfigError } from "../../api/config-error.ts";

const defaultBufferBytes = 64 * 1024;
const maxWaitingBytes = 16 * 1024 * 1024;
const retryWriteMs = 10;

export interface AccessLogSinkOptions {
  readonly flushIntervalMs: number;
  /** Default 64 KiB. */
  readonly bufferBytes?: number;
  /** Only check that the files can be opened, as the main thread does when it validates configuration. */
  readonly validateOnly?: boolean;
  /** A file could not be written or reopened. Called at most once a minute and file. */
  readonly onError?: (path: string, error: Error) => void;
}

export interface AccessLogSink {
  write(text: string): void;
  /** Gives it back; the file is closed when its last user has. */
  release(): void;
}

export class AccessLogSinks implements AsyncDisposable {
  /** Lines (or parts of the log) that were not written because the disk did not keep up or failed. */
  droppedBytes = 0;
  #options: AccessLogSinkOptions;
  #files = new Map<string, BufferedFile>();
  #closing = new Set<Promise<void>>();

  constructor(options: AccessLogSinkOptions) {
    this.#options = options;
  }

  /** Opens a path for appending, or shares it. Throws ConfigError when that is impossible. */
  open(path: string): AccessLogSink {
    if (this.#options.validateOnly) {
      const fd = openForAppend(path);
      if (fd > 2) fs.closeSync(fd);
      return { write() {}, release() {} };
    }
    let file = this.#files.get(path);
    if (!file) {
      file = new BufferedFile(path, openForAppend(path), this.#options, (bytes) => {
        this.droppedBytes += bytes;
      });
      this.#files.set(path, file);
    }
    const shared = file;
    shared.users++;
    let released = false;
    return {
      write: (text) => shared.write(text),
      release: () => {
        if (released) return;
        released = true;
        if (--shared.users > 0) return;
        this.#files.delete(path);
        const closing = shared.close().finally(() => this.#closing.delete(closing));
        this.#closing.add(closing);
      },
    };
  }

  /** After a rotation: what was written goes to the old file, what comes goes to a new one of the same name. */
  reopen(): void {
    for (const file of this.#files.values()) file.reopen();
  }

  async flush(): Promise<void> {
    await Promise.all([...this.#files.values()].map((file) => file.flush()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const files = [...this.#files.values()];
    this.#files.clear();
    await Promise.all([...files.map((file) => file.close()), ...this.#closing]);
  }
}

class BufferedFile {
  users = 0;
  readonly path: string;
  #fd: number;
  #options: AccessLogSinkOptions;
  #onDrop: (bytes: number) => void;
  #waiting = "";
  #writing: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #reopenWanted = false;
  #closed = false;
  #lastErrorAt = Number.NEGATIVE_INFINITY;

  constructor(path: string, fd: number, options: AccessLogSinkOptions, onDrop: (bytes: number) => void) {
    this.path = path;
    this.#fd = fd;
    this.#options = options;
    this.#onDrop = onDrop;
  }

  /** Hot. */
  write(text: string): void {
    if (this.#waiting.length + text.length > maxWaitingBytes || this.#closed) {
      this.#onDrop(text.length);
      return;
    }
    this.#waiting += text;
    if (this.#waiting.length >= (this.#options.bufferBytes ?? defaultBufferBytes)) void this.flush();
    else this.#timer ??= setTimeout(() => void this.flush(), this.#options.flushIntervalMs).unref();
  }

  flush(): Promise<void> {
    this.#writing ??= this.#drain().finally(() => {
      this.#writing = undefined;
    });
    return this.#writing;
  }

  reopen(): void {
    this.#reopenWanted = true;
    void this.flush();
  }

  async close(): Promise<void> {
    await this.flush();
    this.#closed = true;
    await this.flush(); // what came while the first one ran
    clearTimeout(this.#timer);
    if (this.#fd > 2) fs.closeSync(this.#fd);
  }

  async #drain(): Promise<void> {
    do {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      const text = this.#waiting;
      this.#waiting = "";
      if (text !== "") {
        try {
          await writeAll(this.#fd, toBytes(text));
        } catch (error) {
          this.#onDrop(text.length);
          this.#report(error as Error);
        }
      }
      if (this.#reopenWanted) {
        this.#reopenWanted = false;
        try {
          const fd = openForAppend(this.path);
          if (this.#fd > 2) fs.closeSync(this.#fd);
          this.#fd = fd;
        } catch (error) {
          this.#report(error as Error); // the old file goes on
        }
      }
    } while (this.#waiting !== "" || this.#reopenWanted);
  }

  #report(error: Error): void {
    const now = performance.now();
    if (now - this.#lastErrorAt < 60_000) return;
    this.#lastErrorAt = now;
    this.#options.onError?.(this.path, error);
  }
}

function openForAppend(path: string): number {
  // Under systemd these are sockets, which can't be opened by name.
  if (path === "/dev/stdout") return 1;
  if (path === "/dev/stderr") return 2;
  try {
    return fs.openSync(path, "a", 0o644);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    const reason = { ENOENT: "No such file or directory", EACCES: "Permission denied", EISDIR: "Is a directory" }[code ?? ""] ?? code;
    throw new ConfigError(`unable to open file '${path}': ${reason}`, { cause });
  }
}

async function writeAll(fd: number, bytes: Buffer): Promise<void> {
  for (let offset = 0; offset < bytes.length; ) {
    try {
      offset += await new Promise<number>((resolve, reject) => {
        fs.write(fd, bytes, offset, bytes.length - offset, null, (error, written) => (error ? reject(error) : resolve(written)));
      });
    } catch (error) {
      // A standard stream may be a pipe in non-blocking mode whose reader is slow.
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
      await new Promise((resolve) => setTimeout(resolve, retryWriteMs));
    }
  }
}

/** Bytes of a string that is latin1 for the most part. */
function toBytes(text: string): Buffer {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the whole of latin1 is meant
  return Buffer.from(/^[\x00-\xff]*$/.test(text) ? text : text.replaceAll(/[^\x00-\xff]+/gu, utf8AsLatin1), "latin1");
}

export function utf8AsLatin1(text: string): string {
  return Buffer.from(text, "utf8").toString("latin1");
}

/**
 * The configuration that the proxy last accepted, on disk, so that a machine that starts while no control plane answers serves what it served
 * before. The file is its owner's alone, holds keys where the control plane sends any, and is believed only when its checksum is right and it
 * is for this node, whatever address the node has by now.
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { EncodedResource } from "../../ads/resource.ts";
import { log } from "../../lib/log.ts";
import { KeptFiles } from "../kept-files.ts";
import type { Troubles } from "../troubles.ts";

const scope = log.scope("lastgood");

const magic = "topsail-last-good-1\n";
const hashBytes = 32;
/** More than any mesh sends; what is larger is not ours. */
const maxFileBytes = 512 * 1024 * 1024;
/** Pushes come in bursts: one write for all of a burst. */
const quietMs = 1000;

interface Header {
  readonly node: string;
  /** ISO 8601. */
  readonly savedAt: string;
  /** In the order in which their bytes follow. */
  readonly resources: readonly { readonly typeUrl: string; readonly name: string; readonly version: string; readonly length: number }[];
}

export class LastGoodConfig implements AsyncDisposable {
  readonly #byType = new Map<string, Map<string, EncodedResource>>();
  readonly #file: KeptFiles;
  #node: string;
  #savedAt: Date | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  private constructor(path: string, node: string, troubles: Pick<Troubles, "report" | "clear">) {
    this.#node = node;
    this.#file = new KeptFiles({
      what: "the last good configuration",
      troubles,
      files: () => [{ path, content: this.#write(), mode: 0o600 }],
    });
  }

  /** `node`: id of the proxy; configuration of another one is not taken. */
  static async load(path: string, node: string, troubles: Pick<Troubles, "report" | "clear">): Promise<LastGoodConfig> {
    const made = new LastGoodConfig(path, node, troubles);
    try {
      made.#read(await readFile(path));
    } catch (error) {
      made.#byType.clear();
      if ((error as NodeJS.ErrnoException).code !== "ENOENT")
        scope.warn("last good configuration is not used", { path, reason: error instanceof Error ? error.message : error });
    }
    return made;
  }

  /** When what is there was written; undefined when nothing could be loaded. */
  get savedAt(): Date | undefined {
    return this.#savedAt;
  }

  resources(typeUrl: string): readonly EncodedResource[] {
    return [...(this.#byType.get(typeUrl)?.values() ?? [])];
  }

  /** Takes over what the proxy accepted. `isWhole`: there is nothing else of that type. */
  accept(typeUrl: string, changed: readonly EncodedResource[], removed: readonly string[], isWhole: boolean): void {
    const known = this.#byType.get(typeUrl) ?? new Map<string, EncodedResource>();
    this.#byType.set(typeUrl, known);
    if (isWhole) known.clear();
    for (const name of removed) known.delete(name);
    for (const resource of changed) known.set(resource.name, resource);
    this.#saveSoon();
  }

  /** The proxy is known by another id from now on. */
  rename(node: string): void {
    this.#node = node;
    this.#saveSoon();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    if (this.#timer) await this.#save();
    await this.#file[Symbol.asyncDispose]();
  }

  #saveSoon(): void {
    if (!this.#isClosed) this.#timer ??= setTimeout(() => void this.#save(), quietMs).unref();
  }

  #save(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    return this.#file.save();
  }

  #write(): Buffer {
    const all = [...this.#byType.values()].flatMap((resources) => [...resources.values()]);
    const header: Header = {
      node: this.#node,
      savedAt: new Date().toISOString(),
      resources: all.map(({ typeUrl, name, version, bytes }) => ({ typeUrl, name, version, length: bytes.length })),
    };
    const head = Buffer.from(JSON.stringify(header));
    const length = Buffer.alloc(4);
    length.writeUInt32BE(head.length);
    const payload = Buffer.concat([length, head, ...all.map(({ bytes }) => bytes)]);
    return Buffer.concat([Buffer.from(magic), createHash("sha256").update(payload).digest(), payload]);
  }

  #read(file: Buffer): void {
    if (file.length > maxFileBytes) throw new Error(`it is larger than ${maxFileBytes} bytes`);
    const start = magic.length + hashBytes;
    if (file.subarray(0, magic.length).toString("latin1") !== magic || file.length < start + 4) throw new Error("it is none");
    const payload = file.subarray(start);
    if (!createHash("sha256").update(payload).digest().equals(file.subarray(magic.length, start))) throw new Error("its checksum is wrong");
    const headEnd = 4 + payload.readUInt32BE(0);
    const header = JSON.parse(payload.toString("utf8", 4, headEnd)) as Header;
    if (withoutAddress(header.node) !== withoutAddress(this.#node)) throw new Error(`it is for ${header.node}`);
    let at = headEnd;
    for (const { typeUrl, name, version, length } of header.resources) {
      const known = this.#byType.get(typeUrl) ?? new Map<string, EncodedResource>();
      this.#byType.set(typeUrl, known);
      known.set(name, { typeUrl, name, version, bytes: payload.subarray(at, at + length) });
      at += length;
    }
    this.#savedAt = new Date(header.savedAt);
  }
}

/** A machine may get another address when it starts, and during an outage nobody could tell it what to do with that one. */
function withoutAddress(node: string): string {
  const [type, , ...name] = node.split("~");
  return [type, ...name].join("~");
}

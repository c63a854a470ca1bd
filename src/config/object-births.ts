import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { writeWhole } from "../lib/write-whole.ts";

interface Birth {
  /** Milliseconds since 1970, whole seconds. */
  readonly createdMs: number;
  readonly uid: string;
}

/**
 * When the objects of a directory of files came to be. Istio settles conflicts by age, and a file says nothing reliable about
 * it: every save by an editor is a new file. So the first sight counts, and with a data directory it is kept over restarts.
 */
export class ObjectBirths {
  readonly #path: string | undefined;
  readonly #births: Map<string, Birth>;
  #isDirty = false;

  constructor(dataDir: string | undefined) {
    this.#path = dataDir === undefined ? undefined : join(dataDir, "file-objects.json");
    this.#births = new Map(this.#path === undefined ? [] : loadBirths(this.#path));
  }

  /** The birth of an object that is seen now, in a file that was made at `createdMs`. */
  of(key: string, createdMs: number): Birth {
    const known = this.#births.get(key);
    if (known) return known;
    const birth = { createdMs: Math.floor(createdMs / 1000) * 1000, uid: uidFor(key, createdMs) };
    this.#births.set(key, birth);
    this.#isDirty = true;
    return birth;
  }

  forget(key: string): void {
    this.#isDirty = this.#births.delete(key) || this.#isDirty;
  }

  /** Forgets what isn't there any more after a start. */
  keepOnly(keys: ReadonlySet<string>): void {
    for (const key of [...this.#births.keys()]) if (!keys.has(key)) this.forget(key);
  }

  async save(dataDir: string | undefined): Promise<void> {
    if (!this.#isDirty || this.#path === undefined || dataDir === undefined) return;
    this.#isDirty = false;
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
    await writeWhole(this.#path, JSON.stringify(Object.fromEntries(this.#births)), 0o600);
  }
}

/** What can't be read counts as nothing known: ages are then taken from the files. */
function loadBirths(path: string): [string, Birth][] {
  try {
    const parsed = JSON.parse(readFileSync(path, "utf8")) as Record<string, Birth>;
    return Object.entries(parsed).filter(([, birth]) => typeof birth?.createdMs === "number" && typeof birth.uid === "string");
  } catch {
    return [];
  }
}

function uidFor(key: string, createdMs: number): string {
  const hash = createHash("sha256").update(`${key}\0${createdMs}`).digest("hex");
  return [hash.slice(0, 8), hash.slice(8, 12), `4${hash.slice(13, 16)}`, `8${hash.slice(17, 20)}`, hash.slice(20, 32)].join("-");
}

/** An image of an OCI archive, unpacked as a container engine does it, and run by crun. Source: OCI image and runtime specifications. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

interface Descriptor {
  readonly digest: string;
  readonly size: number;
}

export interface ImageConfig {
  readonly architecture: string;
  readonly config: {
    readonly User: string;
    readonly Env: readonly string[];
    readonly Entrypoint: readonly string[];
    readonly Cmd: readonly string[];
    readonly WorkingDir: string;
    readonly Volumes: Readonly<Record<string, object>>;
  };
  readonly rootfs: { readonly diff_ids: readonly string[] };
}

export class OciImage implements Disposable {
  readonly config: ImageConfig;
  readonly #directory: string;

  private constructor(directory: string, config: ImageConfig) {
    this.#directory = directory;
    this.config = config;
  }

  /** Throws when a digest is wrong. `name`: how the archive calls it. */
  static unpack(archive: string, name: string): OciImage {
    const directory = mkdtempSync(join(tmpdir(), "image-"));
    const layout = join(directory, "layout");
    const root = join(directory, "rootfs");
    for (const path of [layout, root]) mkdirSync(path);
    execFileSync("tar", ["-xf", archive, "-C", layout]);
    const index = JSON.parse(readFileSync(join(layout, "index.json"), "utf8")) as {
      manifests: (Descriptor & { annotations: Record<string, string> })[];
    };
    const found = index.manifests.find(({ annotations }) => annotations["org.opencontainers.image.ref.name"] === name);
    if (!found) throw new Error(`${archive} has no ${name}`);
    const manifest = JSON.parse(blob(layout, found).toString()) as { config: Descriptor; layers: Descriptor[] };
    const config = JSON.parse(blob(layout, manifest.config).toString()) as ImageConfig;
    for (const [position, layer] of manifest.layers.entries()) {
      const plain = execFileSync("gzip", ["-dc"], { input: blob(layout, layer), maxBuffer: 1 << 30 });
      if (digestOf(plain) !== config.rootfs.diff_ids[position]) throw new Error(`layer ${position} is not what the configuration says`);
      execFileSync("tar", ["-x", "--keep-directory-symlink", "-C", root], { input: plain });
    }
    rmSync(layout, { recursive: true });
    return new OciImage(directory, config);
  }

  /**
   * A container on the host's network with a root that can't be written, as the image's user or another (`uid:gid`), without any capability. Its
   * volumes are new, with owner and mode of the directories that they take the place of, as engines make them.
   */
  run(args: readonly string[] = this.config.config.Cmd, user = this.config.config.User): ChildProcess {
    const { Env, Entrypoint, WorkingDir, Volumes } = this.config.config;
    const [uid, gid] = user.split(":").map(Number);
    const volume = (destination: string) => {
      const { uid: owner, gid: group, mode } = statSync(join(this.#directory, "rootfs", destination.replace(/^\/var\/run\//, "/run/")));
      const access = `mode=${(mode & 0o7777).toString(8)}`;
      return { destination, type: "tmpfs", source: "tmpfs", options: ["nosuid", "nodev", `uid=${owner}`, `gid=${group}`, access] };
    };
    const settings = {
      ociVersion: "1.0.2",
      process: {
        args: [...Entrypoint, ...args],
        env: Env,
        cwd: WorkingDir,
        user: { uid, gid },
        noNewPrivileges: true,
        capabilities: { bounding: [], effective: [], permitted: [], inheritable: [], ambient: [] },
      },
      root: { path: join(this.#directory, "rootfs"), readonly: true },
      hostname: "container",
      mounts: [
        { destination: "/proc", type: "proc", source: "proc" },
        { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "strictatime", "mode=755"] },
        ...Object.keys(Volumes).map(volume),
      ],
      linux: { namespaces: ["pid", "ipc", "uts", "mount"].map((type) => ({ type })) },
    };
    writeFileSync(join(this.#directory, "config.json"), JSON.stringify(settings));
    const places = ["--root", join(this.#directory, "state"), "--cgroup-manager=disabled"];
    const name = `topsail-test-${process.pid}-${Date.now()}`;
    // crun insists on cgroups of the one kind or the other, which it then leaves alone; some machines have both.
    const script = 'mount -t cgroup2 none /sys/fs/cgroup; exec crun "$@"';
    const run = ["--mount", "sh", "-ec", script, "crun", ...places, "run", "--bundle", this.#directory, name];
    return spawn("unshare", run, { stdio: ["ignore", "pipe", "pipe"] });
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

function blob(layout: string, { digest, size }: Descriptor): Buffer {
  const bytes = readFileSync(join(layout, "blobs", "sha256", digest.replace("sha256:", "")));
  if (bytes.length !== size || digestOf(bytes) !== digest) throw new Error(`${digest} is not what its name says`);
  return bytes;
}

function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/**
 * An OCI image archive (`podman load -i`, `skopeo copy oci-archive:`) with two images on the same layers: gateway and control plane.
 *
 *   Debian, its essential packages ── the executable ── gateway         pilot-agent proxy router   as 1337, nothing written but volumes
 *                                                    └─ control-plane   istiod discovery           as 1337, nothing written but volumes
 *
 * Source: OCI image specification 1.1: image-layout.md, manifest.md, config.md.
 */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { constants, createGzip } from "node:zlib";
import type { Executable } from "./executable.ts";
import { once } from "./once.ts";
import { at, ownArchitecture, sourceDate } from "./project.ts";
import { stage } from "./stage.ts";
import { requireTools, runTool } from "./tools.ts";

export interface ImageOptions {
  readonly executable: Executable;
  readonly version: string;
  readonly output: string;
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

interface Layer extends Descriptor {
  /** Digest of the layer before it was packed. */
  readonly diffId: string;
  readonly createdBy: string;
}

const suite = "bookworm";
/** Istio's number for its proxy. */
const user = "1337";
const home = "/usr/lib/topsail";

interface Image {
  readonly name: string;
  readonly entrypoint: readonly string[];
  readonly arguments: readonly string[];
  /** What may be written, and is empty at first; Istio's own pods mount these too. */
  readonly volumes: readonly string[];
}

const images: readonly Image[] = [
  {
    name: "gateway",
    entrypoint: ["/usr/local/bin/pilot-agent"],
    arguments: ["proxy", "router"],
    volumes: ["/etc/istio/proxy", "/var/lib/istio/data", "/var/run/secrets/workload-spiffe-uds"],
  },
  {
    name: "control-plane",
    entrypoint: ["/usr/local/bin/istiod"],
    arguments: ["discovery", "--configDir", "/etc/istiod/config", "--meshConfig", "/etc/istiod/mesh.yaml", "--dataDir", "/var/lib/istiod"],
    volumes: ["/var/lib/istiod"],
  },
];

export async function buildImage({ executable, version, output }: ImageOptions): Promise<void> {
  requireTools(["mmdebstrap"]);
  const layout = at("build", "packages", "image");
  rmSync(layout, { recursive: true, force: true });
  mkdirSync(join(layout, "blobs", "sha256"), { recursive: true });
  const layers = [
    await addLayer(layout, baseLayer(), `Debian ${suite}`),
    await addLayer(layout, programLayer(executable), `Topsail ${version}`),
  ];
  const manifests = images.map((image) => {
    const config = addJson(layout, "application/vnd.oci.image.config.v1+json", configOf(image, layers, version));
    const parts = layers.map(({ mediaType, digest, size }) => ({ mediaType, digest, size }));
    const manifest = { schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json", config, layers: parts };
    return {
      ...addJson(layout, manifest.mediaType, manifest),
      platform: { architecture: ownArchitecture, os: "linux" },
      annotations: { "org.opencontainers.image.ref.name": `topsail/${image.name}:${version}` },
    };
  });
  writeFileSync(join(layout, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(
    join(layout, "index.json"),
    JSON.stringify({ schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests }),
  );
  tar(layout, join(output, `topsail-images_${version}_${ownArchitecture}.tar`), ["oci-layout", "index.json", "blobs"]);
  rmSync(layout, { recursive: true });
}

function configOf(image: Image, layers: readonly Layer[], version: string) {
  const created = new Date(Number(sourceDate()) * 1000).toISOString();
  return {
    created,
    architecture: ownArchitecture,
    os: "linux",
    config: {
      User: `${user}:${user}`,
      Env: ["PATH=/usr/local/bin:/usr/bin:/bin"],
      Entrypoint: image.entrypoint,
      Cmd: image.arguments,
      WorkingDir: "/",
      Volumes: Object.fromEntries(image.volumes.map((path) => [path, {}])),
      StopSignal: "SIGTERM",
      Labels: {
        "org.opencontainers.image.title": `Topsail ${image.name}`,
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.licenses": "Apache-2.0",
      },
    },
    rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
    history: layers.map(({ createdBy }) => ({ created, created_by: createdBy })),
  };
}

/** Debian without a package manager, and the roots that browsers trust, for issuers of tokens. */
function baseLayer(): string {
  const file = at("build", "packages", `image-base-${ownArchitecture}.tar`);
  once("image-base", [suite, user], file, () => {
    const include = "--include=ca-certificates,libstdc++6,passwd";
    const quiet = [
      "--dpkgopt=path-exclude=/usr/share/doc/*",
      "--dpkgopt=path-include=/usr/share/doc/*/copyright",
      "--dpkgopt=path-exclude=/usr/share/man/*",
      "--dpkgopt=path-exclude=/usr/share/locale/*",
    ];
    const account = `chroot "$1" useradd --system --uid ${user} --user-group --no-create-home --home-dir / --shell /usr/sbin/nologin istio-proxy`;
    runTool("mmdebstrap", ["--quiet", "--variant=essential", include, ...quiet, `--customize-hook=${account}`, suite, file], {
      env: { SOURCE_DATE_EPOCH: sourceDate() },
    });
  });
  return file;
}

function programLayer({ path, libatomic }: Executable): string {
  const directory = at("build", "packages", "stage", "image");
  const own = images.flatMap(({ volumes }) => volumes).map((volume) => volume.replace(/^\/var\/run\//, "/run/"));
  stage(
    [
      { path: `${home}/topsail`, kind: "file", from: path, mode: 0o755 },
      { path: `${home}/libatomic.so.1`, kind: "file", from: libatomic, mode: 0o644 },
      ...["pilot-agent", "envoy", "istiod", "istioctl"].map((name) => ({
        path: `/usr/local/bin/${name}`,
        kind: "link" as const,
        to: `${home}/topsail`,
      })),
      // Configuration is mounted here, or there is none.
      { path: "/etc/istiod/config", kind: "directory" as const, mode: 0o755 },
      ...own.map((volume) => ({ path: volume, kind: "directory" as const, mode: 0o775 })),
    ],
    directory,
  );
  const file = at("build", "packages", "image-program.tar");
  const volumes = own.map((volume) => `.${volume}`);
  tar(directory, file, [...volumes.map((volume) => `--exclude=${volume}`), "."]);
  // A new volume is whose the directory is that it takes the place of. Where nobody knows the user beforehand (OpenShift), the group is root's.
  tar(directory, file, ["--append", `--owner=${user}`, ...volumes]);
  rmSync(directory, { recursive: true });
  return file;
}

/** `words`: names, and options that hold over ours. */
function tar(directory: string, file: string, words: readonly string[]): void {
  const steady = ["--sort=name", `--mtime=@${sourceDate()}`, "--owner=0", "--group=0", "--numeric-owner"];
  const mode = words.includes("--append") ? [] : ["--create"];
  runTool("tar", [...mode, "--file", file, ...steady, "-C", directory, ...words]);
}

async function addLayer(layout: string, file: string, createdBy: string): Promise<Layer> {
  const packed = join(layout, "blobs", "layer");
  const plain = createHash("sha256");
  const source = createReadStream(file).on("data", (chunk) => plain.update(chunk));
  await pipeline(source, createGzip({ level: constants.Z_BEST_SPEED }), createWriteStream(packed));
  const digest = createHash("sha256").update(readFileSync(packed)).digest("hex");
  const { size } = statSync(packed);
  renameSync(packed, join(layout, "blobs", "sha256", digest));
  const mediaType = "application/vnd.oci.image.layer.v1.tar+gzip";
  return { mediaType, digest: `sha256:${digest}`, size, diffId: `sha256:${plain.digest("hex")}`, createdBy };
}

function addJson(layout: string, mediaType: string, value: object): Descriptor {
  const bytes = Buffer.from(JSON.stringify(value));
  const digest = createHash("sha256").update(bytes).digest("hex");
  writeFileSync(join(layout, "blobs", "sha256", digest), bytes);
  return { mediaType, digest: `sha256:${digest}`, size: bytes.length };
}

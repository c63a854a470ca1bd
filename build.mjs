// Builds and runs Topsail with nothing but Node >= 20 and npm.
//
//   node build.mjs build    install, generate, bundle, and inject into one executable: dist/topsail
//   node build.mjs start    build, then `dist/topsail quickstart`
//   node build.mjs test     build, then the whole test suite            (further words go to vitest)
//   node build.mjs check    format, lint, types, dead code
//   node build.mjs bench    build, then the benchmark against Envoy     (further words go to it)
//   node build.mjs package  build, then packages, repositories, images  (further words go to packaging/main.ts)
//   node build.mjs gen      only the generated protobuf code
//
// The product itself runs on the Node that the npm package node-linux-* carries, never on the caller's.
// Every step is skipped when its inputs have not changed since it last ran (stamps in build/).
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = path.dirname(fileURLToPath(import.meta.url));
const at = (...parts) => path.join(root, ...parts);
const arch = process.arch === "arm64" ? "arm64" : "x64";
const node26 = at("node_modules", `node-linux-${arch}`, "bin", "node");
const binary = at("dist", "topsail");

class BuildError extends Error {}

/** Runs a program; on failure says which and how it failed, with its output where that was held back. */
function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: "inherit", ...options });
  if (result.error) throw new BuildError(`cannot run ${path.basename(command)}: ${result.error.message}`);
  if (result.status !== 0) {
    const output = result.stderr ? `\n${result.stdout ?? ""}${result.stderr}`.trimEnd() : "";
    throw new BuildError(`${path.basename(command)} ${args[0] ?? ""} failed (exit ${result.status ?? result.signal})${output}`);
  }
  return result;
}

/** Hash over the content of files and folders; the same tree gives the same hash on every machine. */
function hashOf(...inputs) {
  const hash = createHash("sha256");
  const visit = (file) => {
    if (!fs.existsSync(file)) return;
    if (fs.statSync(file).isDirectory()) {
      for (const name of fs.readdirSync(file).sort()) visit(path.join(file, name));
    } else {
      hash.update(path.relative(root, file)).update("\0").update(fs.readFileSync(file)).update("\0");
    }
  };
  for (const input of inputs) visit(input);
  return hash.digest("hex");
}

/** Does `work` unless it was done for the same hash before and `output` still stands. */
async function once(name, hash, output, work) {
  const stamp = at("build", `${name}.stamp`);
  if (fs.existsSync(output) && fs.existsSync(stamp) && fs.readFileSync(stamp, "utf8") === hash) return;
  fs.rmSync(stamp, { force: true });
  await work();
  fs.mkdirSync(path.dirname(stamp), { recursive: true });
  fs.writeFileSync(stamp, hash);
}

/** Whether node_modules is what package-lock.json says: npm writes its own record of the tree last. */
function isInstalled() {
  const record = at("node_modules", ".package-lock.json");
  return fs.existsSync(node26) && fs.existsSync(record) && fs.statSync(record).mtimeMs >= fs.statSync(at("package-lock.json")).mtimeMs;
}

function install() {
  if (isInstalled()) return;
  console.error("topsail: installing packages (npm ci)");
  const npm = spawnSync("npm", ["ci", "--no-progress"], { cwd: root, stdio: ["ignore", "ignore", "pipe"], encoding: "utf8" });
  if (npm.error) throw new BuildError(`cannot run npm: ${npm.error.message}`);
  if (npm.status !== 0) {
    // npm says a page; its code is what counts, and `npm ci` shows the page.
    const code = /npm error code (\S+)/.exec(npm.stderr)?.[1] ?? `exit ${npm.status}`;
    const isNetwork = /^(E?CONN|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|ERR_SOCKET|FETCH|ECONNREFUSED|ECONNRESET|EHOSTUNREACH)/.test(code);
    const way = isNetwork
      ? "no npm registry can be reached: check the network, or name a mirror with: npm config set registry URL"
      : "run `npm ci` to see why";
    throw new BuildError(`cannot install packages (${code}); ${way}`);
  }
  if (!fs.existsSync(node26)) {
    throw new BuildError(`no Node 26 for ${process.platform}-${process.arch}: Topsail builds on linux x64 and arm64 with glibc >= 2.28`);
  }
}

/** Lays out the .proto files: the genuine ones that @grpc/grpc-js-xds ships, then ours from proto/ on top. */
function layOutProtos(into) {
  const deps = at("node_modules", "@grpc", "grpc-js-xds", "deps");
  fs.rmSync(into, { recursive: true, force: true });
  for (const part of ["envoy-api", "googleapis", "xds"]) fs.cpSync(path.join(deps, part), into, { recursive: true });
  fs.cpSync(path.join(deps, "protoc-gen-validate", "validate"), path.join(into, "validate"), { recursive: true });
  const left = [
    /\/v[12](alpha\d*)?$/, // xDS v2 is gone from Envoy, and these files import what the package lacks
    /^envoy\/config\/filter$/,
    /^google\/(api\/service|logging)/,
    // These import protos of OpenCensus, OpenTelemetry and Prometheus that the package lacks.
    /^envoy\/config\/trace\/v3\/(opencensus|trace)\.proto$/,
    /^envoy\/service\/(metrics\/v3\/metrics_service|trace\/v3\/trace_service)\.proto$/,
    /^envoy\/extensions\/access_loggers\/open_telemetry$/,
  ];
  const kept = /^(udpa|google\/(api\/expr|rpc|protobuf))/;
  const prune = (dir) => {
    for (const entry of fs.readdirSync(dir, { withFileTypes: true })) {
      const full = path.join(dir, entry.name);
      const name = path.relative(into, full);
      if (!kept.test(name) && left.some((pattern) => pattern.test(name))) fs.rmSync(full, { recursive: true });
      else if (entry.isDirectory()) prune(full);
    }
  };
  prune(into);
  // The package's validate.proto is older than the files that use it: StringRules.ignore_empty is missing.
  const validate = path.join(into, "validate", "validate.proto");
  const text = fs.readFileSync(validate, "utf8");
  if (!/message StringRules \{[^}]*ignore_empty/s.test(text)) {
    fs.writeFileSync(validate, text.replace(/message StringRules \{/, "message StringRules {\n    optional bool ignore_empty = 26;"));
  }
  fs.cpSync(at("proto"), into, { recursive: true });
  addToProtos(into);
}

/** proto/additions.txt: blocks of a file, a line of it, and indented lines that belong behind that line. */
function addToProtos(into) {
  const blocks = fs
    .readFileSync(at("proto", "additions.txt"), "utf8")
    .split(/^(?=\S+\.proto$)/m)
    .slice(1);
  for (const block of blocks) {
    const [file, anchor, ...lines] = block.trimEnd().split("\n");
    const full = path.join(into, file);
    const parts = fs.readFileSync(full, "utf8").split(new RegExp(`^(\\s*${anchor.replace(/[{}]/g, "\\$&")})$`, "m"));
    if (parts.length !== 3) throw new BuildError(`proto/additions.txt: "${anchor}" is not once in ${file}`);
    fs.writeFileSync(full, `${parts[0]}${parts[1]}\n${lines.join("\n")}\n${parts[2]}`);
  }
}

async function generate() {
  const hash = hashOf(at("build.mjs"), at("proto"), at("node_modules", "@grpc", "grpc-js-xds", "package.json"));
  await once("proto", hash, at("src", "api", "gen"), async () => {
    const work = at("build", "proto");
    layOutProtos(path.join(work, "in"));
    fs.writeFileSync(path.join(work, "buf.yaml"), "version: v2\nmodules:\n  - path: in\n");
    const plugin = at("node_modules", ".bin", "protoc-gen-es");
    const template = {
      version: "v2",
      plugins: [
        {
          local: [process.execPath, plugin],
          out: "gen",
          strategy: "all",
          opt: ["target=js+dts", "import_extension=js", "js_import_style=module"],
        },
      ],
    };
    fs.writeFileSync(path.join(work, "buf.gen.yaml"), JSON.stringify(template));
    fs.rmSync(path.join(work, "gen"), { recursive: true, force: true });
    run(bufBinary(), ["generate", "--template", "buf.gen.yaml"], { cwd: work, stdio: ["ignore", "pipe", "pipe"], encoding: "utf8" });
    await finishGenerated(path.join(work, "gen"));
    fs.rmSync(at("src", "api", "gen"), { recursive: true, force: true });
    fs.cpSync(path.join(work, "gen"), at("src", "api", "gen"), { recursive: true });
  });
}

/**
 * Generated code makes descriptors with src/api/descriptors, which decodes them when they are asked for. Enumerations become the objects that
 * the library makes of their descriptors.
 */
async function finishGenerated(into) {
  const finished = new Map();
  for (const name of fs.readdirSync(into, { recursive: true })) {
    if (!name.endsWith("_pb.js")) continue;
    const file = path.join(into, name);
    const exported = await import(pathToFileURL(file));
    const depth = name.split(path.sep).length;
    const text = fs
      .readFileSync(file, "utf8")
      .replace(
        /export const (\w+) = \/\*@__PURE__\*\/\n {2}tsEnum\(\w+\)/g,
        (_, known) => `export const ${known} = ${JSON.stringify(exported[known])}`,
      )
      .replace(/(?<=^import \{.*), tsEnum(?= \} from)/m, "")
      .replace('"@bufbuild/protobuf/codegenv2"', `"${"../".repeat(depth)}descriptors/codegen.ts"`);
    if (/tsEnum|codegenv2/.test(text)) throw new BuildError(`${name}: protoc-gen-es writes other code than it did`);
    finished.set(file, text);
  }
  // Written when all are read: they import each other.
  for (const [file, text] of finished) fs.writeFileSync(file, text);
}

/** The compiled buf, without npm's shim around it: the shim wants the install script that .npmrc turns off. */
function bufBinary() {
  const platform = arch === "arm64" ? "aarch64" : "x64";
  return at("node_modules", "@bufbuild", `buf-linux-${platform}`, "bin", "buf");
}

/** Libraries that load others for what is not used here: 7 MB in each process. */
const leanLibraries = {
  name: "lean-libraries",
  setup({ onLoad }) {
    // The index loads OpenTelemetry's interface and the cluster module.
    onLoad({ filter: /\/prom-client\/index\.js$/ }, () => ({
      contents: ["Registry", "Counter", "Gauge", "Histogram"]
        .map((kind) => `exports.${kind} = require("./lib/${kind.toLowerCase()}");`)
        .join("\n"),
    }));
    // grpc-js has it for the services channelz and ORCA, which nobody adds to a server.
    onLoad({ filter: /\/@grpc\/proto-loader\/build\/src\/index\.js$/ }, () => ({
      contents: `exports.loadSync = () => { throw new Error("protobufjs is not built in"); };`,
    }));
  },
};

/** What `topsail PROGRAM` runs, by the folder of its main.ts or its file. Each is a bundle of its own beside src/main.ts, which only chooses. */
const programs = ["istiod", "agent", "proxy", "join", "istioctl", "agent/child-of", "quickstart", "samples"];

/** src/main.ts imports programs when they are wanted: in the executable they are assets (src/platform/embedded.ts). */
const embeddedPrograms = {
  name: "embedded-programs",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^\.\// }, ({ path: file, kind }) => {
      if (kind !== "dynamic-import") return;
      const name = file.replace(/^\.\/|(\/main)?\.ts$/g, "");
      if (!programs.includes(name)) throw new BuildError(`src/main.ts imports ${file}, which is none of build.mjs's programs`);
      return { path: name, namespace: "program" };
    });
    onLoad({ filter: /./, namespace: "program" }, ({ path: name }) => ({
      contents: `module.exports = require("./platform/embedded.ts").runEmbedded(${JSON.stringify(name)});`,
      resolveDir: at("src"),
    }));
  },
};

async function bundle() {
  const esbuild = await import("esbuild");
  const version = JSON.parse(fs.readFileSync(at("package.json"), "utf8")).version;
  const revision = spawnSync("git", ["rev-parse", "--short=12", "HEAD"], { cwd: root, encoding: "utf8" }).stdout?.trim() || "unknown";
  const settings = {
    absWorkingDir: root,
    outdir: at("build", "bundle"),
    outExtension: { ".js": ".cjs" },
    bundle: true,
    platform: "node",
    target: "node26",
    format: "cjs",
    minifySyntax: true,
    // A process keeps its program's text, and each of its threads the worker's. Lines stay short for the places that stacks name.
    minifyWhitespace: true,
    lineLimit: 160,
    keepNames: false,
    legalComments: "none",
    logLevel: "error",
    define: {
      "process.env.TOPSAIL_BUILD_VERSION": JSON.stringify(version),
      "process.env.TOPSAIL_BUILD_REVISION": JSON.stringify(revision),
      "import.meta.url": '"file:///topsail"', // only read when running from source
    },
    loader: { ".html": "text", ".css": "text", ".svg": "text" },
  };
  fs.rmSync(settings.outdir, { recursive: true, force: true });
  const entries = programs.map((name) => [name, name.includes("/") ? `src/${name}.ts` : `src/${name}/main.ts`]);
  const parts = await esbuild.build({
    ...settings,
    entryPoints: Object.fromEntries([...entries, ["proxy-worker", "src/proxy/worker.ts"]]),
    banner: { js: "(function(require,module){" },
    footer: { js: "\n})" },
    plugins: [leanLibraries],
    metafile: true,
  });
  await esbuild.build({ ...settings, entryPoints: { topsail: "src/main.ts" }, plugins: [embeddedPrograms] });
  // One letter beyond Latin-1, and V8 keeps the whole text with two bytes a letter, in every process and thread.
  for (const file of Object.keys(parts.metafile.outputs)) {
    const line = fs
      .readFileSync(at(file), "utf8")
      .split("\n")
      .find((text) => /[^\0-\x7f]/.test(text));
    if (line) throw new BuildError(`${file} is not all ASCII: write \\u escapes in: ${line.trim().slice(0, 100)}`);
  }
  // For the bill of materials of packages.
  fs.writeFileSync(at("build", "bundle", "meta.json"), JSON.stringify(parts.metafile));
}

/** A copy of Node without its symbol table where binutils is there. Only before injection: stripping afterwards breaks the executable. */
async function slimNode() {
  const slim = at("build", "node");
  await once("node", hashOf(at("node_modules", `node-linux-${arch}`, "package.json")), slim, () => {
    fs.mkdirSync(path.dirname(slim), { recursive: true });
    fs.copyFileSync(node26, slim);
    spawnSync("strip", [slim], { stdio: "ignore" });
    if (spawnSync(slim, ["--version"]).status !== 0) fs.copyFileSync(node26, slim);
  });
  return slim;
}

/**
 * Bundles as assets of the executable: the text of each, a function of `require` and `module`, and what V8 makes of it, compiled as far as
 * loading it takes. Where V8 does not take that (another version, other flags), it compiles as ever.
 */
async function assets() {
  const node = await slimNode();
  const text = (name) => at("build", "bundle", `${name}.cjs`);
  const load = `
    const { Script } = require("node:vm"), { readFileSync, writeFileSync } = require("node:fs");
    const [file, cache] = require("node:worker_threads").workerData;
    const script = new Script(readFileSync(file, "latin1"), { filename: file });
    script.runInThisContext()(require, { exports: {} });
    writeFileSync(cache, script.createCachedData());
    process.exit();`;
  const found = {};
  for (const name of [...programs, "proxy-worker"]) {
    const cache = at("build", "bundle", `${name}.cache`);
    const start = `new (require("node:worker_threads").Worker)(${JSON.stringify(load)}, { eval: true, workerData: ${JSON.stringify([text(name), cache])} })`;
    run(node, ["-e", start], { stdio: ["ignore", "pipe", "pipe"], encoding: "utf8" });
    found[name] = text(name);
    found[`${name}.cache`] = cache;
  }
  return found;
}

async function build() {
  install();
  await generate();
  const hash = hashOf(at("build.mjs"), at("src"), at("package-lock.json"), at("proto"));
  if (fs.existsSync(binary) && fs.existsSync(at("build", "sea.stamp")) && fs.readFileSync(at("build", "sea.stamp"), "utf8") === hash)
    return;
  await bundle();
  fs.mkdirSync(at("dist"), { recursive: true });
  const output = at("build", "topsail");
  const sea = {
    main: at("build", "bundle", "topsail.cjs"),
    executable: await slimNode(),
    output,
    disableExperimentalSEAWarning: true,
    useCodeCache: true,
    execArgv: ["--disable-warning=ExperimentalWarning"],
    execArgvExtension: "none",
    assets: await assets(),
  };
  fs.writeFileSync(at("build", "sea.json"), JSON.stringify(sea, null, 2));
  run(node26, ["--build-sea", at("build", "sea.json")], { stdio: ["ignore", "pipe", "pipe"], encoding: "utf8" });
  // A rename, so that a running dist/topsail keeps its own file.
  fs.chmodSync(output, 0o755);
  fs.renameSync(output, binary);
  fs.writeFileSync(at("build", "sea.stamp"), hash);
}

/** Runs one of our own programs in the foreground: signals are its to handle, and this process ends as it ends. */
async function become(command, args) {
  const child = spawn(command, args, { cwd: root, stdio: "inherit", env: { ...process.env, TOPSAIL_NODE: node26 } });
  // A terminal's Ctrl-C reaches the child by itself; a kill of this process alone has to be handed on.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  process.exitCode = await new Promise((resolve, reject) => {
    child.once("error", (cause) => reject(new BuildError(`cannot run ${path.basename(command)}: ${cause.message}`)));
    child.once("exit", (code, signal) => resolve(code ?? (signal ? 1 : 0)));
  });
}

async function check() {
  install();
  await generate();
  run(node26, [at("node_modules", "@biomejs", "biome", "bin", "biome"), "check", "."]);
  run(node26, [at("node_modules", "typescript", "bin", "tsc"), "-p", "."]);
  run(node26, [at("node_modules", "knip", "bin", "knip.js"), "--no-progress"]);
}

const [task = "build", ...rest] = process.argv.slice(2);
try {
  if (process.platform !== "linux") throw new BuildError("Topsail builds and runs on Linux");
  switch (task) {
    case "build":
      await build();
      break;
    case "gen":
      install();
      await generate();
      break;
    case "start":
      await build();
      await become(binary, ["quickstart", ...rest]);
      break;
    case "test":
      await build();
      await become(node26, [at("node_modules", "vitest", "vitest.mjs"), "run", ...rest]);
      break;
    case "check":
      await check();
      break;
    case "package":
      await build();
      await become(node26, [at("packaging", "main.ts"), ...rest]);
      break;
    case "bench":
      await build();
      await become(node26, [at("bench", "main.ts"), ...rest]);
      break;
    default:
      throw new BuildError(`unknown task "${task}": build, gen, start, test, check, package or bench`);
  }
} catch (error) {
  if (!(error instanceof BuildError)) throw error;
  console.error(`topsail: ${error.message}`);
  process.exitCode = 1;
}

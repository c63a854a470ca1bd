/** Code that lies in the executable as an asset: each program's bundle, and the worker thread's. A process then has only its own program's text. */

/** Without it, running from source: modules are files. */
export { isSea as isEmbedded } from "node:sea";

/**
 * Runs the bundle of that name and gives what it exports. Code that Node is handed as a text is looked through for a module's syntax and then
 * compiled; what V8 made of it at build time spares both.
 *
 * Self-contained: a worker thread is started from this function's text, and nothing of this file but that is there.
 */
export function runEmbedded(name: string): unknown {
  const { getAsset, getAssetKeys, getRawAsset } = process.getBuiltinModule("node:sea");
  const { Script } = process.getBuiltinModule("node:vm");
  const script = new Script(getAsset(name, "latin1"), {
    filename: `${name}.cjs`,
    // An executable that was made on another architecture has none.
    ...(getAssetKeys().includes(`${name}.cache`) && { cachedData: new Uint8Array(getRawAsset(`${name}.cache`)) }),
  });
  const module = { exports: {} as unknown };
  const run = script.runInThisContext() as (require: (name: string) => unknown, module: { exports: unknown }) => void;
  run((builtin) => process.getBuiltinModule(builtin), module);
  return module.exports;
}

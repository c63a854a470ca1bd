/**
 * Ties this process to the one that started it: when that ends, however it ends, the kernel kills this one too (PR_SET_PDEATHSIG).
 * It holds over execve, except for programs that gain privileges by it (set-user-id, file capabilities).
 */

/** Of <linux/prctl.h> and <signal.h>. */
const setParentDeathSignal = 1;
const sigkill = 9n;

/** Whether the parent is still `parent`, and the tie is made. Throws where the kernel can't be asked. */
export function endWithParent(parent: number): boolean {
  // Loaded here: it is experimental, and what does not use it need not hear so.
  const { dlopen } = process.getBuiltinModule("node:ffi");
  using library = dlopen("libc.so.6", { prctl: { return: "int32", arguments: ["int32", "uint64", "uint64", "uint64", "uint64"] } });
  if (library.functions.prctl(setParentDeathSignal, sigkill, 0n, 0n, 0n) !== 0) throw new Error("prctl(PR_SET_PDEATHSIG) failed");
  // Who had died before was not waited for.
  return process.ppid === parent;
}

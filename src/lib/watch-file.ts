/** Tells when a file's content may have changed, also when an editor replaces it by a rename or it did not exist yet. */
import { watch } from "node:fs";
import { basename, dirname } from "node:path";

/** Changes that come together within `quietMs` of each other are one; an editor's write is several. */
export function watchFile(path: string, onChange: () => void, quietMs = 50): Disposable {
  let timer: NodeJS.Timeout | undefined;
  // The directory, not the file: a rename over the file would leave a watch on the old inode behind.
  const watcher = watch(dirname(path), (_, name) => {
    if (name !== null && name !== basename(path)) return;
    clearTimeout(timer);
    timer = setTimeout(onChange, quietMs);
  });
  watcher.on("error", () => watcher.close());
  return {
    [Symbol.dispose]() {
      clearTimeout(timer);
      watcher.close();
    },
  };
}

/**
 * Encoded resources where every thread can read them, so that handing them out copies nothing.
 * What comes together lies together: ten thousand pieces of shared memory would be ten thousand things to collect.
 */
export function inSharedMemory(pieces: readonly Uint8Array[]): Uint8Array[] {
  if (pieces.length === 0) return [];
  const total = pieces.reduce((sum, { length }) => sum + length, 0);
  const shared = new Uint8Array(new SharedArrayBuffer(total));
  let end = 0;
  return pieces.map((piece) => {
    const start = end;
    end += piece.length;
    shared.set(piece, start);
    return shared.subarray(start, end);
  });
}

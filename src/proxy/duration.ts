import type { Duration } from "@bufbuild/protobuf/wkt";

/** A protobuf duration in milliseconds; `missing` when it is absent. */
export function durationMs(duration: Duration | undefined, missing: number): number {
  return duration === undefined ? missing : Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}

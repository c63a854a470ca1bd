/** envoy.type.v3.FractionalPercent as a chance in [0, 1]. */
import type { RuntimeFractionalPercent } from "../api/gen/envoy/config/core/v3/base_pb.js";
import { type FractionalPercent, FractionalPercent_DenominatorType } from "../api/gen/envoy/type/v3/percent_pb.js";

export function fractionOf(percent: FractionalPercent | undefined): number {
  if (percent === undefined) return 0;
  switch (percent.denominator) {
    case FractionalPercent_DenominatorType.TEN_THOUSAND:
      return percent.numerator / 10_000;
    case FractionalPercent_DenominatorType.MILLION:
      return percent.numerator / 1_000_000;
    default:
      return percent.numerator / 100;
  }
}

/** True for that share of the calls. */
export function drawn(chance: number): boolean {
  return chance >= 1 || (chance > 0 && Math.random() < chance);
}

/** Runtime layers are no part of a worker: the default value counts. `missing` when nothing is configured. */
export function runtimeFraction(percent: RuntimeFractionalPercent | undefined, missing: number): number {
  return percent === undefined ? missing : fractionOf(percent.defaultValue);
}

/** What a route says to HTTP filters: fault injection and CORS. Source: Istio route.go (TranslateFault, TranslateCORSPolicy). */
import { create } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { FaultDelaySchema } from "../../api/gen/envoy/extensions/filters/common/fault/v3/fault_pb.js";
import { CorsPolicySchema } from "../../api/gen/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import { FaultAbortSchema, HTTPFaultSchema } from "../../api/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import {
  type FractionalPercent,
  FractionalPercent_DenominatorType,
  FractionalPercentSchema,
} from "../../api/gen/envoy/type/v3/percent_pb.js";
import { grpcStatusNumber } from "../../api/grpc-status.ts";
import type { CorsPolicy, HTTPFaultInjection, HTTPRoute } from "../../api/kinds/virtual-service.ts";
import { any, duration, stringMatcher } from "./messages.ts";

export const faultFilterName = "envoy.filters.http.fault";
export const corsFilterName = "envoy.filters.http.cors";

export function routeFilterConfigs(route: HTTPRoute): Record<string, Any> {
  return {
    ...(route.fault ? { [faultFilterName]: fault(route.fault) } : {}),
    ...(route.corsPolicy ? { [corsFilterName]: cors(route.corsPolicy) } : {}),
  };
}

/** Percent with Istio's precision: a millionth. */
export function fractionalPercent(percent: number): FractionalPercent {
  return create(FractionalPercentSchema, {
    numerator: Math.floor(percent * 10_000),
    denominator: FractionalPercent_DenominatorType.MILLION,
  });
}

function fault({ delay, abort }: HTTPFaultInjection): Any {
  return any(HTTPFaultSchema, {
    ...(delay?.fixedDelay !== undefined
      ? {
          delay: create(FaultDelaySchema, {
            percentage: fractionalPercent(delay.percentage?.value ?? (delay.percent || 100)),
            faultDelaySecifier: { case: "fixedDelay", value: duration(delay.fixedDelay) },
          }),
        }
      : {}),
    ...(abort && (abort.httpStatus !== undefined || abort.grpcStatus !== undefined)
      ? {
          abort: create(FaultAbortSchema, {
            percentage: fractionalPercent(abort.percentage?.value ?? 100),
            errorType:
              abort.httpStatus !== undefined
                ? { case: "httpStatus", value: abort.httpStatus }
                : { case: "grpcStatus", value: Math.max(0, grpcStatusNumber(abort.grpcStatus ?? "")) },
          }),
        }
      : {}),
  });
}

function cors(policy: CorsPolicy): Any {
  const origins = policy.allowOrigins.length > 0 ? policy.allowOrigins : policy.allowOrigin.map((exact) => ({ exact }));
  return any(CorsPolicySchema, {
    allowOriginStringMatch: origins.map(stringMatcher).filter((matcher) => matcher !== undefined),
    filterEnabled: { defaultValue: { numerator: 100, denominator: FractionalPercent_DenominatorType.HUNDRED } },
    forwardNotMatchingPreflights: policy.unmatchedPreflights !== "IGNORE",
    ...(policy.allowCredentials === undefined ? {} : { allowCredentials: policy.allowCredentials }),
    allowHeaders: policy.allowHeaders.join(","),
    allowMethods: policy.allowMethods.join(","),
    exposeHeaders: policy.exposeHeaders.join(","),
    ...(policy.maxAge === undefined ? {} : { maxAge: String(Math.floor(policy.maxAge / 1000)) }),
  });
}

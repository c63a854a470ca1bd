/**
 * What an object asks for and this control plane does not do, in sentences for its owner. Pure; the discovery server logs each
 * sentence once, and /debug/push_status lists those of the objects there are.
 *
 * Where that makes traffic less safe than was asked for, the sentence says so. Who translates something takes its line out.
 */
import { isKind, type ObjectOf, type SpecOf } from "../../api/kinds/index.ts";
import type { ConfigObject, KindName } from "../../api/kinds/object.ts";
import { namesPrivateSecret } from "./destination-rules.ts";
import { idlePatches } from "./idle-patches.ts";
import { meshGateway } from "./virtual-services.ts";

type Policy = NonNullable<SpecOf<"DestinationRule">["trafficPolicy"]>;

/** Kinds that are read, validated and kept, and change nothing. */
const wholeKinds: Partial<Record<KindName, string>> = {
  WasmPlugin: "no plugin is run in this version",
  Telemetry: "has no effect in this version; access logs are configured by meshConfig.accessLogFile",
  ProxyConfig: "has no effect in this version; proxies take meshConfig.defaultConfig and their own command line",
};

/** Empty when everything in it is acted on. */
export function untranslated(object: ConfigObject): string[] {
  const whole = wholeKinds[object.kind];
  if (whole !== undefined) return [whole];
  if (isKind(object, "DestinationRule")) return ofDestinationRule(object);
  if (isKind(object, "ServiceEntry")) {
    return object.spec.resolution === "DYNAMIC_DNS" ? ["resolution DYNAMIC_DNS is not translated: the hosts have no endpoints"] : [];
  }
  if (isKind(object, "EnvoyFilter")) return idlePatches(object);
  if (isKind(object, "Ingress")) return ofIngress(object);
  if (isKind(object, "VirtualService")) return ofVirtualService(object);
  return [];
}

function ofDestinationRule({ spec }: ObjectOf<"DestinationRule">): string[] {
  const isForChosenWorkloads = spec.workloadSelector !== undefined;
  return [
    ...ofPolicy("trafficPolicy", isForChosenWorkloads, spec.trafficPolicy),
    ...spec.subsets.flatMap(({ name, trafficPolicy }) => ofPolicy(`subset ${name}: trafficPolicy`, isForChosenWorkloads, trafficPolicy)),
  ];
}

function ofPolicy(path: string, isForChosenWorkloads: boolean, policy: Policy | undefined): string[] {
  if (!policy) return [];
  return [
    ...ofTls(path, isForChosenWorkloads, policy.tls),
    ...policy.portLevelSettings.flatMap(({ port, tls }) =>
      ofTls(`${path}.portLevelSettings[${port?.number ?? 0}]`, isForChosenWorkloads, tls),
    ),
    ...(policy.loadBalancer?.zoneAwareLbSetting ? [`${path}.loadBalancer.zoneAwareLbSetting is not translated: all zones are alike`] : []),
    ...(policy.loadBalancer?.backendUtilization ? [`${path}.loadBalancer.backendUtilization is not translated`] : []),
  ];
}

function ofTls(path: string, isForChosenWorkloads: boolean, tls: Policy["tls"]): string[] {
  if (!tls || !namesPrivateSecret(tls) || isForChosenWorkloads) return [];
  return [`${path}.tls.credentialName needs a workloadSelector for sidecars: without one they send PLAINTEXT, only gateways use it`];
}

/** What Istio does not do either. */
function ofIngress({ spec }: ObjectOf<"Ingress">): string[] {
  return [
    ...(spec.defaultBackend ? ["defaultBackend is ignored: write a rule without host"] : []),
    ...spec.rules.flatMap(({ host, http }) => (http ? [] : [`the rule for host ${host || "*"} is ignored: it has no paths`])),
    ...spec.tls.flatMap(({ hosts, secretName }) =>
      secretName === "" ? [`tls for ${hosts.join(", ") || "all hosts"} is ignored: it names no secret`] : [],
    ),
  ];
}

function ofVirtualService({ spec }: ObjectOf<"VirtualService">): string[] {
  // Sidecars route what leaves their workload, and check tokens only on the way in.
  const byClaimInMesh = spec.http.some(({ match }) =>
    match.some(({ headers, withoutHeaders, gateways }) => {
      const names = gateways.length > 0 ? gateways : spec.gateways;
      const isForSidecars = names.length === 0 || names.includes(meshGateway);
      return isForSidecars && [...Object.keys(headers), ...Object.keys(withoutHeaders)].some(isClaim);
    }),
  );
  const bySubnet = spec.tcp.some(({ match }) => match.some(({ sourceSubnet }) => sourceSubnet !== ""));
  return [
    ...(byClaimInMesh ? ["matches by @request.auth.claims hold at gateways alone: for sidecars no token was checked"] : []),
    ...(bySubnet ? ["tcp matches by sourceSubnet are not translated, as in Istio: they hold for every source"] : []),
  ];
}

function isClaim(header: string): boolean {
  return header.toLowerCase().startsWith("@request.auth.claims");
}
